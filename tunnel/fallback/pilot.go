package fallback

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/udp"
)

const (
	// tick is how often deadlines are looked at, and gap the least time
	// between two looks for answers.
	tick = 50 * time.Millisecond
	gap  = 5 * time.Millisecond

	// pause is how late a tick may be before this process itself counts as
	// having stood still.
	pause = 5 * tick

	// Probes per second and in a burst, whatever the number of peers. Those
	// that packets are sent to come first by being due more often.
	probeRate  = 500
	probeBurst = 200

	// tunInterval is how often it is tried whether there can be a TUN.
	tunInterval = 10 * time.Second

	maxLines = 10 // changes of one moment that are logged one by one
)

// run sends probes and moves peers, until ctx ends.
func (b *Backend) run(ctx context.Context) {
	if b.engine == nil {
		b.awaitTUN(ctx)
		return
	}
	ticker := time.NewTicker(tick)
	defer ticker.Stop()
	b.limit = rate.NewLimiter(probeRate, probeBurst)
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		case <-b.wake: // answers come in crowds
			select {
			case <-ctx.Done():
				return
			case <-time.After(gap - time.Since(last)):
			}
		}
		now := time.Now()
		b.look(now, now.Sub(last) > pause)
		last = now
	}
}

// move is a peer whose path came to another decision.
type move struct {
	*peer
	way way
	why string // "": not worth a line
}

// look sees what has happened since the last look. paused tells that this
// process stood still meanwhile.
func (b *Backend) look(now time.Time, paused bool) {
	b.mu.Lock()
	moves := b.decide(now, paused)
	b.ask(now)
	b.mu.Unlock()
	if len(moves) == 0 {
		return
	}
	b.applyLogged()
	b.logMoves(moves)
}

func (b *Backend) decide(now time.Time, paused bool) (moves []move) {
	for _, p := range b.peers {
		if p.path == nil {
			continue
		}
		changed := false
		p.path.traffic(p.udp.State.Tx.Packets.Load(), now)
		p.udp.State.Echoes.Take(func(seq uint64) {
			changed = p.path.answered(seq, now) || changed
		})
		if paused {
			p.path.forgive()
		}
		changed = p.path.refusals(p.udp.State.Refused.Load(), now) || changed
		changed = p.path.check(now) || changed
		if changed {
			moves = append(moves, move{p, p.path.way, p.path.why})
		}
	}
	return moves
}

// ask sends the probes that are due, as far as there may be any. Who did not
// get its turn is first at the next.
func (b *Backend) ask(now time.Time) {
	n := len(b.peers)
	for i := range n {
		at := (b.turn + i) % n
		p := b.peers[at]
		if p.path == nil || !p.path.due(now) {
			continue
		}
		if !b.limit.AllowN(now, 1) {
			b.turn = at
			return
		}
		// What this host does not send says nothing about the peer.
		if seq, err := b.engine.Probe(p.udp); err == nil {
			p.path.sent(seq, now)
		}
	}
}

func (b *Backend) logMoves(moves []move) {
	lines, more := 0, 0
	for _, m := range moves {
		switch {
		case m.why == "":
		case lines == maxLines:
			more++
		case m.way == byUDP:
			lines++
			b.log.Info("peer is reached by udp again", "subnet", m.udp.Subnet, "node", m.udp.NodeID, "endpoint", m.udp.Endpoint, "why", m.why)
		default:
			lines++
			b.log.Warn("peer is reached by vxlan for a while", "subnet", m.udp.Subnet, "node", m.udp.NodeID, "endpoint", m.udp.Endpoint, "why", m.why)
		}
	}
	if more > 0 {
		b.log.Warn("more peers changed their path, see the status", "peers", more)
	}
}

// awaitTUN waits until there can be a TUN, and then has the backend started
// anew.
func (b *Backend) awaitTUN(ctx context.Context) {
	ticker := time.NewTicker(tunInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		if udp.CheckTUN() == nil {
			b.failed <- fmt.Errorf("%w: there can be a TUN", tunnel.ErrOutdone)
			return
		}
	}
}
