package fallback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/udp"
)

const (
	// tick is how often deadlines are looked at, quickTick while a peer's
	// answer is late, and gap the least time between two looks for answers. Of
	// thousands of peers a look takes 1 ms and more; the gap is then longer.
	tick      = 50 * time.Millisecond
	quickTick = 10 * time.Millisecond
	gap       = 5 * time.Millisecond
	gapTimes  = 50 // as long as the last look took, but no longer than tick

	// calm is the least time between two changes of routes that may wait: at a
	// start each peer has one. It is more where they take long: of thousands of
	// peers, all routes are compared.
	calm      = 100 * time.Millisecond
	calmTimes = 3 // as long as the last change took

	// pause is how late a tick may be before this process itself counts as
	// having stood still.
	pause = 5 * tick

	// starved is for how long answers must lie unread before the receiving
	// threads count as having stood still. A busy host has them wait 10 ms often,
	// and a path that is dead must be found there too.
	starved = 2 * tick

	// Probes per second and in a burst, whatever the number of peers. Those
	// to peers whose answers are late have a share of their own: they are what
	// tells a path that is dead, or a way out of this host that is.
	probeRate  = 1000
	probeBurst = 200
	lateRate   = 4000
	lateBurst  = 400
	vtepRate   = 100
	vtepBurst  = 20

	// crowdSize is how many peers may each be probed as often as path says. In
	// a larger cluster each has its turn more seldom, until its answer is late:
	// so much the less is every node asked by all the others.
	crowdSize = 1000

	// tunInterval is how often it is tried whether there can be a TUN.
	tunInterval = 10 * time.Second
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
		late:    rate.NewLimiter(lateRate, lateBurst),
		vteps:   rate.NewLimiter(vtepRate, vtepBurst),
		lines:   rate.NewLimiter(lineRate, lineBurst),
	}
	pl.fly(ctx)
}

// pilot watches over the paths of a Backend's peers, in one goroutine.
type pilot struct {
	*Backend
	probes, late, vteps, lines *rate.Limiter

	turn   int       // which peer is first to be asked
	stale  bool      // paths have changed and routes have not
	next   time.Time // routes are not changed before, if that may wait
	unread time.Time // since when answers may lie unread; zero if none do
	unsaid int       // lines left out
}

func (pl *pilot) fly(ctx context.Context) {
	timer := time.NewTimer(tick)
	defer timer.Stop()
	last, rest := time.Now(), gap
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case <-pl.wake: // answers come in crowds
			select {
			case <-ctx.Done():
				return
			case <-time.After(rest - time.Since(last)):
			}
		}
		now := time.Now()
		next := pl.look(now, pl.stoodStill(last, now, pl.engine.Starved()))
		last, rest = now, min(max(gap, gapTimes*time.Since(now)), tick)
		timer.Reset(next)
	}
}

// stoodStill is for how long this process, or its part that receives, has stood
// still up to now, as far as it was not told before. last is when it was asked
// before, unread whether anything lies unread since then.
func (pl *pilot) stoodStill(last, now time.Time, unread bool) time.Duration {
	switch {
	case now.Sub(last) >= pause:
		pl.unread = time.Time{}
		return now.Sub(last)
	case !unread:
		pl.unread = time.Time{}
		return 0
	case pl.unread.IsZero():
		pl.unread = last
	}
	stood := now.Sub(pl.unread)
	if stood < starved {
		return 0
	}
	pl.unread = now
	return stood
}

// look sees what has happened since the last look, and tells when to look again
// if nothing happens.
func (pl *pilot) look(now time.Time, stood time.Duration) (next time.Duration) {
	pl.mu.Lock()
	var lines news
	dead := pl.decide(now, stood, &lines)
	pl.hear(&lines)
	suspects := pl.ask(now, &lines)
	pl.mu.Unlock()
	if len(dead) > 0 && pl.withdraw(dead) != nil {
		pl.stale = true // if it fails again, that is logged
	}
	if pl.stale && !now.Before(pl.next) {
		began := time.Now()
		_ = pl.applyLogged()
		took := time.Since(began)
		pl.stale, pl.next = false, began.Add(took+max(calm, calmTimes*took))
	}
	pl.say(lines)
	if suspects {
		return quickTick
	}
	return tick
}

// decide has each path think, and returns the routes of those that were given
// up: they must go at once, while those of a path that is good again may wait.
func (pl *pilot) decide(now time.Time, stood time.Duration, lines *news) (dead []netstate.Route) {
	for _, p := range pl.peers {
		if p.path == nil {
			continue
		}
		moved := false
		sent, _ := pl.engine.Traffic(p.udp)
		p.path.traffic(sent.Packets+p.udp.State.Filtered.Load(), now)
		if stood > 0 {
			p.path.forgive(stood, now)
		}
		p.udp.State.Echoes.Take(func(seq uint64) {
			moved = p.path.answered(seq, now) || moved
		})
		moved = p.path.refusals(p.udp.State.Refused.Load(), now) || moved
		moved = p.path.check(now) || moved
		switch {
		case !moved:
		case p.path.way == byVXLAN:
			dead = append(dead, pl.routesByUDP(p)...)
			lines.add(slog.LevelWarn, "peer is reached by vxlan for a while", p, p.path.why)
		default:
			pl.stale = true
			if p.path.why != "" {
				lines.add(slog.LevelInfo, "peer is reached by udp again", p, p.path.why)
			}
		}
	}
	return dead
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
	crowd := time.Duration((n + crowdSize - 1) / crowdSize)
	next := -1
	for i := range n {
		at := (pl.turn + i) % n
		p := pl.peers[at]
		if p.path == nil {
			continue
		}
		share := pl.probes
		if p.path.suspect(now) {
			suspects, share = true, pl.late
		}
		served := true
		if p.path.due(now, crowd) {
			if served = share.AllowN(now, 1); served {
				pl.askPeer(p, now)
			}
		}
		if pl.arp != nil && p.path.vxlan.due(p.path.way == byVXLAN, now) {
			if pl.vteps.AllowN(now, 1) {
				pl.askVTEP(p, now, lines)
			} else {
				served = false
			}
		}
		if !served && next < 0 {
			next = at
		}
	}
	if next >= 0 {
		pl.turn = next
	}
	return suspects
}

// askPeer sends a probe by udp. What this host does not send says nothing about
// the peer; but what its own firewall refuses, the path does not carry.
func (pl *pilot) askPeer(p *peer, now time.Time) {
	seq, err := pl.engine.Probe(p.udp)
	if err == nil || errors.Is(err, unix.EPERM) {
		p.path.sent(seq, now)
		return
	}
	p.path.notSent(seq)
}

func (pl *pilot) askVTEP(p *peer, now time.Time, lines *news) {
	_, mac, _ := pl.vtep.ARP()
	peerMAC, ip, ok := p.remote.ARP()
	if !ok || pl.own.Subnet.IsZero() {
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
