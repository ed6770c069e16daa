package udp

import (
	"time"

	"github.com/weftnet/weft/tunnel"
)

// healInterval is how long to wait before another attempt to make superpackets
// possible that are not.
const healInterval = 5 * time.Second

// lookAtSuperpackets has the kernel send superpackets to the peers that they
// reach whole, and none where it cannot take any itself.
func (a *assisted) lookAtSuperpackets(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.trials == nil {
		return
	}
	own, peers := a.table.Own().IPv4, a.table.Peers()
	if a.off != nil || !own.IsValid() {
		a.trials.stop(peers)
		return
	}
	if a.noSuper == nil || now.Sub(a.healedAt) >= healInterval {
		a.healedAt = now
		a.noteSuperpackets(a.kernel.Load().Heal())
	}
	if a.noSuper != nil {
		a.trials.stop(peers)
		return
	}
	a.trials.look(now, own.Addr(), peers)
}

// noteSuperpackets notes why the kernel carries no superpackets, nil if it does.
// The caller holds mu.
func (a *assisted) noteSuperpackets(why error) {
	was := a.noSuper
	a.noSuper = why
	switch {
	case (was == nil) == (why == nil):
	case why != nil:
		a.log.Warn("user space carries all superpackets for now", "why", why)
	default:
		a.log.Info("the kernel carries superpackets again")
	}
}

// sendsSuperpackets tells whether the kernel sends a peer superpackets.
func (a *assisted) sendsSuperpackets(p *tunnel.Peer) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.off == nil && a.trials != nil && a.trials.on(p)
}
