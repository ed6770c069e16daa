package udp

import (
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

// The kernel sends a peer TCP superpackets while trials (package probe) prove
// that they arrive whole: where the underlay or a card cuts them up, user space
// is the faster way. The first trials are short. The one that an answer to such
// leads to is as long as superpackets get, for a card may cut the longest only: on
// by an answer to that, off by trialMisses misses in a row.
const (
	trialMisses = 2

	// trialInterval is between the trials of a peer that is sent superpackets but
	// rarely, which are short. One that is sent some has a full one with each look.
	trialInterval = time.Minute

	// After a miss, a peer that is sent none is tried again after firstPause, and
	// then after pauses twice as long each, up to lastPause.
	firstPause = time.Second
	lastPause  = 64 * time.Second

	// takeInterval is the least between two times that the kernel takes over flows,
	// however many peers are switched on, or how often.
	takeInterval = time.Minute

	// trialsAtOnce bounds the trials sent with one look, to all peers.
	trialsAtOnce = 250

	// trialSlack is how much earlier than it should be a thing is done, rather
	// than with the next look: looks are a watchInterval apart, more or less.
	trialSlack = watchInterval / 2
)

// superpacketKernel is what trials need of an assist.Assist.
type superpacketKernel interface {
	SetSuperpackets(subnet netip.Prefix, on bool)
	SuperpacketsSent(subnet netip.Prefix) uint64
	TakeFlows() error
	Try(own netip.Addr, subnet netip.Prefix, nonce uint64, full bool) error // EAGAIN: not now
}

// trials decide to which peers the kernel sends superpackets. They are for one
// goroutine at a time.
type trials struct {
	log    *slog.Logger
	kernel superpacketKernel
	open   func(own netip.Addr, p *tunnel.Peer, now time.Time) // the way for answers
	peers  map[*tunnel.PeerState]*trial
	turn   int       // which peer is first to be tried
	turned bool      // the kernel has begun to send some peer superpackets since it took flows
	tookAt time.Time // when it did so
}

// trial is what is known of one peer.
type trial struct {
	on     bool          // the kernel sends it superpackets
	used   bool          // and has sent some between the last two looks
	full   bool          // a short trial was answered since it was off last
	first  uint64        // number of the first trial whose answer counts; 0: none is sent yet
	asked  time.Time     // when the trial under way was sent; zero: none is
	misses int           // in a row
	pause  time.Duration // after the last miss
	next   time.Time     // when to send one, if not before
	sent   uint64        // superpackets, as they were last counted while on
}

func newTrials(log *slog.Logger, kernel superpacketKernel, open func(netip.Addr, *tunnel.Peer, time.Time)) *trials {
	return &trials{log: log, kernel: kernel, open: open, peers: make(map[*tunnel.PeerState]*trial)}
}

// look sees what has become of the trials under way, and sends those that are
// due, as far as there may be any more. Who did not get its turn is first with
// the next look.
func (ts *trials) look(now time.Time, own netip.Addr, peers []*tunnel.Peer) {
	ts.forget(peers)
	left, next := trialsAtOnce, -1
	for i := range peers {
		at := (ts.turn + i) % len(peers)
		p := peers[at]
		if !takesAssist(p) {
			delete(ts.peers, p.State)
			continue
		}
		t := ts.known(p, now)
		ts.hear(t, p, now)
		switch {
		case !ts.due(t, p, now):
		case left > 0:
			left--
			ts.try(t, p, own, now)
		case next < 0:
			next = at
		}
	}
	ts.turn = max(next, 0)
	if ts.turned && now.Sub(ts.tookAt) >= takeInterval {
		ts.turned, ts.tookAt = false, now
		ts.takeFlows()
	}
}

// takeFlows has the kernel take over the flows that user space carries, which it
// would leave there until they are silent. Those to other peers come back with
// their next superpacket. This once packets of all of them may overtake each other,
// which TCP copes with: better than a transfer's life on the slow way.
func (ts *trials) takeFlows() {
	if err := ts.kernel.TakeFlows(); err != nil {
		ts.log.Warn("flows stay in user space until they pause", "error", err)
	}
}

// known returns what is known of a peer. The kernel is told again of one that is
// on: in between it may have been a peer without the assist for a moment.
func (ts *trials) known(p *tunnel.Peer, now time.Time) *trial {
	t, ok := ts.peers[p.State]
	if !ok {
		t = &trial{next: now}
		ts.peers[p.State] = t
	}
	if !ok || t.on {
		ts.kernel.SetSuperpackets(p.Subnet.IPv4, t.on)
	}
	return t
}

// hear takes the answers that have come. One that is late is as good as any, for
// the superpacket did arrive whole; but not one to a trial from before superpackets
// were given up, for it says nothing of what has happened then.
func (ts *trials) hear(t *trial, p *tunnel.Peer, now time.Time) {
	answered := false
	p.State.Trials.Take(func(seq uint64) { answered = answered || t.first != 0 && seq >= t.first })
	switch {
	case answered && !t.full:
		t.full, t.first, t.asked, t.next = true, 0, time.Time{}, now
	case answered:
		t.asked, t.misses, t.pause = time.Time{}, 0, 0
		t.next = now.Add(trialInterval)
		if !t.on {
			ts.turned = true
			ts.turnTo(t, p, true, "trials were answered")
		}
	case !t.asked.IsZero() && now.Sub(t.asked) >= trialSlack:
		ts.missed(t, p, now, "trials are not answered")
	}
}

// missed notes that a trial was not answered, or not sent.
func (ts *trials) missed(t *trial, p *tunnel.Peer, now time.Time, why string) {
	t.asked = time.Time{}
	t.misses++
	if t.on && t.misses < trialMisses {
		t.next = now
		return
	}
	if t.on {
		ts.turnTo(t, p, false, why)
	}
	t.pause = min(max(2*t.pause, firstPause), lastPause)
	t.next = now.Add(t.pause)
}

// due tells whether it is time for a trial, and counts anew what was sent.
func (ts *trials) due(t *trial, p *tunnel.Peer, now time.Time) bool {
	before := t.sent
	if t.on {
		t.sent = ts.kernel.SuperpacketsSent(p.Subnet.IPv4)
	}
	t.used = t.sent != before
	return t.asked.IsZero() && (t.used || t.next.Sub(now) < trialSlack)
}

func (ts *trials) try(t *trial, p *tunnel.Peer, own netip.Addr, now time.Time) {
	seq, nonce := p.State.Trials.Next()
	if t.first == 0 {
		t.first = seq
	}
	t.asked = now
	ts.open(own, p, now)
	err := ts.kernel.Try(own, p.Subnet.IPv4, nonce, t.used || t.full && !t.on)
	switch {
	case errors.Is(err, unix.EAGAIN): // others are still on their way: it says nothing of this one's
		t.asked = time.Time{}
	case err != nil:
		ts.missed(t, p, now, "trials cannot be sent: "+err.Error())
	}
}

func (ts *trials) turnTo(t *trial, p *tunnel.Peer, on bool, why string) {
	t.on, t.sent = on, ts.kernel.SuperpacketsSent(p.Subnet.IPv4)
	if !on {
		t.full, t.used, t.first = false, false, 0
	}
	ts.kernel.SetSuperpackets(p.Subnet.IPv4, on)
	ts.log.Debug("superpackets to a peer change their way", "subnet", p.Subnet.IPv4, "by_kernel", on, "why", why)
}

// stop has the kernel send no superpackets, to peers that are the last look's or
// newer, and forgets all.
func (ts *trials) stop(peers []*tunnel.Peer) {
	if len(ts.peers) == 0 {
		return
	}
	for _, p := range peers {
		ts.kernel.SetSuperpackets(p.Subnet.IPv4, false)
	}
	clear(ts.peers)
}

// forget forgets peers of former tables, once they are the most.
func (ts *trials) forget(peers []*tunnel.Peer) {
	if len(ts.peers) <= 2*len(peers) {
		return
	}
	known := make(map[*tunnel.PeerState]*trial, len(peers))
	for _, p := range peers {
		if t, ok := ts.peers[p.State]; ok {
			known[p.State] = t
		}
	}
	ts.peers = known
}

// on tells whether the kernel sends a peer superpackets.
func (ts *trials) on(p *tunnel.Peer) bool {
	t, ok := ts.peers[p.State]
	return ok && t.on
}
