package fallback

import (
	"fmt"
	"time"

	"github.com/weftnet/weft/tunnel"
)

// way is one of the two ways to a peer.
type way uint8

const (
	byVXLAN way = iota // where a path begins: the kernel needs nobody's word for it
	byUDP
)

func (w way) String() string {
	if w == byUDP {
		return "udp"
	}
	return "vxlan"
}

// When probes of the udp path go out, one by one.
const (
	askNew     = 100 * time.Millisecond // a peer that has not answered yet
	askActive  = 100 * time.Millisecond // one that is being sent packets
	askSuspect = 20 * time.Millisecond  // one whose answer is late
	askIdle    = 5 * time.Second        // any other on udp
	askGone    = 500 * time.Millisecond // one on vxlan
	askDead    = 5 * time.Second        // one on vxlan that has been silent for deadAfter

	activeFor = time.Second
	deadAfter = time.Minute
)

// What answers, or none, lead to.
const (
	// lateAfter and minPatience are for a path without delay; twice its round
	// trip time comes on top. TCP sends a lost segment again after 200, 600 and
	// 1400 ms: a dead path must be left before the second time.
	lateAfter   = 60 * time.Millisecond
	minPatience = 350 * time.Millisecond
	maxPatience = 3 * time.Second
	minMissed   = 8 // probes without an answer before a path counts as dead

	// afterthought is for how long after a fall the answers to earlier probes
	// may still prove that the peer was only slow.
	afterthought = 2 * time.Second

	// newFor is how long a new peer may take to answer for the first time:
	// it has to learn of this node first.
	newFor = 3 * time.Second

	// Probes must be answered for hold before a peer is moved back to udp. It
	// doubles each time the peer falls back again within holdMemory.
	minHold    = 10 * time.Second
	maxHold    = 5 * time.Minute
	holdMemory = 10 * time.Minute

	// quickly takes the place of ten times as long where vxlan does not carry.
	quickly = 10

	// deaf is how long refusals of a peer are not believed after one that was
	// disproved. It doubles with each.
	minDeaf = time.Minute
	maxDeaf = time.Hour
)

// path decides which way packets to one peer go. It has no clock and sends
// nothing itself. Its methods that return true have come to another decision.
//
//	vxlan ── first answer, or answers for hold ──► udp
//	vxlan ◄── refused, or no answer in time ────── udp
type path struct {
	way   way
	since time.Time // of the decision, at first of the peer's appearance
	why   string    // "" until the peer has once been on udp, or ought to have been

	// Probes of the udp path.
	sentAt     [tunnel.EchoWindow]time.Time // by number
	last       uint64                       // number of the last one
	lastAt     time.Time                    // zero: the next one is due at once
	silence    time.Time                    // when the first one since the last answer went out; zero if none
	unanswered int                          // how many since
	best       uint64                       // highest number answered
	trip       time.Duration                // round trip time, smoothed
	unmeasured uint64                       // highest number of which nobody can say how long its answer took
	patience   time.Duration                // how long an answer may take beyond that
	fell       uint64                       // number of the last one before it was left for silence

	goodSince time.Time // on vxlan: since when all probes have been answered; zero: they are not
	hold      time.Duration
	returned  time.Time // when it last went back to udp

	confirm   uint64 // the probe that tells whether a refusal was true; 0: none
	deafUntil time.Time
	deaf      time.Duration

	refusalsSeen uint64

	packets   uint64 // sent to the peer by udp, as last seen
	trafficAt time.Time

	vxlan standby
}

func newPath(now time.Time) *path { return &path{since: now, hold: minHold, patience: minPatience} }

// settled: the peer is new no more.
func (p *path) settled() bool { return p.why != "" || p.way == byUDP }

// traffic notes how many packets to the peer there were so far.
func (p *path) traffic(packets uint64, now time.Time) {
	if packets != p.packets {
		p.packets, p.trafficAt = packets, now
	}
}

// due tells whether a probe is to be sent, in a crowd of peers that many times
// larger than one of which each is probed as often as it should be.
func (p *path) due(now time.Time, crowd time.Duration) bool {
	switch {
	case p.lastAt.IsZero():
		return true
	case p.suspect(now):
		return now.Sub(p.lastAt) >= askSuspect
	}
	return now.Sub(p.lastAt) >= crowd*p.interval(now)
}

// interval is for a path that nothing is suspected of.
func (p *path) interval(now time.Time) time.Duration {
	switch {
	case p.way == byUDP && !p.trafficAt.IsZero() && now.Sub(p.trafficAt) < activeFor:
		return askActive
	case p.way == byUDP:
		return askIdle
	case !p.settled():
		return askNew
	case p.goodSince.IsZero() && now.Sub(p.since) >= deadAfter:
		return askDead
	}
	return askGone
}

// sent notes that a probe went out.
func (p *path) sent(seq uint64, now time.Time) {
	p.last, p.lastAt = seq, now
	p.sentAt[seq%tunnel.EchoWindow] = now
	if p.silence.IsZero() {
		p.silence = now
	}
	p.unanswered++
}

// notSent notes that a number was used up for nothing.
func (p *path) notSent(seq uint64) {
	if seq == p.best+1 {
		p.best = seq
	}
}

// answered notes the answer to a probe of the window.
func (p *path) answered(seq uint64, now time.Time) bool {
	if seq > p.unmeasured {
		p.measure(now.Sub(p.sentAt[seq%tunnel.EchoWindow]))
	}
	p.silence, p.unanswered = time.Time{}, 0
	if p.way == byUDP {
		p.best = max(p.best, seq)
		return false
	}
	if p.goodSince.IsZero() || seq > p.best+1 { // one in between was lost
		p.goodSince = now
	}
	p.best = max(p.best, seq)
	switch {
	case !p.settled():
		p.move(byUDP, "", now)
	case seq <= p.fell && now.Sub(p.since) < afterthought:
		p.patience = min(2*p.patience, maxPatience)
		p.move(byUDP, fmt.Sprintf("its answers were only late; %v are waited from now on", p.patience), now)
	case p.confirm == seq:
		p.deaf = min(max(2*p.deaf, minDeaf), maxDeaf)
		p.deafUntil = now.Add(p.deaf)
		p.move(byUDP, fmt.Sprintf("it answers, so the refusal was a forgery or the end of a restart; none is believed for %v", p.deaf), now)
	case now.Sub(p.goodSince) >= p.needed():
		p.move(byUDP, fmt.Sprintf("probes by udp were answered for %v", now.Sub(p.goodSince).Round(100*time.Millisecond)), now)
	default:
		return false
	}
	return true
}

// measure smoothes round trip times as TCP does (RFC 6298).
func (p *path) measure(trip time.Duration) {
	if p.trip == 0 {
		p.trip = trip
	}
	p.trip += (trip - p.trip) / 8
}

// needed is how long probes must be answered before the peer goes back. Where
// vxlan does not carry, that is shorter: there is less to lose.
func (p *path) needed() time.Duration {
	if p.vxlan.silent() {
		return p.hold / quickly
	}
	return p.hold
}

// refusals notes how often the peer's host has said so far that nobody listens
// on its port. A new peer has a lease before it has a socket.
func (p *path) refusals(count uint64, now time.Time) bool {
	if count == p.refusalsSeen {
		return false
	}
	p.refusalsSeen = count
	if now.Before(p.deafUntil) {
		return false
	}
	if p.way == byVXLAN {
		p.goodSince = time.Time{}
		return false
	}
	p.fall("its UDP port is unreachable: its daemon does not run, or a firewall refuses packets to it", now)
	p.confirm, p.lastAt = p.last+1, time.Time{}
	return true
}

// check looks whether answers are overdue.
func (p *path) check(now time.Time) bool {
	silent := p.silentFor(now)
	if silent < min(p.patience+2*p.trip, maxPatience) {
		return false
	}
	p.goodSince = time.Time{}
	if p.unanswered < minMissed || p.way == byVXLAN && (p.settled() || now.Sub(p.since) < newFor) {
		return false
	}
	p.fall(fmt.Sprintf("no answer to %d probes by udp within %v", p.unanswered, silent.Round(time.Millisecond)), now)
	p.fell = p.last
	return true
}

// suspect: an answer is late.
func (p *path) suspect(now time.Time) bool {
	return p.way == byUDP && p.silentFor(now) >= lateAfter+2*p.trip
}

// silentFor is how long probes have been without an answer.
func (p *path) silentFor(now time.Time) time.Duration {
	if p.silence.IsZero() {
		return 0
	}
	return now.Sub(p.silence)
}

// forgive takes time off a silence in which this process itself stood still,
// and some more for the answers that lie there.
func (p *path) forgive(stood time.Duration, now time.Time) {
	p.unmeasured = p.last
	if p.silence.IsZero() {
		return
	}
	p.silence = p.silence.Add(stood + 2*tick)
	if p.silence.After(now) {
		p.silence = now
	}
}

func (p *path) fall(why string, now time.Time) {
	if !p.returned.IsZero() && now.Sub(p.returned) < holdMemory {
		p.hold = min(2*p.hold, maxHold)
	} else {
		p.hold, p.patience = minHold, minPatience
	}
	p.move(byVXLAN, why, now)
}

func (p *path) move(w way, why string, now time.Time) {
	if w == byUDP && p.settled() {
		p.returned = now
	}
	p.way, p.why, p.since = w, why, now
	p.goodSince, p.confirm, p.fell = time.Time{}, 0, 0
}
