package firewall

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/weftnet/weft/daemon/firewall/nft"
)

// settle is how long Run waits after a change before it looks: others change
// many rules in a row, and a Docker start makes hundreds.
const settle = 250 * time.Millisecond

// Run keeps the rules as the last Apply wanted them until ctx ends: it looks
// every resync, and where the kernel has nf_tables also soon after any change
// there. It returns an error only if resync is not positive.
func (f *Firewall) Run(ctx context.Context, resync time.Duration) error {
	if resync <= 0 {
		return fmt.Errorf("firewall resync period %v: want more than 0", resync)
	}
	var changes <-chan struct{} // nil: the timer alone
	if f.host.nftables == nil {
		w, err := nft.Watch()
		if err != nil {
			f.log.Warn("firewall changes are seen by the timer only", "err", err)
		} else {
			defer w.Close()
			changes = w.Changes()
		}
	}
	tick := time.NewTicker(resync)
	defer tick.Stop()
	var settled <-chan time.Time
	k := keeper{resync: resync}
	for {
		select {
		case <-ctx.Done():
			return nil
		case _, open := <-changes:
			if !open {
				changes = nil
				f.log.Warn("firewall changes are seen by the timer only", "err", "the event socket was closed")
			} else if settled == nil {
				settled = time.After(k.fight.wait(resync))
			}
		case <-settled:
			settled = nil
			f.resync(&k)
		case <-tick.C:
			f.resync(&k)
		}
	}
}

// quiet is how often Run reports that it put rules back.
const quiet = time.Minute

// keeper is what resync remembers between calls so as not to repeat itself.
type keeper struct {
	resync   time.Duration
	fight    fight
	problem  string
	reported time.Time
	silent   int // times that rules were put back since reported
}

func (f *Firewall) resync(k *keeper) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.want == nil {
		return
	}
	changed, err := f.reconcile()
	switch {
	case err != nil && f.problem != k.problem:
		f.log.Warn("firewall rules are not in place; trying again", "err", err)
	case err == nil && k.problem != "":
		f.log.Info("firewall rules are in place again")
	}
	k.problem = f.problem
	now := time.Now()
	if len(changed) == 0 {
		if k.fight.rest(now, k.resync) {
			f.fighting = ""
		}
		return
	}
	f.restored++
	k.silent++
	f.fighting = k.fight.round(now, k.resync)
	if now.Sub(k.reported) >= quiet {
		f.log.Info("firewall rules put back where they belong", "changed", strings.Join(changed, ", "), "times", k.silent)
		if f.fighting != "" {
			f.log.Warn(f.fighting)
		}
		k.reported, k.silent = now, 0
	}
}
