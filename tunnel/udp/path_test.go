package udp

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// probing has a UDP socket set DF (IPv4) and believe no path MTU, so that each
// datagram meets the engine; fragmenting has it leave DF off.
func probing(t *testing.T, c net.PacketConn) {
	setMTUDiscovery(t, c, unix.IP_PMTUDISC_PROBE)
}
func fragmenting(t *testing.T, c net.PacketConn) {
	setMTUDiscovery(t, c, unix.IP_PMTUDISC_DONT)
}

func setMTUDiscovery(t *testing.T, c net.PacketConn, value int) {
	t.Helper()
	raw, err := c.(*net.UDPConn).SyscallConn()
	check(t, err)
	var errSet error
	check(t, raw.Control(func(fd uintptr) {
		if c.LocalAddr().(*net.UDPAddr).IP.To4() != nil {
			errSet = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_MTU_DISCOVER, value)
		} else {
			errSet = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, value)
		}
	}))
	check(t, errSet)
}

var serial atomic.Uint64

// arrives sends one datagram of the given payload, at least 8 bytes, and
// reports whether it came; lost is for those that should not. Late ones of
// former calls are passed over.
func arrives(t *testing.T, from, to net.PacketConn, payload int) bool {
	t.Helper()
	return labtest.Lossless(t, func() error {
		if !sendOne(t, from, to, payload, 5*time.Second) {
			return fmt.Errorf("a datagram of %d bytes does not arrive", payload)
		}
		return nil
	}) == nil
}

func lost(t *testing.T, from, to net.PacketConn, payload int) bool {
	t.Helper()
	return !sendOne(t, from, to, payload, 200*time.Millisecond)
}

func sendOne(t *testing.T, from, to net.PacketConn, payload int, wait time.Duration) bool {
	t.Helper()
	sent := binary.BigEndian.AppendUint64(nil, serial.Add(1))
	sent = append(sent, make([]byte, payload-len(sent))...)
	if _, err := from.WriteTo(sent, to.LocalAddr()); err != nil && !errors.Is(err, unix.EMSGSIZE) {
		t.Fatal(err)
	}
	to.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 65536)
	for {
		n, _, err := to.ReadFrom(buf)
		if err != nil {
			return false
		}
		if bytes.Equal(buf[:n], sent) {
			return true
		}
	}
}

// causes waits for what packets, which do sends, are to bring about; see labtest.Lossless.
func causes(t *testing.T, what string, do func(), ok func() bool) {
	t.Helper()
	check(t, labtest.Lossless(t, func() error {
		do()
		for deadline := time.Now().Add(patience); !ok(); time.Sleep(2 * time.Millisecond) {
			if time.Now().After(deadline) {
				return fmt.Errorf("waited in vain for %s", what)
			}
		}
		return nil
	}))
}

func pathMTU(n *node) int { return n.Table().Peers()[0].State.PathMTU.Get() }

// A router in the middle has a smaller MTU than the hosts. The first packet is
// lost to it; from then on the engine knows, and says so to senders.
func TestPathMTU(t *testing.T) {
	const narrow = 1400
	for _, outer6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("outer IPv%d", version(outer6)), func(t *testing.T) {
			s := setup{outer6: outer6, routed: true}
			namespaces := newUnderlay(t, s)
			a, b := pairOn(t, namespaces, s)
			router := namespaces[3]
			overhead := 28
			if outer6 {
				overhead = 48
			}
			for _, inner6 := range []bool{false, true} {
				t.Run(fmt.Sprintf("inner IPv%d", version(inner6)), func(t *testing.T) {
					headers := 28
					if inner6 {
						headers = 48
					}
					full := a.MTU() - headers
					from, to := listenUDP(t, a, a.inner(inner6)), listenUDP(t, b, b.inner(inner6))
					probing(t, from)
					a.Table().Peers()[0].State.PathMTU.Set(1, time.Now()) // lapsed
					// The router needs some time after its making.
					waitFor(t, "the way", func() bool { return !lost(t, from, to, 100) })
					if !arrives(t, from, to, full) {
						t.Fatal("a packet that fits exactly does not arrive")
					}
					ip(t, router, "link", "set", "port2", "mtu", fmt.Sprint(narrow))
					ip(t, namespaces[1], "link", "set", "eth0", "mtu", fmt.Sprint(narrow))
					defer ip(t, namespaces[1], "link", "set", "eth0", "mtu", "1500")
					defer ip(t, router, "link", "set", "port2", "mtu", "1500")
					causes(t, "the path MTU", func() {
						if !lost(t, from, to, full) {
							t.Fatal("a packet longer than the way arrives")
						}
					}, func() bool { return pathMTU(a) == narrow })
					fits := narrow - overhead - headers
					if !arrives(t, from, to, fits) {
						t.Error("a packet that fits exactly does not arrive")
					}
					before := a.drops()["tx_too_big"]
					if !lost(t, from, to, fits+1) {
						t.Error("a packet with DF that is one byte too long arrives")
					}
					tooBig := func() uint64 { return a.drops()["tx_too_big"] - before }
					waitFor(t, "a drop to be counted", func() bool { return tooBig() > 0 })
					if got := tooBig(); got != 1 {
						t.Errorf("%d drops of one packet: %v", got, a.drops())
					}
					fragmenting(t, from)
					if !inner6 && !arrives(t, from, to, fits+1) {
						t.Error("a packet without DF that is one byte too long does not arrive")
					}
					// TCP, having been told by ICMP, sends segments that fit.
					transferTCP(t, a, b, inner6, 4<<20)
					transferTCP(t, b, a, inner6, 4<<20)
				})
			}
		})
	}
}

// pairOn starts nodes 1 and 2 in their namespaces.
func pairOn(t *testing.T, namespaces []*lab.Namespace, s setup) (a, b *node) {
	t.Helper()
	a, b = newNode(t, namespaces[0], 1, s), newNode(t, namespaces[1], 2, s)
	a.SetPeers(leases(b))
	b.SetPeers(leases(a))
	return a, b
}

// This host's own interface becomes narrower than what the engine was told.
func TestLocalMTU(t *testing.T) {
	for _, outer6 := range []bool{false, true} {
		t.Run(fmt.Sprintf("outer IPv%d", version(outer6)), func(t *testing.T) {
			a, b := newPair(t, setup{outer6: outer6})
			ip(t, a.Namespace, "link", "set", "eth0", "mtu", "1400")
			transferTCP(t, a, b, false, 4<<20)
			if got := pathMTU(a); got != 1400 {
				t.Errorf("path MTU is %d", got)
			}
			if a.Table().Peers()[0].State.Unbatched.Get() != 0 {
				t.Error("the MTU was taken for a failure of segmentation")
			}
			n := &a.workers[0].sender.counters.out
			if average := float64(n.packets.Load()) / float64(n.messages.Load()); average < 4 {
				t.Errorf("%.1f datagrams of a send", average)
			}
		})
	}
}

// giveUp is when a dial ends that nobody has answered: before TCP would give up by itself,
// after two minutes.
const giveUp = 30 * time.Second

// Nobody leases the destination: the kernel is told, and TCP gives up at once.
func TestUnleasedIsUnreachable(t *testing.T) {
	a, _ := newPair(t, setup{})
	for _, to := range []string{"10.5.77.1:80", "[fd00:5:77::1]:80"} {
		ctx, cancel := context.WithTimeout(t.Context(), giveUp)
		_, err := a.Dial(ctx, net.Dialer{}, "tcp", to)
		cancel()
		if !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("dial %s: %v", to, err)
		}
	}
	if a.drops()["tx_no_peer"] == 0 {
		t.Errorf("drops: %v", a.drops())
	}
}

// Forwarded packets get their ICMP errors too, from the tunnel address.
func TestUnleasedFromContainer(t *testing.T) {
	a, _ := newPair(t, setup{})
	container := newContainer(t, a)
	for _, to := range []string{"10.5.77.1:80", "[fd00:5:77::1]:80"} {
		ctx, cancel := context.WithTimeout(t.Context(), giveUp)
		_, err := container.Dial(ctx, net.Dialer{}, "tcp", to)
		cancel()
		if !errors.Is(err, syscall.ENETUNREACH) && !errors.Is(err, syscall.EHOSTUNREACH) {
			t.Errorf("dial %s: %v", to, err)
		}
	}
}

// The underlay goes down and comes back: what is sent meanwhile is counted,
// and nothing need be done.
func TestUnderlayDown(t *testing.T) {
	a, b := newPair(t, setup{})
	transferTCP(t, a, b, false, 1<<20)
	check(t, a.LinkDown("eth0"))
	from := listenUDP(t, a, a.ipv4)
	for range 50 {
		if _, err := from.WriteTo(make([]byte, 100), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.ipv4, 9))); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, "drops", func() bool { return a.drops()["tx_underlay_unreachable"] >= 50 })
	waitFor(t, "a line in the log", func() bool { return a.log.count("cannot send to a peer") > 0 })
	if n := a.log.count("cannot send to a peer"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, a.log)
	}
	check(t, a.Health())
	check(t, a.LinkUp("eth0"))
	transferTCP(t, a, b, false, 1<<20)
}

// The peer's host is there but its daemon is not.
func TestPortUnreachable(t *testing.T) {
	a, b := newPair(t, setup{})
	check(t, b.Close())
	from := listenUDP(t, a, a.ipv4)
	refused := func() uint64 { return a.Table().Peers()[0].State.Refused.Load() }
	waitFor(t, "port unreachable", func() bool {
		_, err := from.WriteTo(make([]byte, 100), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.ipv4, 9)))
		check(t, err)
		return refused() > 0
	})
	check(t, a.Health())
	if notes := a.Status().Peers[0].Notes; len(notes) == 0 {
		t.Error("the status says nothing of it")
	}
}
