package udp

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/tunnel"
)

// A peer with another address is another peer: user space's, and tried at once.
func TestTrialsOfPeerThatMoves(t *testing.T) {
	c := newCourse(peerWithAssist(2))
	c.k.whole = true
	looks := c.seconds(5)
	moved := peerWithAssist(2)
	moved.Endpoint = addr("192.0.2.99")
	c.peers, c.k.peers[moved.Subnet.IPv4] = []*tunnel.Peer{moved}, moved
	if looks += " " + c.seconds(3); looks != "--111 --1" {
		t.Errorf("looks %s", looks)
	}
	// Without the assist, and with it again: the kernel has forgotten.
	without := *moved
	without.Assist = false
	c.peers = []*tunnel.Peer{&without}
	c.k.on[moved.Subnet.IPv4] = false
	looks = c.seconds(2)
	c.peers = []*tunnel.Peer{moved}
	if looks += " " + c.seconds(3); looks != "00 --1" {
		t.Errorf("looks %s", looks)
	}
	// So quickly that no look is in between.
	c.k.on[moved.Subnet.IPv4] = false
	if got := c.seconds(1); got != "1" {
		t.Errorf("looks %s", got)
	}
	// Others have come since, and only those are remembered that are there.
	c.peers = append(c.peers, peerWithAssist(3), peerWithAssist(4))
	for _, p := range c.peers {
		c.k.peers[p.Subnet.IPv4] = p
	}
	c.seconds(3)
	c.peers = c.peers[1:2]
	if got := c.seconds(1); got != "1" || len(c.trials.peers) != 1 {
		t.Errorf("looks %s, %d peers are remembered", got, len(c.trials.peers))
	}
}

// Where there is no assist for a while all are off, and then it begins anew,
// whatever answers have come meanwhile.
func TestTrialsStop(t *testing.T) {
	c := newCourse(peerWithAssist(2), peerWithAssist(3))
	c.k.whole = true
	looks := c.seconds(4)
	c.trials.stop(c.peers)
	for subnet, on := range c.k.on {
		if on || c.trials.on(c.k.peers[subnet]) {
			t.Errorf("%v is on", subnet)
		}
	}
	c.k.whole = false
	state := c.peers[0].State
	_, nonce := state.Trials.Next()
	state.Trials.Note(nonce)
	if looks += " " + c.seconds(3); looks != "--11 -0-" {
		t.Errorf("looks %s", looks)
	}
}

// An answer to a trial from before superpackets were given up does not bring them
// back, one from after that does, however late they come.
func TestTrialsAnsweredTooLate(t *testing.T) {
	for _, test := range []struct {
		name   string
		giveUp func(c *course) (looks string, before uint64)
	}{
		{"two misses", func(c *course) (string, uint64) {
			looks := c.busy(3)
			return looks, c.k.asked[len(c.k.asked)-1]
		}},
		{"stop", func(c *course) (string, uint64) {
			_, before := c.peers[0].State.Trials.Next()
			c.trials.stop(c.peers)
			return "++0", before
		}},
	} {
		c := newCourse(peerWithAssist(2))
		answer := func(nonce uint64) {
			if !c.peers[0].State.Trials.Note(nonce) {
				t.Errorf("%s: the answer is to no trial", test.name)
			}
		}
		c.k.whole = true
		looks := c.seconds(3)
		c.k.whole = false
		given, before := test.giveUp(c)
		looks += given
		for c.trials.on(c.peers[0]) || c.k.asked[len(c.k.asked)-1] <= before {
			looks += c.seconds(1)
		}
		answer(before)
		looks += " " + c.seconds(1)
		answer(c.k.asked[len(c.k.asked)-1])
		looks += " " + c.seconds(1)
		answer(c.k.asked[len(c.k.asked)-1])
		if looks += " " + c.seconds(1); !strings.HasPrefix(looks, "--1++0") || !strings.HasSuffix(looks, "- 0 - 1") {
			t.Errorf("%s: looks %s", test.name, looks)
		}
	}
}

// However many peers there are, each has its turn.
func TestTrialsAreBounded(t *testing.T) {
	var peers []*tunnel.Peer
	for n := range 2*trialsAtOnce + 100 {
		p := peerWithAssist(n)
		p.Subnet.IPv4 = netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(n >> 8), byte(n), 0}), 24)
		peers = append(peers, p)
	}
	c := newCourse(peers...)
	c.k.whole = true
	for look, want := range []int{trialsAtOnce, trialsAtOnce, trialsAtOnce, trialsAtOnce, 200, 0} {
		before := len(c.k.tried)
		c.seconds(1)
		if n := len(c.k.tried) - before; n != want {
			t.Errorf("look %d: %d trials, want %d", look, n, want)
		}
	}
	for _, p := range peers {
		if !c.trials.on(p) {
			t.Fatalf("%v had no trial", p.Subnet.IPv4)
		}
	}
	// All in use: more are due with each look than there may be.
	for range 3 {
		for _, p := range peers {
			c.k.sent[p.Subnet.IPv4]++
		}
		c.seconds(1)
	}
	times := make(map[netip.Prefix]int)
	for _, subnet := range c.k.tried {
		times[subnet]++
	}
	for subnet, n := range times {
		if n < 3 || n > 4 {
			t.Errorf("%v was tried %d times", subnet, n)
		}
	}
}
