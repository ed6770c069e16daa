package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

const (
	tunnelPort = 8285
	probePort  = 8286 // of inner packets
	innerPort  = 9999
)

// What is no packet for this node, from a node with a lease, goes nowhere:
// neither by weftd nor, of datagrams without a checksum, by the kernel.
func TestForeignAndBrokenDatagrams(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	a, b := c.hosts[0], c.hosts[1]
	arrived := c.listen(a.Container.Namespace, a.Container.IPv4)
	strays := c.listen(a.Namespace, a.IPv4)
	for _, unchecked := range []bool{false, true} {
		peer, stranger := c.tunnelTo(b.Namespace, a, unchecked), c.tunnelTo(c.Switch, a, unchecked)
		before, byKernel := c.status(0).drops(), c.received(0).kernel
		peer(udpPacket(b.Container.IPv4, a.Container.IPv4, "first"))
		wrong := c.sendForeign(peer, stranger) + c.sendBroken(peer)
		peer(udpPacket(b.Container.IPv4, a.Container.IPv4, "last"))

		if got := arrived("last"); !slices.Equal(got, []string{"first", "last"}) {
			t.Errorf("unchecked %v: the container received %q", unchecked, got)
		}
		c.eventually(func() string {
			if dropped := c.status(0).drops() - before; dropped < uint64(wrong) {
				return fmt.Sprintf("unchecked %v: of %d datagrams %d are counted as dropped", unchecked, wrong, dropped)
			}
			return ""
		})
		if n := c.received(0).kernel - byKernel; (n == 2) != unchecked || n > 2 {
			t.Errorf("unchecked %v: the kernel took %d", unchecked, n)
		}
		c.send(b.Namespace, a.IPv4, "last") // by way of the underlay, not the tunnel
		if got := strays("last"); !slices.Equal(got, []string{"last"}) {
			t.Errorf("unchecked %v: the host received %q", unchecked, got)
		}
	}
	c.reachAll()
}

// sendForeign sends host1 whole packets that it must not take, and returns how
// many.
func (c *cluster) sendForeign(peer, stranger func(payload []byte)) (sent int) {
	src, dst := c.hosts[1].Container.IPv4, c.hosts[0].Container.IPv4
	stranger(udpPacket(src, dst, "from an address that no lease names"))
	peer(udpPacket(netip.MustParseAddr("10.5.0.9"), dst, "inner source of no lease"))
	peer(udpPacket(dst.Next(), dst, "inner source of the receiver's own subnet"))
	peer(udpPacket(netip.MustParseAddr("192.0.2.2"), dst, "inner source on the underlay"))
	peer(udpPacket(src, c.hosts[0].IPv4, "inner destination on the underlay"))
	peer(udpPacket(src, netip.MustParseAddr("10.5.0.9"), "inner destination of no lease"))
	peer(udpPacket(src, netip.MustParseAddr("127.0.0.1"), "inner destination on loopback"))
	return 7
}

// sendBroken sends host1 what is no packet, and returns how many.
func (c *cluster) sendBroken(peer func(payload []byte)) (sent int) {
	good := func(text string) []byte { return udpPacket(c.hosts[1].Container.IPv4, c.hosts[0].Container.IPv4, text) }
	for _, n := range []int{0, 1, 8, 19} {
		peer(good("truncated")[:n])
		sent++
	}
	for _, change := range []func(b []byte){
		func(b []byte) { b[0] = 5<<4 | 5 },                       // no IP version
		func(b []byte) { b[0] = 4<<4 | 4 },                       // header of 16 bytes
		func(b []byte) { b[0] = 4<<4 | 15 },                      // header of 60 bytes
		func(b []byte) { binary.BigEndian.PutUint16(b[2:], 19) }, // length below the header's
		func(b []byte) { binary.BigEndian.PutUint16(b[2:], 1e4) },
		func(b []byte) { b[0] = 6<<4 | 5 },
	} {
		packet := good("broken")
		change(packet)
		peer(packet)
		sent++
	}
	oversized := good(string(make([]byte, 60_000)))
	binary.BigEndian.PutUint16(oversized[2:], 40_000) // and so it is not as long as it says
	peer(oversized)
	return sent
}

// An address that nobody leases is answered for, and not left to time out.
func TestSubnetThatNobodyLeases(t *testing.T) {
	c := start(t, spec{})
	nobody := netip.MustParseAddr("10.5.0.9")
	c.eventually(func() string {
		if c.icmpAnswer(c.hosts[0].Container.Namespace, nobody) != ipv4.ICMPTypeDestinationUnreachable {
			return "no ICMP unreachable from the tunnel"
		}
		return ""
	})
}

// udpPacket is an IPv4 packet with a UDP datagram for innerPort.
func udpPacket(src, dst netip.Addr, text string) []byte {
	b := make([]byte, 28, 28+len(text))
	b[0], b[8], b[9] = 4<<4|5, 64, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[2:], uint16(28+len(text)))
	copy(b[12:], src.AsSlice())
	copy(b[16:], dst.AsSlice())
	var sum uint32
	for i := 0; i < 20; i += 2 {
		sum += uint32(binary.BigEndian.Uint16(b[i:]))
	}
	sum = sum>>16 + sum&0xffff
	binary.BigEndian.PutUint16(b[10:], ^uint16(sum+sum>>16))
	binary.BigEndian.PutUint16(b[20:], innerPort)
	binary.BigEndian.PutUint16(b[22:], innerPort)
	binary.BigEndian.PutUint16(b[24:], uint16(8+len(text))) // checksum 0: none
	return append(b, text...)
}

// tunnelTo returns a function that sends datagrams to a host's tunnel port, with
// a checksum or without.
func (c *cluster) tunnelTo(from *lab.Namespace, to *lab.Host, unchecked bool) func(payload []byte) {
	c.t.Helper()
	dialer := net.Dialer{Control: func(_, _ string, conn syscall.RawConn) (err error) {
		if controlErr := conn.Control(func(fd uintptr) {
			if unchecked {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1)
			}
		}); controlErr != nil {
			return controlErr
		}
		return err
	}}
	conn, err := from.Dial(c.t.Context(), dialer, "udp4", netip.AddrPortFrom(to.IPv4, tunnelPort).String())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return func(payload []byte) {
		c.t.Helper()
		if _, err := conn.Write(payload); err != nil {
			c.t.Error(err)
		}
	}
}

// listen receives on innerPort. The function it returns waits for a text and
// returns all texts received so far.
func (c *cluster) listen(ns *lab.Namespace, addr netip.Addr) func(last string) []string {
	c.t.Helper()
	conn, err := ns.ListenPacket(c.t.Context(), net.ListenConfig{}, "udp4", netip.AddrPortFrom(addr, innerPort).String())
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { conn.Close() })
	return func(last string) (texts []string) {
		c.t.Helper()
		buf := make([]byte, 1<<16)
		conn.SetReadDeadline(time.Now().Add(patience))
		for {
			n, _, err := conn.ReadFrom(buf)
			if err != nil {
				c.t.Errorf("%q did not arrive: %v", last, err)
				return texts
			}
			texts = append(texts, string(buf[:n]))
			if string(buf[:n]) == last {
				return texts
			}
		}
	}
}

// send sends a datagram to innerPort, without a tunnel.
func (c *cluster) send(from *lab.Namespace, to netip.Addr, text string) {
	c.t.Helper()
	conn, err := from.Dial(c.t.Context(), net.Dialer{}, "udp4", netip.AddrPortFrom(to, innerPort).String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(text)); err != nil {
		c.t.Fatal(err)
	}
}

// icmpAnswer sends a UDP datagram and returns the type of the ICMP message
// that answers it, or -1.
func (c *cluster) icmpAnswer(from *lab.Namespace, to netip.Addr) ipv4.ICMPType {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Second)
	defer cancel()
	answers, err := from.ListenPacket(ctx, net.ListenConfig{}, "ip4:icmp", "0.0.0.0")
	if err != nil {
		c.t.Fatal(err)
	}
	defer answers.Close()
	conn, err := from.Dial(ctx, net.Dialer{}, "udp4", netip.AddrPortFrom(to, innerPort).String())
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("weft")); err != nil {
		return -1
	}
	answers.SetReadDeadline(time.Now().Add(time.Second))
	buf := make([]byte, 1500)
	n, _, err := answers.ReadFrom(buf)
	if err != nil {
		return -1
	}
	m, err := icmp.ParseMessage(unix.IPPROTO_ICMP, buf[:n])
	if err != nil {
		c.t.Fatal(err)
	}
	return m.Type.(ipv4.ICMPType)
}
