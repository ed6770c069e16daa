package udp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel/packet"
)

// rawSocket sends and receives the tunnel's datagrams as they are.
func rawSocket(t *testing.T, ns *lab.Namespace, on netip.AddrPort) net.PacketConn {
	t.Helper()
	c, err := ns.ListenPacket(t.Context(), net.ListenConfig{}, "udp", on.String())
	check(t, err)
	t.Cleanup(func() { c.Close() })
	return c
}

// Datagrams that do not belong, from a stranger and from a peer's address:
// none comes through, and the counters say why.
func TestNobodyInWhoDoesNotBelong(t *testing.T) {
	namespaces := newUnderlay(t, setup{})
	a := newNode(t, namespaces[0], 1, setup{})
	a.SetPeers([]subnet.Lease{testLease(2, setup{})})
	engine := net.UDPAddrFromAddrPort(netip.AddrPortFrom(outer(1, false), DefaultPort))
	// Not the usual source port: it must not matter.
	peer := rawSocket(t, namespaces[1], netip.AddrPortFrom(outer(2, false), 40000))
	stranger := rawSocket(t, namespaces[2], netip.AddrPortFrom(outer(3, false), DefaultPort))
	sink := listenUDP(t, a, a.ipv4)
	to := sink.LocalAddr().(*net.UDPAddr).AddrPort()
	inner := func(src, dst string, payload int) []byte {
		b := udp4(src, dst, make([]byte, payload))
		binary.BigEndian.PutUint16(b[22:], to.Port())
		b[26], b[27] = 0, 0 // no UDP checksum
		return b
	}
	good := inner(outside, "10.5.1.0", 10)
	version := bytes.Clone(good)
	version[0] = 0x95
	for _, c := range []struct {
		name     string
		from     net.PacketConn
		datagram []byte
		reason   string
	}{
		{"a stranger's", stranger, good, "rx_unknown_sender"},
		{"a stranger's nonsense", stranger, []byte{0}, "rx_unknown_sender"},
		{"spoofed: ours", peer, inner("10.5.1.0", "10.5.1.0", 10), "rx_spoofed_source"},
		{"spoofed: unleased", peer, inner("10.5.77.1", "10.5.1.0", 10), "rx_spoofed_source"},
		{"spoofed: the world's", peer, inner("8.8.8.8", "10.5.1.0", 10), "rx_spoofed_source"},
		{"to another node", peer, inner(outside, "10.5.3.1", 10), "rx_not_for_us"},
		{"to the underlay", peer, inner(outside, "192.0.2.1", 10), "rx_not_for_us"},
		{"to everyone", peer, inner(outside, "255.255.255.255", 10), "rx_not_for_us"},
		{"empty", peer, nil, "rx_truncated"},
		{"truncated", peer, good[:len(good)-1], "rx_truncated"},
		{"trailing", peer, append(bytes.Clone(good), 0), "rx_trailing_bytes"},
		{"not IP", peer, []byte("weft? weft! weft. weft, weft"), "rx_bad_ip_version"},
		{"no such version", peer, version, "rx_bad_ip_version"},
		{"of the longest, nonsense", peer, bytes.Repeat([]byte{0xff}, 65507), "rx_bad_ip_version"},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := a.drops()[c.reason]
			causes(t, c.reason, func() {
				if _, err := c.from.WriteTo(c.datagram, engine); err != nil {
					t.Fatal(err)
				}
			}, func() bool { return a.drops()[c.reason] == before+1 })
		})
	}
	// None of them arrived, and good ones do: also the longest, in fragments.
	for _, payload := range []int{10, 65507 - 28} {
		check(t, labtest.Lossless(t, func() error {
			_, err := peer.WriteTo(inner(outside, "10.5.1.0", payload), engine)
			check(t, err)
			from, err := receives(t, sink, make([]byte, payload))
			if err == nil && from.(*net.UDPAddr).AddrPort().Addr() != addr(outside) {
				t.Fatalf("received from %v", from)
			}
			return err
		}))
	}
	if rx := a.Status().Peers[0].RxPackets; rx != 2 {
		t.Errorf("%d packets counted as received, drops %v", rx, a.drops())
	}
}

// A flannel node sends and receives one packet per datagram and announces
// nothing. What comes out of the engine for it are whole, valid packets.
func TestFlannelPeer(t *testing.T) {
	namespaces := newUnderlay(t, setup{})
	a := newNode(t, namespaces[0], 1, setup{})
	a.SetPeers([]subnet.Lease{testLease(2, setup{flannel: true})})
	peer := rawSocket(t, namespaces[1], netip.AddrPortFrom(outer(2, false), DefaultPort))
	local := listenUDP(t, a, a.ipv4)
	localPort := local.LocalAddr().(*net.UDPAddr).AddrPort().Port()

	// Inwards: a burst of equal packets, which the kernel may join.
	pkt := udp4(outside, "10.5.1.0", []byte("from flannel"))
	binary.BigEndian.PutUint16(pkt[22:], localPort)
	pkt[26], pkt[27] = 0, 0
	check(t, labtest.Lossless(t, func() error {
		for range 20 {
			_, err := peer.WriteTo(pkt, net.UDPAddrFromAddrPort(netip.AddrPortFrom(outer(1, false), DefaultPort)))
			check(t, err)
		}
		for range 20 {
			if _, err := receives(t, local, []byte("from flannel")); err != nil {
				return err
			}
		}
		return nil
	}))

	// Outwards: a superpacket, made by the socket's own segmentation.
	buf := make([]byte, 65536)
	raw, err := local.(*net.UDPConn).SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) {
		check(t, unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_SEGMENT, 1000))
	}))
	payload := make([]byte, 20500)
	for i := range payload {
		payload[i] = byte(i * 13)
	}
	check(t, labtest.Lossless(t, func() error {
		_, err := local.WriteTo(payload, &net.UDPAddr{IP: net.IP{10, 5, 2, 9}, Port: 9})
		check(t, err)
		for sent := range slices.Chunk(payload, 1000) {
			peer.SetReadDeadline(time.Now().Add(patience))
			n, from, err := peer.ReadFrom(buf)
			if err != nil {
				return err
			}
			if from.(*net.UDPAddr).Port != DefaultPort {
				t.Fatalf("from port %d", from.(*net.UDPAddr).Port)
			}
			if got := validUDP4(t, buf[:n]); !bytes.Equal(got, sent) {
				return fmt.Errorf("received %x, want %x", got, sent)
			}
		}
		return nil
	}))
	a.mu.Lock()
	defer a.mu.Unlock()
	if in := &a.workers[0].sender.counters.in; in.packets.Load() <= in.messages.Load() {
		t.Errorf("no superpacket was read: %d packets in %d reads", in.packets.Load(), in.messages.Load())
	}
}

// validUDP4 checks an IPv4 UDP packet with its checksums, and returns its
// payload.
func validUDP4(t *testing.T, b []byte) []byte {
	t.Helper()
	var info packet.Info
	if why := info.Parse(b); why != packet.OK || info.Protocol != packet.ProtoUDP {
		t.Fatalf("not a UDP packet (%v): %x", why, b)
	}
	if sum := packet.Sum(b[:20], 0); sum != 0xffff {
		t.Fatalf("header checksum sums up to %#x: %x", sum, b)
	}
	u := b[20:]
	pseudo := []byte{0, packet.ProtoUDP, u[4], u[5]}
	if sum := packet.Sum(u, packet.Sum(pseudo, packet.Sum(b[12:20], 0))); sum != 0xffff {
		t.Fatalf("UDP checksum sums up to %#x: %x", sum, b)
	}
	if int(binary.BigEndian.Uint16(u[4:])) != len(u) {
		t.Fatalf("UDP length %x of %d", u[4:6], len(u))
	}
	return u[8:]
}

// Two nodes whose leases announce nothing treat each other as flannel nodes:
// IPv4 goes, IPv6 is unreachable.
func TestNoIPv6ToFlannel(t *testing.T) {
	a, b := newPair(t, setup{flannel: true})
	transferTCP(t, a, b, false, 4<<20)
	from := listenUDP(t, a, a.ipv6)
	if _, err := from.WriteTo([]byte("six"), net.UDPAddrFromAddrPort(netip.AddrPortFrom(b.ipv6, 9))); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the drop", func() bool { return a.drops()["tx_no_peer"] > 0 })
	want := "flannel node: IPv4 only"
	if p := a.Status().Peers[0]; fmt.Sprint(p.Notes) != fmt.Sprint([]string{want}) || p.SubnetV6 != "" {
		t.Errorf("status %+v", p)
	}
}
