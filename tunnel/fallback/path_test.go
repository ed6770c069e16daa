package fallback

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/tunnel"
)

// simulation is a peer and the network to it, under a clock of its own.
type simulation struct {
	*path
	start, now time.Time
	trip       time.Duration         // of a probe and its answer
	lost       func(seq uint64) bool // which probes or answers are lost
	busy       bool                  // packets are sent to the peer
	refuses    bool                  // ICMP port unreachable, at once
	refused    uint64
	packets    uint64
	probes     int
	under      map[time.Time][]uint64 // answers under way, by arrival
	log        []string
	crowd      time.Duration
}

func newSimulation() *simulation {
	start := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	return &simulation{
		path: newPath(start), start: start, now: start, trip: 10 * time.Millisecond, busy: true,
		lost: func(uint64) bool { return false }, under: make(map[time.Time][]uint64), crowd: 1,
	}
}

// run lets time pass, in steps of 10 ms of which every fifth is a tick.
func (s *simulation) run(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(10 * time.Millisecond)
		if s.busy {
			s.packets++
		}
		s.traffic(s.packets, s.now)
		for _, seq := range s.under[s.now] {
			s.note(s.answered(seq, s.now))
		}
		delete(s.under, s.now)
		s.note(s.refusals(s.refused, s.now))
		s.note(s.check(s.now))
		if s.due(s.now, s.crowd) && (s.now.Sub(s.start)%tick == 0 || s.lastAt.IsZero() || s.suspect(s.now)) {
			s.send()
		}
	}
}

func (s *simulation) send() {
	seq := s.last + 1
	s.sent(seq, s.now)
	s.probes++
	switch {
	case s.refuses:
		s.refused++
	case !s.lost(seq):
		at := s.now.Add(s.trip)
		s.under[at] = append(s.under[at], seq)
	}
}

func (s *simulation) note(changed bool) {
	if changed {
		s.log = append(s.log, fmt.Sprintf("%v %v", s.now.Sub(s.start), s.way))
	}
}

func always(uint64) bool { return true }

// expect compares what was decided, and when.
func (s *simulation) expect(t *testing.T, want ...string) {
	t.Helper()
	if !slices.Equal(s.log, want) {
		t.Errorf("got %q, want %q (now by %v: %s)", s.log, want, s.way, s.why)
	}
}

func TestPathFirstAnswer(t *testing.T) {
	s := newSimulation()
	s.run(time.Minute)
	s.expect(t, "20ms udp")
	if s.why != "" {
		t.Errorf("what is not worth a line has a reason: %s", s.why)
	}
}

// A peer that has a lease, but is not there yet, answers a little later.
func TestPathNewPeerIsLate(t *testing.T) {
	s := newSimulation()
	s.refuses = true
	s.run(2 * time.Second)
	s.refuses = false
	s.run(time.Second)
	s.expect(t, "2.06s udp")
}

// Where there is no answer, packets go by vxlan from the start; one line says
// so. Ten seconds of answers bring the peer back.
func TestPathNeverAnswers(t *testing.T) {
	s := newSimulation()
	s.lost = always
	s.run(30 * time.Second)
	s.expect(t, "3s vxlan")
	if !strings.Contains(s.why, "no answer to") {
		t.Errorf("why: %s", s.why)
	}
	s.lost = func(uint64) bool { return false }
	s.run(20 * time.Second)
	s.expect(t, "3s vxlan", "40.46s udp")
}

// A peer that falls silent is left within a second when packets are sent to it,
// and with its first packets when there were none.
func TestPathSilence(t *testing.T) {
	for _, c := range []struct {
		name string
		busy bool
		trip time.Duration
		size time.Duration // of the crowd
		most time.Duration
	}{
		{"busy", true, 10 * time.Millisecond, 1, 500 * time.Millisecond},
		{"idle", false, 10 * time.Millisecond, 1, 500 * time.Millisecond},
		{"far away", true, 300 * time.Millisecond, 1, 1100 * time.Millisecond},
		{"one of ten thousand", true, 10 * time.Millisecond, 10, 1500 * time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			for phase := time.Duration(0); phase < 300*time.Millisecond; phase += 10 * time.Millisecond {
				s := newSimulation()
				s.busy, s.trip, s.crowd = c.busy, c.trip, c.size
				s.run(5*time.Second + phase)
				s.lost, s.busy, s.log = always, true, nil
				s.under = make(map[time.Time][]uint64)
				from := s.now
				s.run(5 * time.Second)
				if len(s.log) != 1 || s.way != byVXLAN || s.since.Sub(from) > c.most {
					t.Errorf("phase %v: %q after %v", phase, s.log, s.since.Sub(from))
				}
			}
		})
	}
}

// A peer whose answers were only late is taken back when they come, and given
// more time.
func TestPathLate(t *testing.T) {
	s := newSimulation()
	s.run(5 * time.Second)
	s.trip = 600 * time.Millisecond
	s.run(200 * time.Millisecond)
	s.trip = 10 * time.Millisecond
	s.lost = always // what is sent later is lost
	s.run(400 * time.Millisecond)
	s.lost = func(uint64) bool { return false }
	s.run(10 * time.Second)
	if len(s.log) != 3 || s.way != byUDP || s.patience != 2*minPatience || !strings.Contains(s.why, "only late") {
		t.Errorf("%q, patience %v, by %v: %s", s.log, s.patience, s.way, s.why)
	}
	// The next time that is no reason to leave.
	s.lost = always
	s.run(600 * time.Millisecond)
	s.lost = func(uint64) bool { return false }
	s.run(time.Second)
	if len(s.log) != 3 {
		t.Errorf("left again: %q: %s", s.log, s.why)
	}
}

// A refusal moves the peer at once; ten good seconds bring it back.
func TestPathRefused(t *testing.T) {
	s := newSimulation()
	s.run(5 * time.Second)
	s.refuses, s.refused = true, 1 // of a packet
	s.run(20 * time.Second)
	s.expect(t, "20ms udp", "5.01s vxlan")
	if !strings.Contains(s.why, "unreachable") {
		t.Errorf("why: %s", s.why)
	}
	s.refuses = false
	s.run(20 * time.Second)
	s.expect(t, "20ms udp", "5.01s vxlan", "35.06s udp")
}

// A forged refusal costs a moment, and the next ones nothing for a while.
func TestPathForgedRefusal(t *testing.T) {
	s := newSimulation()
	s.run(5 * time.Second)
	s.refused++
	s.run(time.Second)
	s.expect(t, "20ms udp", "5.01s vxlan", "5.02s udp")
	for range 50 {
		s.refused++
		s.run(time.Second)
	}
	s.expect(t, "20ms udp", "5.01s vxlan", "5.02s udp")
	s.run(20 * time.Second)
	s.refused++
	s.run(time.Second)
	if len(s.log) != 5 || s.deaf != 2*time.Minute {
		t.Errorf("decisions %q, deaf for %v", s.log, s.deaf)
	}
	// What is not believed of refusals, probes still tell.
	s.refuses = true
	s.run(2 * time.Second)
	if s.way != byVXLAN {
		t.Errorf("by %v: %s", s.way, s.why)
	}
}

// A path that works now and then is used less and less.
func TestPathNoFlapping(t *testing.T) {
	s := newSimulation()
	for range 60 { // 12 s of every minute are good
		s.lost = func(uint64) bool { return false }
		s.run(12 * time.Second)
		s.lost = always
		s.run(48 * time.Second)
	}
	if len(s.log) > 4 || s.way != byVXLAN {
		t.Errorf("%d decisions in an hour: %q", len(s.log), s.log)
	}
	// Then it is mended for good.
	s.lost = func(uint64) bool { return false }
	s.run(maxHold + time.Minute)
	if s.way != byUDP {
		t.Errorf("not back after %v", maxHold+time.Minute)
	}
}

// Losing every other probe, or three of four, is no reason to leave: vxlan goes
// the same way. But it is none to come back either.
func TestPathLossy(t *testing.T) {
	s := newSimulation()
	s.run(5 * time.Second)
	s.lost = func(seq uint64) bool { return seq%4 != 0 }
	s.run(time.Minute)
	s.expect(t, "20ms udp")

	s = newSimulation()
	s.lost = always
	s.run(10 * time.Second)
	s.lost = func(seq uint64) bool { return seq%10 == 0 }
	s.run(5 * time.Minute)
	s.expect(t, "3s vxlan")
}

// Where vxlan does not carry either, one good second is enough to go back, and
// that grows too.
func TestPathBothDead(t *testing.T) {
	s := newSimulation()
	s.run(5 * time.Second)
	s.lost, s.vxlan.unanswered = always, standbyMissed
	s.run(10 * time.Second)
	s.lost = func(uint64) bool { return false }
	from := s.now
	s.run(10 * time.Second)
	if s.way != byUDP || s.since.Sub(from) > 2*time.Second {
		t.Errorf("by %v after %v", s.way, s.since.Sub(from))
	}
	s.lost = always
	s.run(10 * time.Second)
	if s.needed() != 2*time.Second {
		t.Errorf("the next return takes %v", s.needed())
	}
}

// A process that stood still learned nothing about its peers meanwhile, but what
// it knew before still counts.
func TestPathForgive(t *testing.T) {
	s := newSimulation()
	s.run(5 * time.Second)
	s.lost = always
	s.run(300 * time.Millisecond)
	s.now = s.now.Add(10 * time.Second)
	s.forgive(10*time.Second, s.now)
	s.run(100 * time.Millisecond)
	s.expect(t, "20ms udp")
	s.run(150 * time.Millisecond)
	if s.way != byVXLAN {
		t.Errorf("by %v after %v", s.way, s.silentFor(s.now))
	}

	s = newSimulation()
	s.run(5 * time.Second)
	s.send()
	s.now = s.now.Add(10 * time.Second)
	s.forgive(10*time.Second, s.now)
	s.under = make(map[time.Time][]uint64)
	s.answered(s.last, s.now)
	if s.path.trip != 10*time.Millisecond {
		t.Errorf("the round trip takes %v now", s.path.trip)
	}
	s.run(time.Second)
	s.expect(t, "20ms udp")
}

// How many probes a peer costs.
func TestPathProbes(t *testing.T) {
	for _, c := range []struct {
		name    string
		prepare func(s *simulation)
		most    int // probes in a minute
	}{
		{"busy", func(*simulation) {}, 600},
		{"idle", func(s *simulation) { s.busy = false }, 12},
		{"busy, of ten thousand", func(s *simulation) { s.crowd = 10 }, 60},
		{"on vxlan, silent for long", func(s *simulation) { s.lost = always }, 12},
		{"on vxlan, refusing for long", func(s *simulation) { s.refuses = true }, 12},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := newSimulation()
			c.prepare(s)
			s.run(3 * time.Minute)
			s.probes = 0
			s.run(time.Minute)
			if s.probes > c.most || s.probes < c.most/2 {
				t.Errorf("%d probes in a minute, want %d", s.probes, c.most)
			}
		})
	}
}

// Numbers far apart do not share a place in the window.
func TestPathWindow(t *testing.T) {
	s := newSimulation()
	for range 3 * tunnel.EchoWindow {
		s.send()
		s.now = s.now.Add(time.Millisecond)
	}
	s.answered(3*tunnel.EchoWindow, s.now)
	if s.path.trip != time.Millisecond {
		t.Errorf("round trip %v", s.path.trip)
	}
}
