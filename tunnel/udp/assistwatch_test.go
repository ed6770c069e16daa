package udp

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/tunnel"
)

// IPsec policies have user space carry all, and the lease say so, while there
// are any.
func TestAssistMakesWayForIPsec(t *testing.T) {
	a, b := newAssistedPair(t, setup{})
	from, to := listenUDP(t, a, a.ipv4), listenUDP(t, b, b.ipv4)
	now := time.Now()
	exchange := func(kernel bool) {
		t.Helper()
		a.assisted.lookAtIPsec(now)
		before := byKernel(a)
		if !arrives(t, from, to, 100) {
			t.Error("a packet does not arrive")
		}
		if now := byKernel(a); now.TxPackets > before.TxPackets != kernel {
			t.Errorf("the kernel carried %+v, before %+v", now, before)
		}
		if c := capability(t, a, Assist); c.On != kernel || strings.Contains(c.Why, "IPsec") == kernel {
			t.Errorf("the status says %+v", c)
		}
		if _, data, _ := a.Data(); tunnel.ReadAnnounced(data).Assist != kernel {
			t.Errorf("the lease is to say %s", data)
		}
	}
	exchange(true)
	ip(t, a.Namespace, "xfrm", "policy", "add", "src", "198.51.100.0/24", "dst", "203.0.113.0/24", "dir", "out",
		"tmpl", "src", "192.0.2.1", "dst", "203.0.113.1", "proto", "esp", "mode", "tunnel")
	exchange(false)
	exchange(false)
	ip(t, a.Namespace, "xfrm", "policy", "flush")
	now = now.Add(ipsecPause - time.Second)
	exchange(false)
	now = time.Now().Add(2 * ipsecPause) // the watcher may have seen them later
	exchange(true)
	if n := a.log.count("user space carries all packets for now"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, a.log)
	}
}

// A program that is detached because its interface is gone is told of, and user
// space has all.
func TestAssistGivesUp(t *testing.T) {
	a, b := newAssistedPair(t, setup{})
	exchangeUDP(t, a, b, false)
	before := byKernel(a)
	check(t, a.LinkDelete("eth0"))
	for range 2 {
		a.assisted.lookAtPrograms()
	}
	const what = "the kernel carries no packets by itself"
	if problems := strings.Join(a.Status().Problems, "\n"); !strings.Contains(problems, what) {
		t.Errorf("problems: %s", problems)
	}
	if n := a.log.count(what); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, a.log)
	}
	if c := capability(t, a, Assist); c.On || a.Assists() || byKernel(a) != before {
		t.Errorf("it is still there: %+v, %+v", c, byKernel(a))
	}
	a.SetPeers(leases(b)) // which the kernel is not told any more
	check(t, a.Health())
}

// An ICMP error about a datagram that the kernel has sent comes to the socket as
// any other, and quotes what was sent.
func TestAssistIsRefused(t *testing.T) {
	a, b := newAssistedPair(t, setup{})
	check(t, b.Close())
	peer := a.Table().Peers()[0]
	userBefore, kernelBefore := peer.State.Tx.Packets.Load(), byKernel(a).TxPackets
	from := listenUDP(t, a, a.ipv4)
	waitFor(t, "port unreachable", func() bool {
		_, err := from.WriteTo(make([]byte, 100), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.ipv4, 9)))
		check(t, err)
		return peer.State.Refused.Load() > 0
	})
	if user, kernel := peer.State.Tx.Packets.Load()-userBefore, byKernel(a).TxPackets-kernelBefore; user > 0 || kernel == 0 {
		t.Errorf("%d packets were sent by user space, %d by the kernel", user, kernel)
	}
	check(t, a.Health())
}

// A router in the middle has a smaller MTU than the hosts. The kernel's datagram
// finds it, and the kernel sends no more that are too long, until the path MTU
// lapses.
func TestAssistLearnsPathMTU(t *testing.T) {
	const narrow = 1400
	namespaces := newUnderlay(t, setup{routed: true})
	a, b := pairOn(t, namespaces, setup{assist: true})
	to := listenUDP(t, b, b.ipv4)
	// Each is a flow of its own: one that user space had is the kernel's only
	// after a silence.
	flow := func() net.PacketConn {
		c := listenUDP(t, a, a.ipv4)
		probing(t, c)
		return c
	}
	full, fits := a.MTU()-28, narrow-28-28
	goes := func(from net.PacketConn, payload int) (byKernels bool) {
		t.Helper()
		before := byKernel(a)
		if !arrives(t, from, to, payload) {
			t.Errorf("a packet of %d bytes does not arrive", payload)
		}
		return byKernel(a).TxPackets > before.TxPackets
	}
	waitFor(t, "the way", func() bool { return !lost(t, flow(), to, 100) })
	if !goes(flow(), full) {
		t.Error("a packet that fits exactly does not go by the kernel")
	}
	ip(t, namespaces[3], "link", "set", "port2", "mtu", fmt.Sprint(narrow))
	user := a.Table().Peers()[0].State.Tx.Packets.Load()
	causes(t, "the path MTU", func() {
		if !lost(t, flow(), to, full) {
			t.Fatal("a packet longer than the way arrives")
		}
		if n := a.Table().Peers()[0].State.Tx.Packets.Load(); n != user {
			t.Errorf("user space sent it")
		}
	}, func() bool { return pathMTU(a) == narrow })
	waitFor(t, "the kernel to know it, and a packet with DF that is one byte too long to be refused", func() bool {
		before := a.drops()["tx_too_big"]
		return lost(t, flow(), to, fits+1) && a.drops()["tx_too_big"] == before+1
	})
	if !goes(flow(), fits) {
		t.Error("a packet that fits exactly does not go by the kernel")
	}
	unmarked := flow()
	fragmenting(t, unmarked)
	if goes(unmarked, fits+1) {
		t.Error("a packet to be fragmented went by the kernel")
	}
	transferTCP(t, a, b, false, 4<<20)

	ip(t, namespaces[3], "link", "set", "port2", "mtu", "1500")
	ip(t, namespaces[0], "route", "flush", "cache") // where the host's own path MTUs are, for ten minutes
	a.Table().Peers()[0].State.PathMTU.Set(narrow, time.Now().Add(time.Millisecond))
	waitFor(t, "the path MTU to lapse", func() bool { return pathMTU(a) == 0 && goes(flow(), full) })
}

// The kernel keeps to what user space knows of a way, also where it does not know
// it itself.
func TestAssistKeepsToPathMTU(t *testing.T) {
	const narrow = 1400
	a, b := newAssistedPair(t, setup{})
	to := listenUDP(t, b, b.ipv4)
	a.Table().Peers()[0].State.PathMTU.Set(narrow, time.Now().Add(time.Minute))
	a.assisted.learned()
	waitFor(t, "a packet with DF that is one byte too long to be refused", func() bool {
		from, before := listenUDP(t, a, a.ipv4), a.drops()["tx_too_big"]
		probing(t, from)
		return lost(t, from, to, narrow-28-28+1) && a.drops()["tx_too_big"] == before+1
	})
}
