package udp

import (
	"context"
	"time"
)

// watchInterval is how often is looked for what nobody tells of: IPsec policies,
// which the kernel's packets pass by for as long, path MTUs that lapse, peers that
// the socket should send to, programs that were detached and interfaces that were
// removed.
const watchInterval = time.Second

// ipsecPause is how long there must have been no IPsec policies before the kernel
// carries packets again: a key daemon that is started again takes its policies
// away for a moment.
const ipsecPause = time.Minute

// watch looks from time to time, and at once when a path MTU was learned.
func (a *assisted) watch(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.learn:
			a.lookAtPaths()
		case now := <-tick.C:
			a.lookAtIPsec(now)
			a.lookAtPaths()
			a.lookAtSuperpackets(time.Now())
			a.keepOpen(now)
		}
	}
}

// tend looks at what may have to wait, for as long as another program changes the
// host's network. IPsec policies are not to be overlooked for that, so it is apart
// from watch.
func (a *assisted) tend(ctx context.Context) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			a.lookAtPrograms()
			a.heal(time.Now())
		}
	}
}

func (a *assisted) lookAtPrograms() {
	err := a.kernel.Load().Err()
	a.mu.Lock()
	defer a.mu.Unlock()
	if err != nil && !a.gone {
		a.giveUp(err)
	}
}

// lookAtPaths has the kernel send packets as long as the path MTUs say now.
func (a *assisted) lookAtPaths() {
	if !a.narrow.Swap(false) { // none has any, as mostly
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, p := range a.table.Peers() {
		if p.State.PathMTU.Get() != 0 {
			a.narrow.Store(true)
		}
		a.kernel.Load().SetLimit(p.Subnet.IPv4, a.limit(p))
	}
}

// lookAtIPsec has the kernel carry nothing while there are IPsec policies, and
// for ipsecPause after.
func (a *assisted) lookAtIPsec(now time.Time) {
	why := a.ipsec.Check()
	a.mu.Lock()
	defer a.mu.Unlock()
	if why != nil {
		a.ipsecAt = now
	}
	if a.gone || why == nil && now.Sub(a.ipsecAt) < ipsecPause {
		return
	}
	was := a.off
	a.off = why
	switch {
	case (was == nil) == (why == nil):
		return
	case why != nil:
		a.logOff(why)
	default:
		a.log.Info("the kernel carries packets by itself again")
	}
	a.apply()
}

func (a *assisted) logOff(why error) {
	a.log.Warn("user space carries all packets for now", "why", why)
}
