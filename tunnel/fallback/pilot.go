package fallback

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/udp"
)

const (
	// tick is how often deadlines are looked at, quickTick while a peer's
	// answer is late, and gap the least time between two looks for answers.
	tick      = 50 * time.Millisecond
	quickTick = 10 * time.Millisecond
	gap       = 5 * time.Millisecond

	// calm is the least time between two changes of routes that may wait. At a
	// start each peer has one.
	calm = 100 * time.Millisecond

	// pause is how late a tick may be before this process itself counts as
	// having stood still.
	pause = 5 * tick

	// Probes per second and in a burst, whatever the number of peers. Those
	// that packets are sent to come first by being due more often.
	probeRate  = 1000
	probeBurst = 200
	vtepRate   = 100
	vtepBurst  = 20

	// tunInterval is how often it is tried whether there can be a TUN.
	tunInterval = 10 * time.Second

	// Lines of log about peers' paths, per second and in a burst.
	lineRate  = 1
	lineBurst = 20
)

// run sends probes and moves peers, until ctx ends.
func (b *Backend) run(ctx context.Context) {
	if b.engine == nil {
		b.awaitTUN(ctx)
		return
	}
	pl := &pilot{
		Backend: b,
		probes:  rate.NewLimiter(probeRate, probeBurst),
		vteps:   rate.NewLimiter(vtepRate, vtepBurst),
		lines:   rate.NewLimiter(lineRate, lineBurst),
	}
	pl.fly(ctx)
}

// pilot watches over the paths of a Backend's peers, in one goroutine.
type pilot struct {
	*Backend
	probes, vteps, lines *rate.Limiter

	turn    int       // which peer is first to be asked
	stale   bool      // paths have changed and routes have not
	applied time.Time // when it last changed routes
	unsaid  int       // lines left out
}

func (pl *pilot) fly(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-pl.wake: // answers come in crowds
			select {
			case <-ctx.Done():
				return
			case <-time.After(gap - time.Since(last)):
			}
		}
		now := time.Now()
		stood := now.Sub(last)
		if stood < pause {
			stood = 0
		}
		next := pl.look(now, stood)
		last = now
		timer.Reset(next)
	}
}

// look sees what has happened since the last look, and tells when to look again
// if nothing happens. stood is for how long this process stood still meanwhile.
func (pl *pilot) look(now time.Time, stood time.Duration) (next time.Duration) {
	pl.mu.Lock()
	var lines news
	urgent := pl.decide(now, stood, &lines)
	pl.hear(&lines)
	suspects := pl.ask(now, &lines)
	pl.mu.Unlock()
	if urgent || pl.stale && now.Sub(pl.applied) >= calm {
		pl.applyLogged()
		pl.stale, pl.applied = false, time.Now()
	}
	pl.say(lines)
	if suspects {
		return quickTick
	}
	return tick
}

// decide has each path think, and tells whether one was given up: its routes
// must not wait, while those of one that is good again may.
func (pl *pilot) decide(now time.Time, stood time.Duration, lines *news) (urgent bool) {
	for _, p := range pl.peers {
		if p.path == nil {
			continue
		}
		moved := false
		p.path.traffic(p.udp.State.Tx.Packets.Load(), now)
		p.udp.State.Echoes.Take(func(seq uint64) {
			moved = p.path.answered(seq, now) || moved
		})
		if stood > 0 {
			p.path.forgive(stood, now)
		}
		moved = p.path.refusals(p.udp.State.Refused.Load(), now) || moved
		moved = p.path.check(now) || moved
		if !moved {
			continue
		}
		pl.stale = true
		switch {
		case p.path.why == "":
		case p.path.way == byUDP:
			lines.add(slog.LevelInfo, "peer is reached by udp again", p, p.path.why)
		default:
			urgent = true
			lines.add(slog.LevelWarn, "peer is reached by vxlan for a while", p, p.path.why)
		}
	}
	return urgent
}

// hear takes the answers of VTEPs.
func (pl *pilot) hear(lines *news) {
	if pl.arp == nil {
		return
	}
	pl.arp.answers(func(mac netstate.MAC, from netip.Addr) {
		p := pl.byTunnelAddr[from]
		if p == nil {
			return
		}
		if want, _, _ := p.remote.ARP(); want != mac {
			return
		}
		if p.path.vxlan.silent() {
			lines.add(slog.LevelInfo, "peer has a fallback: its VTEP answers", p, "it was asked by ARP")
		}
		p.path.vxlan.answered()
	})
}

// ask sends the probes that are due, as far as there may be any, and tells
// whether some answer is late. Who did not get its turn is first at the next.
func (pl *pilot) ask(now time.Time, lines *news) (suspects bool) {
	n := len(pl.peers)
	for i := range n {
		at := (pl.turn + i) % n
		p := pl.peers[at]
		if p.path == nil {
			continue
		}
		suspects = suspects || p.path.suspect(now)
		if p.path.due(now) {
			if !pl.probes.AllowN(now, 1) {
				pl.turn = at
				return suspects
			}
			// What this host does not send says nothing about the peer.
			if seq, err := pl.engine.Probe(p.udp); err == nil {
				p.path.sent(seq, now)
			} else {
				p.path.notSent(seq)
			}
		}
		if p.path.vxlan.due(p.path.way == byVXLAN, now) {
			pl.askVTEP(p, now, lines)
		}
	}
	return suspects
}

func (pl *pilot) askVTEP(p *peer, now time.Time, lines *news) {
	_, mac, _ := pl.vtep.ARP()
	peerMAC, ip, ok := p.remote.ARP()
	if pl.arp == nil || !ok || pl.own.Subnet.IsZero() || !pl.vteps.AllowN(now, 1) {
		return
	}
	if err := pl.arp.ask(mac, pl.own.Subnet.IPv4.Addr(), peerMAC, ip); err != nil {
		return
	}
	before := p.path.vxlan.silent()
	p.path.vxlan.asked(now)
	if !before && p.path.vxlan.silent() && p.path.way == byUDP {
		lines.add(slog.LevelWarn, "peer has no fallback now: its VTEP does not answer", p,
			fmt.Sprintf("%d ARP requests were lost; is UDP port %d filtered on the way?", standbyMissed, pl.vtep.Port()))
	}
}

// news are log lines about peers.
type news []func(*slog.Logger)

func (n *news) add(level slog.Level, msg string, p *peer, why string) {
	*n = append(*n, func(log *slog.Logger) {
		log.Log(context.Background(), level, msg, "subnet", p.udp.Subnet, "node", p.udp.NodeID, "endpoint", p.udp.Endpoint, "why", why)
	})
}

// say writes lines, but not hundreds when hundreds of peers are moved: of what
// is left out, the number is told later.
func (pl *pilot) say(lines news) {
	for _, line := range lines {
		if !pl.lines.Allow() {
			pl.unsaid++
			continue
		}
		line(pl.log)
	}
	if pl.unsaid > 0 && pl.lines.Allow() {
		pl.log.Warn("more peers changed their path, see the status", "changes", pl.unsaid)
		pl.unsaid = 0
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
