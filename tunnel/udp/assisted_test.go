package udp

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// byKernel is what the kernel of a node has carried; none without the assist.
func byKernel(n *node) tunnel.Carried {
	if c := n.Status().ByKernel; c != nil {
		return *c
	}
	return tunnel.Carried{}
}

// capability is what a node says of a feature.
func capability(t *testing.T, n *node, f Feature) tunnel.Capability {
	t.Helper()
	for _, c := range n.Status().Capabilities {
		if c.Name == string(f) {
			return c
		}
	}
	t.Fatalf("the status says nothing of %s", f)
	return tunnel.Capability{}
}

// newAssistedPair makes a pair with the assist that has met: what goes to a
// neighbour whose MAC is not known yet is user space's.
func newAssistedPair(t *testing.T, s setup) (a, b *node) {
	t.Helper()
	s.assist = true
	a, b = newPair(t, s)
	for _, n := range []*node{a, b} {
		if c := capability(t, n, Assist); !c.On {
			t.Fatalf("%s is off: %s", c.Name, c.Why)
		}
	}
	ping(t, a, b.ipv4)
	ping(t, b, a.ipv4)
	return a, b
}

// The kernel carries what is no superpacket, user space the rest, and nobody
// but the counters can tell. On a veth, checksums are yet to be filled in.
func TestAssist(t *testing.T) {
	for _, sourcePorts := range []int{0, 4} {
		t.Run(fmt.Sprintf("source ports %d", sourcePorts), func(t *testing.T) {
			a, b := newAssistedPair(t, setup{sourcePorts: sourcePorts})
			exchangeUDP(t, a, b, false)
			before := byKernel(a)
			if before.TxPackets < 8 || before.RxPackets < 8 {
				t.Errorf("small packets did not go by the kernel: %+v", before)
			}
			exchangeUDP(t, a, b, true)
			if now := byKernel(a); now != before {
				t.Errorf("IPv6 went by the kernel: %+v, before %+v", now, before)
			}
			for _, inner6 := range []bool{false, true} {
				transferTCP(t, a, b, inner6, transferSize)
				transferTCP(t, b, a, inner6, transferSize)
			}
			for i, n := range []*node{a, b} {
				state := n.Table().Peers()[0].State
				waitFor(t, "the peer's counters to be the sum", func() bool { // an acknowledgement may be on its way
					p, kernel := n.Status().Peers[0], byKernel(n)
					return p.TxPackets == state.Tx.Packets.Load()+kernel.TxPackets && p.RxBytes == state.Rx.Bytes.Load()+kernel.RxBytes
				})
				t.Logf("node %d: %d bytes sent by user space, by the kernel %+v", i+1, state.Tx.Bytes.Load(), byKernel(n))
				if user := state.Tx.Bytes.Load(); user < transferSize {
					t.Errorf("superpackets did not go by user space: %d bytes", user)
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

// Between a node with the assist and one without, user space carries all, for
// what is read from a socket must have its checksum.
func TestAssistOnOneSide(t *testing.T) {
	for name, flannel := range map[string]bool{"weft": false, "flannel": true} {
		t.Run(name, func(t *testing.T) {
			namespaces := newUnderlay(t, setup{})
			a := newNode(t, namespaces[0], 1, setup{assist: true})
			b := newNode(t, namespaces[1], 2, setup{flannel: flannel})
			a.SetPeers(leases(b))
			b.SetPeers(leases(a))
			ping(t, a, b.ipv4)
			exchangeUDP(t, a, b, false)
			exchangeUDP(t, b, a, false)
			transferTCP(t, a, b, false, 4<<20)
			transferTCP(t, b, a, false, 4<<20)
			if got := byKernel(a); got != (tunnel.Carried{}) {
				t.Errorf("the kernel carried %+v", got)
			}
			want := "user space"
			if flannel {
				want = "flannel node"
			}
			if notes := strings.Join(a.Status().Peers[0].Notes, "; "); !strings.Contains(notes, want) {
				t.Errorf("notes of the peer: %q", notes)
			}
		})
	}
}

// Peers may send by the kernel though this node has no assist, which they do not
// know yet, and before this node knows that they have it: while etcd does not
// answer, for as long as that takes. User space takes that too, checksums that a
// card was to finish included.
func TestAssistAnnouncedInVain(t *testing.T) {
	for name, known := range map[string]bool{"by nodes known to have it": true, "by others": false} {
		t.Run(name, func(t *testing.T) {
			namespaces := newUnderlay(t, setup{})
			a := newNode(t, namespaces[0], 1, setup{assist: true})
			b := newNode(t, namespaces[1], 2, setup{})
			b.lease.Attrs.BackendData = []byte(`{"weft":1,"assist":true}`)
			a.SetPeers(leases(b))
			if !known {
				a.lease.Attrs.BackendData = tunnel.Announcement()
			}
			b.SetPeers(leases(a))
			ping(t, a, b.ipv4)
			exchangeUDP(t, a, b, false)
			transferTCP(t, a, b, false, 4<<20)
			transferTCP(t, b, a, false, 4<<20)
			if c := byKernel(a); c.TxPackets < 8 || c.RxPackets != 0 {
				t.Errorf("the kernel carried %+v", c)
			}
		})
	}
}

// What a lease announces, and what the status says.
func TestAssistAnnounced(t *testing.T) {
	ns := newUnderlay(t, setup{})[0]
	for _, c := range []struct {
		name    string
		setup   setup
		change  func(*Config)
		data    string
		because string
	}{
		{"on", setup{assist: true}, nil, `{"weft":1,"assist":true}`, ""},
		{"on, with source ports", setup{assist: true, sourcePorts: 2}, nil, `{"weft":1,"source_ports":true,"assist":true}`, ""},
		{"disabled", setup{}, nil, `{"weft":1}`, "disabled"},
		{"IPv6 only", setup{assist: true, outer6: true}, nil, `{"weft":1}`, "IPv6 only"},
		{"not Ethernet", setup{assist: true}, func(c *Config) { c.Underlay.Name = "lo" }, `{"weft":1}`, "lo is not Ethernet but loopback"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check(t, ns.Do(func() error {
				cfg := testConfig(1, c.setup, new(logBuffer))
				if c.change != nil {
					c.change(&cfg)
				}
				b, err := New(cfg)
				check(t, err)
				_, data, _ := b.Data()
				if string(data) != c.data || !json.Valid(data) {
					t.Errorf("it announces %s, want %s", data, c.data)
				}
				if why := b.caps.why[Assist]; b.caps.on[Assist] != (c.because == "") || !strings.Contains(why, c.because) {
					t.Errorf("it is off because %q", why)
				}
				return nil
			}))
		})
	}
}

// A node that has lost its lease carries nothing, by the kernel neither; nor
// does one that was closed, or whose peer has gone.
func TestAssistEnds(t *testing.T) {
	a, b := newAssistedPair(t, setup{})
	from, to := listenUDP(t, a, a.ipv4), listenUDP(t, b, b.ipv4)
	carries := func() {
		t.Helper()
		before := byKernel(a)
		if !arrives(t, from, to, 100) || !arrives(t, to, from, 100) {
			t.Error("packets do not arrive")
		}
		if now := byKernel(a); now.TxPackets == before.TxPackets || now.RxPackets == before.RxPackets {
			t.Errorf("the kernel carried %+v, before %+v", now, before)
		}
	}
	carries()
	check(t, a.SetOwn(subnet.Lease{}))
	before := byKernel(a)
	causes(t, "drops to be counted", func() {
		if !lost(t, from, to, 100) || !lost(t, to, from, 100) {
			t.Error("a node without a lease carries packets")
		}
		if now := byKernel(a); now != before {
			t.Errorf("the kernel of a node without a lease carries packets: %+v, before %+v", now, before)
		}
	}, func() bool {
		d := a.drops()
		return d["tx_no_lease"] > 0 && d["rx_no_lease"] > 0
	})
	check(t, a.SetOwn(a.lease))
	carries()
	a.SetPeers(nil)
	if !lost(t, from, to, 100) || !lost(t, to, from, 100) {
		t.Error("packets of a peer that is gone are carried")
	}
	if now := byKernel(a); now.TxPackets == 0 {
		t.Error("what the kernel carried is forgotten with the peer")
	}
	a.SetPeers(leases(b))
	carries()
}

// A peer whose lease says no more that it has the assist is sent everything by
// user space; what the kernel counted stays counted.
func TestAssistOfPeerEnds(t *testing.T) {
	a, b := newAssistedPair(t, setup{})
	exchangeUDP(t, a, b, false)
	counted, kernel := a.Status().Peers[0], byKernel(a)
	if kernel.TxPackets == 0 {
		t.Fatal("the kernel has carried nothing")
	}
	without := b.lease
	without.Attrs.BackendData = tunnel.Announcement()
	a.SetPeers([]subnet.Lease{without})
	now := a.Status().Peers[0]
	if now.TxBytes < counted.TxBytes || now.RxPackets < counted.RxPackets {
		t.Errorf("counted %+v, before %+v", now, counted)
	}
	if got := byKernel(a); got != kernel {
		t.Errorf("the kernel carried %+v, before %+v", got, kernel)
	}
	from, to := listenUDP(t, a, a.ipv4), listenUDP(t, b, b.ipv4)
	if !arrives(t, from, to, 100) {
		t.Error("a packet does not arrive")
	}
	if got := byKernel(a); got != kernel {
		t.Error("the kernel sends to a peer that does not announce it")
	}
	check(t, a.Close())
	if closed := a.Status().Peers[0]; closed.TxPackets <= now.TxPackets-1 || closed.RxBytes < now.RxBytes {
		t.Errorf("counted %+v, before %+v", closed, now)
	}
}

// When the process dies, the programs are detached right after the TUN.
func TestAssistDescriptors(t *testing.T) {
	newAssistedPair(t, setup{})
	infos, err := filepath.Glob("/proc/self/fdinfo/*")
	check(t, err)
	links := 0
	for _, path := range infos {
		info, err := os.ReadFile(path)
		if err != nil || !strings.Contains(string(info), "link_type:\ttcx") {
			continue // of a file that is closed by now, or another kind
		}
		links++
		if n, err := strconv.Atoi(filepath.Base(path)); err != nil || n < linkDescriptors || n >= tunDescriptors {
			t.Errorf("a link has the descriptor %d (%v)", n, err)
		}
	}
	if links != 4 {
		t.Errorf("%d links of two engines", links)
	}
}

// A node whose programs cannot be attached, though its kernel has what it takes,
// does without: it says why, and that it has the assist no more.
func TestAssistCannotStart(t *testing.T) {
	namespaces := newUnderlay(t, setup{})
	ns := namespaces[0]
	check(t, ns.Sysctl("net/ipv4/ip_forward", "1"))
	files := openFiles(t)
	a := &node{Namespace: ns, lease: testLease(1, setup{}), log: new(logBuffer)}
	a.ipv4, a.ipv6 = a.lease.Subnet.IPv4.Addr(), a.lease.Subnet.IPv6.Addr()
	check(t, ns.Do(func() (err error) {
		a.Backend, err = New(testConfig(1, setup{assist: true}, a.log))
		check(t, err)
		if !a.Assists() {
			t.Error("the kernel has no assist")
		}
		a.cfg.Underlay.Name = "eth9"
		return a.Backend.Start(t.Context(), a.lease)
	}))
	if c := capability(t, a, Assist); c.On || a.Assists() || !strings.Contains(c.Why, "eth9") || !strings.Contains(c.Why, "--udp-disable=assist does without") {
		t.Errorf("the status says %+v", c)
	}
	const what = "the kernel carries no packets by itself until the tunnel is made anew"
	if problems := strings.Join(a.Status().Problems, "\n"); !strings.Contains(problems, what) || a.log.count(what) != 1 {
		t.Errorf("problems: %s; log:\n%s", problems, a.log)
	}
	t.Run("carries", func(t *testing.T) {
		b := newNode(t, namespaces[1], 2, setup{assist: true})
		a.SetPeers(leases(b))
		a.lease.Attrs.BackendData = []byte(`{"weft":1,"assist":true}`) // as b has it yet
		b.SetPeers(leases(a))
		exchangeUDP(t, a, b, false)
		transferTCP(t, b, a, false, 4<<20)
		check(t, a.Health())
	})
	check(t, a.Close())
	if n := openFiles(t); n != files {
		t.Errorf("%d files open before, %d after", files, n)
	}
}
