package assist

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

	"github.com/weftnet/weft/tunnel/packet"
)

// newFlooding makes two hosts. All UDP flows of the first one are floods of the first of
// two seats, without an end, with packets of any length.
func newFlooding(t *testing.T) (a, b *host) {
	t.Helper()
	hosts := newHosts(t, 2, 1500)
	a, b = hosts[0], hosts[1]
	a.seats = 2
	a.attach(1)
	b.attach(1)
	peer := a.peer(b)
	peer.Limit = maxLimit
	a.set(peer)
	b.set(b.peer(a))
	a.ip("link", "set", "flannel0", "mtu", fmt.Sprint(maxLimit))
	setFloods(a.assist.floods, floodState{now(t) + uint64(time.Hour), 7, 1})
	return a, b
}

// opened fails unless a UDP packet has this payload and is whole once its checksum is
// finished.
func (h *host) opened(pkt, payload []byte, to net.Addr) {
	h.t.Helper()
	var info packet.Info
	if why := info.Parse(pkt); why != packet.OK {
		h.t.Fatalf("%d bytes: %v", len(pkt), why)
	}
	packet.FinishChecksum(pkt, &info)
	ip, udp := pkt[:ipLen], pkt[ipLen:]
	pseudo := binary.BigEndian.AppendUint16(append(slices.Clone(ip[ipSource:]), 0, unix.IPPROTO_UDP), uint16(len(udp)))
	if packet.Sum(ip, 0) != 0xffff || packet.Sum(append(pseudo, udp...), 0) != 0xffff {
		h.t.Errorf("%d bytes have wrong checksums: %x", len(pkt), pkt[:overhead])
	}
	dst := netip.AddrPortFrom(addrAt(ip, ipDestination), uint16(word(udp, udpDestination)))
	if addrAt(ip, ipSource) != inner(h.number) || dst.String() != to.String() || word(udp, udpLength) != len(udp) {
		h.t.Errorf("%d bytes have other headers: %x", len(pkt), pkt[:overhead])
	}
	if !bytes.Equal(udp[udpLen:], payload) {
		h.t.Errorf("%d bytes have another payload", len(pkt))
	}
}

// What leaves by the TUN gets into the ring as it is, be its length one of those that
// BPF_PROG_TEST_RUN does not take, and be it in pages that are no part of the socket
// buffer's head, or else, too long, into the TUN. To who sends it, it was sent; it is
// nowhere else.
func TestRingByTUN(t *testing.T) {
	t.Parallel()
	a, b := newFlooding(t)
	from, to := a.listen().(*net.UDPConn), b.listen().LocalAddr().(*net.UDPAddr)
	raw, err := from.SyscallConn()
	check(t, err)
	cork := func(on int) {
		t.Helper()
		check(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_UDP, unix.UDP_CORK, on) }))
		check(t, err)
	}
	write := func(b []byte) {
		t.Helper()
		n, err := from.WriteTo(b, to)
		check(t, err)
		if n != len(b) {
			t.Errorf("%d bytes of %d were sent", n, len(b))
		}
	}
	k := taker{ring: a.assist.Rings()[0]}
	for _, pieces := range []int{1, 2} {
		for _, length := range []int{28, 29, 33, 34, 128, 129, 1536, 1537, 4095, 4096, 4097, 9215, 9216, 9217, maxLimit} {
			payload := numbered(length, length)[overhead:]
			if pieces == 1 {
				write(payload)
			} else if len(payload) > 1 {
				// Only the first piece is in the head.
				cork(1)
				write(payload[:len(payload)/2])
				write(payload[len(payload)/2:])
				cork(0)
			} else {
				continue
			}
			if length > 9216 {
				var sent [][]byte
				waitFor(t, "the packet in the TUN", func() bool { sent, _ = a.took(); return len(sent) > 0 })
				a.opened(sent[0][packet.VnetHdrLen:], payload, to)
				if rest, _ := a.took(); len(sent)+len(rest) != 1 {
					t.Errorf("%d bytes: the TUN has %d packets", length, len(sent)+len(rest))
				}
			} else {
				// It has been there since the system call's end.
				arena, packets := make([]byte, MaxRingPacket), make([][]byte, 2)
				n, more := k.ring.Take(arena, packets)
				if n != 1 || more {
					t.Fatalf("%d bytes: %d packets in the ring, more: %v", length, n, more)
				}
				a.opened(packets[0], payload, to)
				if record := k.ring.taken - k.at; int(record) != recordHeader+recordOf(length) {
					t.Errorf("%d bytes have a record of %d", length, record)
				}
			}
			k.at = k.ring.taken
			a.untouched()
		}
	}

	// Where there are ports, there is a flow.
	var ports net.PacketConn
	check(t, a.Do(func() (err error) { ports, err = net.ListenPacket("ip4:udp", inner(1).String()); return err }))
	defer ports.Close()
	for length := range 5 {
		_, err := ports.WriteTo(bytes.Repeat([]byte{0xa5}, length), &net.IPAddr{IP: inner(2).AsSlice()})
		check(t, err)
		got := takeAll(t, k.ring)
		if length == 4 {
			if len(got) != 1 || len(got[0]) != 24 || !bytes.Equal(got[0][ipLen:], []byte{0xa5, 0xa5, 0xa5, 0xa5}) {
				t.Errorf("nothing but ports: the ring has %x", got)
			}
			continue
		}
		var sent [][]byte
		waitFor(t, "the packet in the TUN", func() bool { sent, _ = a.took(); return len(sent) > 0 })
		if len(sent) != 1 || len(sent[0]) != packet.VnetHdrLen+ipLen+length || len(got) != 0 {
			t.Errorf("%d bytes behind the header: the TUN has %x, the ring %x", length, sent, got)
		}
	}

	// None of all that was the kernel's, or went anywhere else.
	if tx, _ := a.assist.Traffic(subnet(2)); tx != (Count{}) || len(takeAll(t, a.assist.Rings()[1])) > 0 {
		t.Errorf("the kernel sent %v", tx)
	}
	if _, _, lost := a.assist.Floods(); lost != 0 || a.assist.Drops() != 0 {
		t.Errorf("%d packets lost, %d dropped", lost, a.assist.Drops())
	}
	a.untouched()
	b.untouched()
}

// The checksum of a packet in a packet is left to who can tell where it is, which the TUN
// says and a ring does not. Where there is none to be finished the packet gets into the ring.
func TestRingInnerChecksum(t *testing.T) {
	t.Parallel()
	a, b := newFlooding(t)
	check(t, a.Sysctl("net/ipv6/conf/default/disable_ipv6", "1"))
	a.ip("link", "add", "vxlan0", "type", "vxlan", "id", "7", "local", "10.5.1.1", "remote", "10.5.2.1", "dev", "flannel0", "dstport", "4789", "noudpcsum")
	a.ip("link", "set", "vxlan0", "up")
	check(t, a.AddAddr("vxlan0", pfx("172.20.0.1/24")))
	a.ip("neigh", "add", "172.20.0.2", "lladdr", "02:00:00:00:00:02", "dev", "vxlan0", "nud", "permanent")
	var c *net.UDPConn
	check(t, a.Do(func() (err error) {
		c, err = net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(172, 20, 0, 2), Port: 4000})
		return err
	}))
	defer c.Close()
	payload := bytes.Repeat([]byte{0xa5}, 300)
	const before = overhead + 8 + etherLen // the inner packet, behind VXLAN's headers
	ring := a.assist.Rings()[0]
	takeAll(t, ring)
	a.took()

	_, err := c.Write(payload)
	check(t, err)
	var sent [][]byte
	waitFor(t, "the packet in the TUN", func() bool { sent, _ = a.took(); return len(sent) > 0 })
	var header packet.VnetHdr
	header.Decode(sent[0])
	if pkt := sent[0][packet.VnetHdrLen:]; len(sent) != 1 || !bytes.HasSuffix(pkt, payload) || len(pkt) != before+overhead+len(payload) ||
		header.Flags&packet.FlagNeedsCsum == 0 || header.CsumStart != before+ipLen || header.CsumOffset != udpChecksum {
		t.Errorf("the TUN has %d packets, the first with %+v: %x", len(sent), header, pkt)
	}
	if got := takeAll(t, ring); len(got) != 0 {
		t.Errorf("what has an unfinished checksum is in the ring: %x", got)
	}

	raw, err := c.SyscallConn()
	check(t, err)
	check(t, raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_NO_CHECK, 1) }))
	check(t, err)
	_, err = c.Write(payload)
	check(t, err)
	if got := takeAll(t, ring); len(got) != 1 || len(got[0]) != before+overhead+len(payload) || !bytes.HasSuffix(got[0], payload) {
		t.Errorf("what has none: the ring has %x", got)
	}
	if _, _, lost := a.assist.Floods(); lost != 0 {
		t.Errorf("%d packets lost", lost)
	}
	a.untouched()
	b.untouched()
}

// Which checksum is yet to be computed is known of each packet, be it of one that a virtual
// machine has sent: that of UDP user space can compute, any behind it it cannot.
func TestRingUnfinishedChecksum(t *testing.T) {
	t.Parallel()
	a, b := newFlooding(t)
	s := a.openSender(0)
	to := &unix.SockaddrLinklayer{Ifindex: a.index("flannel0"), Protocol: uint16(wire16(unix.ETH_P_IP))}
	pkt := numbered(200, 1)
	copy(pkt[ipSource:], inner(1).AsSlice())
	copy(pkt[ipDestination:], inner(2).AsSlice())
	for _, c := range []struct {
		flags         uint8
		start, offset uint16
		ring          bool
	}{
		{0, 0, 0, true},
		{packet.FlagNeedsCsum, ipLen, udpChecksum, true},
		{packet.FlagNeedsCsum, ipLen, udpChecksum + 1, false},
		{packet.FlagNeedsCsum, overhead + ipLen, udpChecksum, false},
		{packet.FlagNeedsCsum, 180, 16, false},
	} {
		header := packet.VnetHdr{Flags: c.flags, CsumStart: c.start, CsumOffset: c.offset}
		sending := make([]byte, packet.VnetHdrLen)
		header.Encode(sending)
		check(t, unix.Sendto(s.fd, append(sending, pkt...), 0, to))
		want := [][]byte{pkt}
		if !c.ring {
			want = nil
			var sent [][]byte
			waitFor(t, "the packet in the TUN", func() bool { sent, _ = a.took(); return len(sent) > 0 })
			var got packet.VnetHdr
			got.Decode(sent[0])
			if len(sent) != 1 || got != header || !bytes.Equal(sent[0][packet.VnetHdrLen:], pkt) {
				t.Errorf("%+v: the TUN has %d packets, the first with %+v: %x", header, len(sent), got, sent[0])
			}
		}
		if got := takeAll(t, a.assist.Rings()[0]); !slices.EqualFunc(got, want, slices.Equal) {
			t.Errorf("%+v: the ring has %x", header, got)
		}
		a.untouched()
	}
	if _, _, lost := a.assist.Floods(); lost != 0 || a.assist.Drops() != 0 {
		t.Errorf("%d packets lost, %d dropped", lost, a.assist.Drops())
	}
	b.untouched()
}
