package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// bulkSize is what bulk sends, in bytes: some hundred superpackets.
const bulkSize = 32 << 20

// newSuperPair makes a pair whose kernels carry each other's superpackets.
func newSuperPair(t *testing.T, s setup) (a, b *node) {
	t.Helper()
	s.superpackets = true
	a, b = newAssistedPair(t, s)
	awaitSuperpackets(t, a, true)
	awaitSuperpackets(t, b, true)
	return a, b
}

// awaitSuperpackets waits until a node's kernel sends its peer superpackets, or
// does not.
func awaitSuperpackets(t *testing.T, n *node, on bool) {
	t.Helper()
	within(t, 60*time.Second, "superpackets to change their way", func() bool {
		n.looks()
		return n.Status().Peers[0].SuperpacketsByKernel == on
	})
}

// looks has a node look now what has become of its trials, as it would in a second.
func (n *node) looks() { n.assisted.lookAtSuperpackets(time.Now()) }

// within waits for what takes some looks, a second apart each.
func within(t *testing.T, most time.Duration, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(most); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// bulk sends from one node to the other, and returns how much of it went by which
// way, in bytes, and in how many superpackets by the kernel.
func bulk(t *testing.T, from, to *node) (user, kernel, superpackets uint64) {
	t.Helper()
	state, before := from.Table().Peers()[0].State, byKernel(from)
	userBefore := state.Tx.Bytes.Load()
	transferTCP(t, from, to, false, bulkSize)
	now := byKernel(from)
	return state.Tx.Bytes.Load() - userBefore, now.TxBytes - before.TxBytes, now.TxSuperpackets - before.TxSuperpackets
}

// goesByKernel, and goesByUser: a transfer goes that way.
func goesByKernel(t *testing.T, from, to *node) {
	t.Helper()
	if user, kernel, superpackets := bulk(t, from, to); user > bulkSize/100 || kernel < bulkSize || superpackets < bulkSize>>16 {
		t.Errorf("%d bytes went by user space, %d by the kernel, in %d superpackets", user, kernel, superpackets)
	}
}

func goesByUser(t *testing.T, from, to *node) {
	t.Helper()
	if user, kernel, superpackets := bulk(t, from, to); user < bulkSize || superpackets > 0 {
		t.Errorf("%d bytes went by user space, %d by the kernel, in %d superpackets", user, kernel, superpackets)
	}
}

// Where they arrive whole, superpackets never come to user space, and what is
// counted at one end is counted at the other.
func TestSuperpacketsByKernel(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		setup setup
		slow  bool
	}{
		{"one source port", setup{}, false},
		{"four source ports", setup{sourcePorts: 4}, true},
		{"MTU 9000", setup{mtu: 9000}, true},
	} {
		if c.slow && !labtest.Full(t, c.name) {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			a, b := newSuperPair(t, c.setup)
			missing := func() [4]uint64 {
				x, y := a.Status().Peers[0], b.Status().Peers[0]
				return [4]uint64{x.TxPackets - y.RxPackets, x.TxBytes - y.RxBytes, y.TxPackets - x.RxPackets, y.TxBytes - x.RxBytes}
			}
			var before [4]uint64 // that the machine has lost
			check(t, labtest.Lossless(t, func() error {
				goesByKernel(t, a, b)
				goesByKernel(t, b, a)
				exchangeUDP(t, a, b, false)
				transferTCP(t, a, b, true, 4<<20)
				for deadline := time.Now().Add(patience); missing() != before; time.Sleep(2 * time.Millisecond) {
					if time.Now().After(deadline) {
						before = missing()
						return fmt.Errorf("the counters of both ends are not equal: missing are %d", before)
					}
				}
				return nil
			}))
			for _, n := range []*node{a, b} {
				if c := capability(t, n, AssistGSO); !c.On || c.Why != "they reach 1 of 1 peers whole" {
					t.Errorf("the status says %+v", c)
				}
				for reason, packets := range n.drops() {
					if reason != "tx_not_unicast" {
						t.Errorf("%d packets dropped as %s", packets, reason)
					}
				}
				check(t, n.Health())
			}
		})
	}
}

// Where the underlay begins to cut them user space has them again, flows go on,
// and back it goes when they arrive whole again.
func TestSuperpacketsThatAreCut(t *testing.T) {
	t.Parallel()
	for _, feature := range []string{"tx-udp_tnl-segmentation", "tx-tcp-segmentation"} {
		if feature != "tx-udp_tnl-segmentation" && !labtest.Full(t, feature) {
			continue
		}
		t.Run(feature, func(t *testing.T) {
			t.Parallel()
			a, b := newSuperPair(t, setup{})
			goesByKernel(t, a, b)
			check(t, a.SetFeatures("eth0", map[string]bool{feature: false}))
			meanwhile(t, func() { transferTCP(t, a, b, false, 4<<20) }, func() { awaitSuperpackets(t, a, false) })
			goesByUser(t, a, b)
			goesByKernel(t, b, a)
			check(t, a.SetFeatures("eth0", map[string]bool{feature: true}))
			awaitSuperpackets(t, a, true)
			goesByKernel(t, a, b)
		})
	}
}

// meanwhile does one thing again and again until another is done.
func meanwhile(t *testing.T, again, once func()) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			again()
		}
	}()
	defer func() { stop(); <-done }()
	once()
}

// A node that does without, and one whose TUN hands over no superpackets whole,
// is sent none and sends none.
func TestSuperpacketsOnOneSide(t *testing.T) {
	t.Parallel()
	for name, disable := range map[string][]Feature{"assist_gso": {AssistGSO}, "tso": {TSO}, "vnet_hdr": {VnetHdr}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespaces := newUnderlay(t, setup{})
			a := newNode(t, namespaces[0], 1, setup{assist: true, superpackets: true})
			b := newNode(t, namespaces[1], 2, setup{assist: true, superpackets: true, disable: disable})
			a.SetPeers(leases(b))
			b.SetPeers(leases(a))
			ping(t, a, b.ipv4)
			ping(t, b, a.ipv4)
			within(t, time.Minute, "a trial", func() bool {
				a.looks()
				return trialsMissed(a) > 0
			})
			goesByUser(t, a, b)
			if user, _, superpackets := bulk(t, b, a); user == 0 && name != "tso" && name != "vnet_hdr" || superpackets > 0 {
				t.Errorf("%d bytes from the node without went by user space, %d superpackets by the kernel", user, superpackets)
			}
			if c := capability(t, b, AssistGSO); c.On || c.Why == "" || b.assisted.trials != nil {
				t.Errorf("the status says %+v", c)
			}
			for _, n := range []*node{a, b} {
				for reason, packets := range n.drops() {
					if reason != "tx_not_unicast" {
						t.Errorf("%d packets dropped as %s", packets, reason)
					}
				}
			}
		})
	}
}

// trialsMissed is how many trials in a row a node's peer has not answered.
func trialsMissed(n *node) int {
	n.assisted.mu.Lock()
	defer n.assisted.mu.Unlock()
	if t := n.assisted.trials.peers[n.Table().Peers()[0].State]; t != nil {
		return t.misses
	}
	return 0
}

// A peer that has just lost the assist is sent no superpackets, and is not counted,
// before the next look, too.
func TestSuperpacketsStatus(t *testing.T) {
	with, without := testLease(2, setup{}), testLease(3, setup{})
	with.Attrs.BackendData = []byte(`{"weft":1,"assist":true}`)
	a := &assisted{
		trials: newTrials(slog.New(slog.DiscardHandler), nil, nil),
		table:  tunnel.NewTable(tunnel.Self{Own: testLease(1, setup{}), Network: testNetwork, IPv4: true}, []subnet.Lease{with, without}, nil),
	}
	for i, want := range []bool{true, false} {
		p := a.table.Peers()[i]
		a.trials.peers[p.State] = &trial{on: true}
		if got := a.sendsSuperpackets(p); got != want {
			t.Errorf("%v is sent superpackets: %v", p.Subnet.IPv4, got)
		}
	}
	if on, why := a.superpackets(); !on || why != "they reach 1 of 1 peers whole" {
		t.Errorf("%v: %s", on, why)
	}
}

// The kernel is told to send none where it carries nothing, takes none itself, or
// there is no lease.
func TestSuperpacketsGivenUp(t *testing.T) {
	lease := testLease(2, setup{})
	lease.Attrs.BackendData = []byte(`{"weft":1,"assist":true}`)
	self := tunnel.Self{Own: testLease(1, setup{}), Network: testNetwork, IPv4: true}
	for name, giveUp := range map[string]func(a *assisted){
		"IPsec":     func(a *assisted) { a.off = errors.New("IPsec") },
		"no device": func(a *assisted) { a.noSuper = errors.New("no device") },
		"no lease": func(a *assisted) {
			self := self
			self.Own = subnet.Lease{}
			a.table = tunnel.NewTable(self, []subnet.Lease{lease}, a.table)
		},
	} {
		a := &assisted{table: tunnel.NewTable(self, []subnet.Lease{lease}, nil)}
		c := newCourse(a.table.Peers()...)
		c.k.whole, a.trials = true, c.trials
		look := func() bool {
			c.now = c.now.Add(watchInterval)
			a.lookAtSuperpackets(c.now)
			return c.k.on[lease.Subnet.IPv4]
		}
		look()
		if look(); !look() {
			t.Fatalf("%s: off from the beginning", name)
		}
		if giveUp(a); look() {
			t.Errorf("%s: the kernel was not told", name)
		}
	}
}
