package udp

import (
	"time"

	"github.com/weftnet/weft/tunnel"
)

// healInterval is how long to wait before another attempt to make what
// superpackets arrive by: the last one has failed, or somebody keeps taking it away.
const healInterval = 5 * time.Second

// heal sees to it that superpackets can arrive. It may have to wait for whoever
// changes the host's network, see assist.Assist.
func (a *assisted) heal(now time.Time) {
	a.mu.Lock()
	idle := a.trials == nil || a.off != nil || now.Sub(a.madeAt) < healInterval
	a.mu.Unlock()
	if idle {
		return
	}
	was, is := a.kernel.Load().Heal()
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.gone || was == nil:
		return
	case is == nil && a.noSuper == nil:
		a.log.Warn("what superpackets arrive by was made anew", "because", was)
	}
	a.madeAt = now
	a.noteSuperpackets(is)
}

// lookAtSuperpackets has the kernel send superpackets to the peers that they
// reach whole, and none where it cannot take any itself.
func (a *assisted) lookAtSuperpackets(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.trials == nil {
		return
	}
	own, peers := a.table.Own().IPv4, a.table.Peers()
	if a.off != nil || a.noSuper != nil || !own.IsValid() {
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
	return a.off == nil && a.trials != nil && takesAssist(p) && a.trials.on(p)
}
