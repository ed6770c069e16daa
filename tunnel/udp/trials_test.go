package udp

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// trialKernel is a kernel that answers trials as it is told.
type trialKernel struct {
	whole bool // superpackets arrive, and trials with them
	short bool // the short ones do
	late  bool // answers come after the next look, not before
	err   error

	peers map[netip.Prefix]*tunnel.Peer
	on    map[netip.Prefix]bool
	sent  map[netip.Prefix]uint64
	tried []netip.Prefix
	full  string      // "s" for each trial that was short, "f" for the others
	taken int         // how often it took over flows
	asked []uint64    // the nonces of all trials
	held  [2][]func() // answers that are on their way, for one look and two
}

func (k *trialKernel) SetSuperpackets(subnet netip.Prefix, on bool) { k.on[subnet] = on }

func (k *trialKernel) SuperpacketsSent(subnet netip.Prefix) uint64 { return k.sent[subnet] }

func (k *trialKernel) TakeFlows() error { k.taken++; return nil }

func (k *trialKernel) Try(own netip.Addr, subnet netip.Prefix, nonce uint64, full bool) error {
	if own != addr(tunnel1) {
		return fmt.Errorf("from %v", own)
	}
	k.tried, k.asked = append(k.tried, subnet), append(k.asked, nonce)
	k.full += map[bool]string{false: "s", true: "f"}[full]
	state := k.peers[subnet].State
	switch {
	case k.err != nil:
		return k.err
	case k.whole && k.late:
		k.held[1] = append(k.held[1], func() { state.Trials.Note(nonce) })
	case k.whole, k.short && !full:
		state.Trials.Note(nonce)
	}
	return nil
}

// course is a run of looks, a second apart.
type course struct {
	*trials
	k     *trialKernel
	now   time.Time
	peers []*tunnel.Peer
	log   logBuffer
}

func newCourse(peers ...*tunnel.Peer) *course {
	c := &course{now: time.Now(), peers: peers, k: &trialKernel{
		peers: make(map[netip.Prefix]*tunnel.Peer), on: make(map[netip.Prefix]bool), sent: make(map[netip.Prefix]uint64),
	}}
	for _, p := range peers {
		c.k.peers[p.Subnet.IPv4] = p
	}
	c.trials = newTrials(slog.New(slog.NewTextHandler(&c.log, &slog.HandlerOptions{Level: slog.LevelDebug})), c.k, func(own netip.Addr, p *tunnel.Peer, _ time.Time) {
		if own != addr(tunnel1) || c.k.peers[p.Subnet.IPv4] != p {
			panic("another peer's way is opened")
		}
	})
	return c
}

func peerWithAssist(n int) *tunnel.Peer {
	return &tunnel.Peer{
		Subnet:   subnet.Subnet{IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(n), 0}), 24)},
		Endpoint: netip.AddrFrom4([4]byte{192, 0, 2, byte(n)}),
		Assist:   true, State: new(tunnel.PeerState),
	}
}

// seconds makes a look each second, and returns in which there was a trial of the
// first peer, and whether its superpackets were the kernel's then: "+" and "-" for
// a look with a trial, "1" and "0" for one without.
func (c *course) seconds(n int) string {
	var b strings.Builder
	for range n {
		for _, answer := range c.k.held[0] {
			answer()
		}
		c.k.held = [2][]func(){c.k.held[1]}
		tried := len(c.k.tried)
		c.look(c.now, addr(tunnel1), c.peers)
		subnet := c.peers[0].Subnet.IPv4
		mark := map[bool]string{false: "0", true: "1"}
		for _, s := range c.k.tried[tried:] {
			if s == subnet {
				mark = map[bool]string{false: "-", true: "+"}
			}
		}
		if c.k.on[subnet] != c.trials.on(c.peers[0]) {
			b.WriteString("?")
		}
		b.WriteString(mark[c.k.on[subnet]])
		c.now = c.now.Add(watchInterval)
	}
	return b.String()
}

// busy is seconds of which each has a superpacket.
func (c *course) busy(n int) (looks string) {
	for range n {
		c.k.sent[c.peers[0].Subnet.IPv4]++
		looks += c.seconds(1)
	}
	return looks
}

func TestTrials(t *testing.T) {
	idleMinute := strings.Repeat("1", 59)
	for _, test := range []struct {
		name string
		run  func(c *course) string
		want string
	}{
		{"whole", func(c *course) string {
			c.k.whole = true
			return c.seconds(4)
		}, "--11"},
		{"idle: each minute", func(c *course) string {
			c.k.whole = true
			return c.seconds(3 + 60 + 60 + 1)
		}, "--1" + idleMinute + "+" + "1" + idleMinute[1:] + "1+"},
		{"in use: each second", func(c *course) string {
			c.k.whole = true
			return c.seconds(3) + c.busy(4) + c.seconds(2)
		}, "--1++++11"},
		{"never: less and less often", func(c *course) string {
			return c.seconds(1 + 2 + 3 + 5 + 9 + 17 + 33 + 65 + 65)
		}, "-" + "0-" + "00-" + "0000-" + "00000000-" + strings.Repeat("0", 16) + "-" + strings.Repeat("0", 32) + "-" +
			strings.Repeat("0", 64) + "-" + strings.Repeat("0", 64) + "-"},
		{"cannot be sent: the same", func(c *course) string {
			c.k.err = errors.New("no")
			return c.seconds(8)
		}, "--0-000-"},
		{"one miss in use", func(c *course) string {
			c.k.whole = true
			looks := c.seconds(3)
			c.k.whole = false
			looks += c.busy(1)
			c.k.whole = true
			return looks + " " + c.busy(4)
		}, "--1+ ++++"},
		{"two misses in use", func(c *course) string {
			c.k.whole = true
			looks := c.seconds(3)
			c.k.whole = false
			return looks + c.busy(3) + c.seconds(5)
		}, "--1++" + "0-00-0"},
		{"two misses while idle", func(c *course) string {
			c.k.whole = true
			looks := c.seconds(3 + 59)
			c.k.whole = false
			return looks[60:] + c.seconds(7)
		}, "11" + "++0-00-"},
		{"two that cannot be sent", func(c *course) string {
			c.k.whole = true
			looks := c.seconds(3)
			c.k.err = errors.New("no")
			return looks + c.busy(3)
		}, "--1+--"},
		{"too many on their way", func(c *course) string {
			c.k.err = fmt.Errorf("send a trial: %w", unix.EAGAIN)
			looks := c.seconds(3)
			c.k.whole, c.k.err = true, nil
			looks += c.seconds(3)
			c.k.err = unix.EAGAIN
			looks += c.busy(4)
			c.k.whole, c.k.err = false, nil
			return looks + c.busy(3)
		}, "---" + "--1" + "++++" + "++0"},
		{"back again, and the pauses begin anew", func(c *course) string {
			looks := c.seconds(1 + 2)
			c.k.whole = true
			looks += c.seconds(5)
			c.k.whole = false
			return looks + c.busy(2) + c.seconds(3)
		}, "-0-" + "00--1" + "++" + "0-0"},
		{"the longest are cut", func(c *course) string {
			c.k.short = true
			return c.seconds(1 + 2 + 2 + 4)
		}, "--0-00-00"},
		{"the longest are cut from now on", func(c *course) string {
			c.k.whole = true
			looks := c.seconds(3)
			c.k.whole, c.k.short = false, true
			return looks + c.seconds(1) + c.busy(4) + c.seconds(3)
		}, "--11" + "++0--00"},
		{"late answers", func(c *course) string {
			c.k.whole, c.k.late = true, true
			return c.seconds(5) + c.busy(6)
		}, "-0-01++++++"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := newCourse(peerWithAssist(2))
			if got := test.run(c); got != test.want {
				t.Errorf("looks\n%s, want\n%s\n%s", got, test.want, &c.log)
			}
		})
	}
}

// Trials are short but for the second and those of a peer in use. When one was
// turned on, and only then, flows are taken over, but not all the time.
func TestTrialLengths(t *testing.T) {
	c := newCourse(peerWithAssist(2))
	c.k.whole = true
	c.seconds(2)
	if c.k.taken != 0 {
		t.Error("flows are taken over too early")
	}
	c.seconds(1)
	c.busy(2)
	c.seconds(61)
	c.k.whole = false
	c.busy(2)
	c.seconds(5)
	if want := "sf" + "ff" + "s" + "ff" + "ss"; c.k.full != want || c.k.taken != 1 {
		t.Errorf("trials %s, want %s; flows were taken over %d times", c.k.full, want, c.k.taken)
	}
	c.k.whole = true
	c.seconds(10) // on
	c.k.whole = false
	c.busy(3) // off
	c.k.whole = true
	if c.seconds(10); !c.on(c.peers[0]) || c.k.taken != 2 {
		t.Errorf("flows were taken over %d times", c.k.taken)
	}
	if c.seconds(60); c.k.taken != 3 {
		t.Errorf("flows were taken over %d times, a minute later", c.k.taken)
	}
}

// Looks are not a second apart to the millisecond.
func TestTrialsOutOfStep(t *testing.T) {
	c := newCourse(peerWithAssist(2))
	looks := ""
	for _, after := range []time.Duration{0, 990, 990, 1010, 990, 20, 980, 990} { // in ms
		c.now = c.now.Add(after*time.Millisecond - watchInterval) // which seconds adds
		looks += c.seconds(1)
	}
	if looks != "-0-00"+"0-0" {
		t.Errorf("looks %s", looks)
	}
}
