package udp

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// arrival is a receive of datagrams from node 2's underlay address.
func arrival(datagrams ...[]byte) memSend {
	return memSend{to: outer(2, false), segment: len(datagrams[0]), payload: slices.Concat(datagrams...)}
}

func TestAccept(t *testing.T) {
	good := udp4(outside, inside, []byte("good"))
	edit := func(change func(b []byte)) []byte {
		b := bytes.Clone(good)
		change(b)
		fixIPv4(b)
		return b
	}
	stranger := arrival(good, good)
	stranger.to = addr("192.0.2.77")
	ce := arrival(edit(func(b []byte) {})) // marked outside only
	ce.tos = packet.CE
	ceECT := arrival(edit(func(b []byte) { b[1] = packet.ECT0 }))
	ceECT.tos = packet.CE
	for _, c := range []struct {
		name    string
		arrival memSend
		written int // packets
		drops   map[string]uint64
	}{
		{"good", arrival(good), 1, nil},
		{"from the tunnel address to the tunnel address", arrival(udp4("10.5.2.0", "10.5.1.0", nil)), 1, nil},
		{"unknown sender", stranger, 0, map[string]uint64{"rx_unknown_sender": 2}},
		{"spoofed: this node's", arrival(udp4(inside, inside, nil)), 0, map[string]uint64{"rx_spoofed_source": 1}},
		{"spoofed: nobody's", arrival(udp4("10.5.77.1", inside, nil)), 0, map[string]uint64{"rx_spoofed_source": 1}},
		{"spoofed: outside", arrival(udp4("8.8.8.8", inside, nil)), 0, map[string]uint64{"rx_spoofed_source": 1}},
		{"to the network, not here", arrival(udp4(outside, "10.5.3.1", nil)), 0, map[string]uint64{"rx_not_for_us": 1}},
		{"to the world", arrival(udp4(outside, "8.8.8.8", nil)), 0, map[string]uint64{"rx_not_for_us": 1}},
		{"to a group", arrival(udp4(outside, "224.0.0.1", nil)), 0, map[string]uint64{"rx_not_for_us": 1}},
		{"empty", memSend{to: outer(2, false)}, 0, map[string]uint64{"rx_truncated": 1}},
		{"no IP", arrival([]byte("GET / HTTP/1.0\r\n")), 0, map[string]uint64{"rx_truncated": 1}},
		{"other version", arrival(edit(func(b []byte) { b[0] = 0x55 })), 0, map[string]uint64{"rx_bad_ip_version": 1}},
		{"truncated", arrival(good[:30]), 0, map[string]uint64{"rx_truncated": 1}},
		{"too long", arrival(append(bytes.Clone(good), 0)), 0, map[string]uint64{"rx_trailing_bytes": 1}},
		{"bad header", arrival(edit(func(b []byte) { b[0] = 0x44 })), 0, map[string]uint64{"rx_bad_ip_header": 1}},
		{"a fragment", arrival(edit(func(b []byte) { b[6] = 0x20 })), 1, nil},
		{"good among bad", arrival(good, udp4("10.5.77.1", inside, []byte("good")), good, udp4(outside, "10.5.3.1", []byte("good")), good[:20]), 2,
			map[string]uint64{"rx_spoofed_source": 1, "rx_not_for_us": 1, "rx_truncated": 1}},
		{"congestion met, sender does not understand", ce, 0, map[string]uint64{"rx_congestion_not_ect": 1}},
		{"congestion met", ceECT, 1, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			m.receive(t, c.arrival)
			packets := unpack(t, m.tun.take())
			if len(packets) != c.written || fmt.Sprint(m.drops()) != fmt.Sprint(c.drops) {
				t.Errorf("%d packets written, want %d; drops %v, want %v", len(packets), c.written, m.drops(), c.drops)
			}
			if n := m.peer().State.Rx.Packets.Load(); n != uint64(c.written) {
				t.Errorf("peer's counter is %d, want %d", n, c.written)
			}
			for _, p := range packets {
				if want := byte(c.arrival.tos); want != 0 && p[1] != want {
					t.Errorf("inner TOS is %#x, want %#x", p[1], want)
				}
			}
		})
	}
}

// unpack cuts what was written to a TUN back into packets.
func unpack(t testing.TB, written [][]byte) (packets [][]byte) {
	t.Helper()
	seg := packet.NewSegmenter(128)
	for _, w := range written {
		var hdr packet.VnetHdr
		var info packet.Info
		hdr.Decode(w)
		b := bytes.Clone(w[packet.VnetHdrLen:])
		if why := info.Parse(b); why != packet.OK {
			t.Fatalf("written: %v", why)
		}
		if why := seg.Load(hdr, b, &info); why != packet.OK {
			t.Fatalf("written: %v", why)
		}
		var segs packet.Segments
		for seg.Next(&segs) {
			for i := range segs.Count {
				packets = append(packets, slices.Concat(segs.Slice(i, i+1)...))
			}
		}
	}
	return packets
}

func TestAcceptWithoutLease(t *testing.T) {
	m := newMemNode(t, 1)
	m.table.Store(newMemTableWithoutLease(m))
	m.receive(t, arrival(udp4(outside, inside, nil)))
	m.send(t, plain(udp4(inside, outside, nil)))
	want := map[string]uint64{"rx_no_lease": 1, "tx_no_lease": 1}
	if got := m.drops(); fmt.Sprint(got) != fmt.Sprint(want) || len(m.tun.take()) != 0 || len(m.socket.sent) != 0 {
		t.Errorf("drops %v, want %v", got, want)
	}
}

// Two nodes behind one address may each send from their own subnets.
func TestAcceptFromSharedEndpoint(t *testing.T) {
	m := newMemNode(t, 1)
	other := testLease(3, setup{})
	other.Attrs.PublicIP = outer(2, false)
	foreign := testLease(4, setup{})
	m.setPeers(1, testLease(2, setup{}), other, foreign)
	m.receive(t, arrival(udp4(outside, inside, nil), udp4("10.5.3.9", inside, nil), udp4(outside, inside, nil), udp4("10.5.4.9", inside, nil)))
	if n := len(m.tun.take()); n == 0 || m.drops()["rx_spoofed_source"] != 1 {
		t.Errorf("%d writes, drops %v", n, m.drops())
	}
	for subnet, want := range map[netip.Addr]uint64{addr(outside): 2, addr("10.5.3.9"): 1, addr("10.5.4.9"): 0} {
		if got := m.table.Load().Lookup(subnet).State.Rx.Packets.Load(); got != want {
			t.Errorf("%d packets counted for the peer of %v, want %d", got, subnet, want)
		}
	}
}

// A packet that goes on where another ended is not taken for it unless the
// same sender sent both, in one receive.
func TestAcceptContinuation(t *testing.T) {
	one := udp4(outside, inside, make([]byte, 100))
	one[6] = 0x40 // DF: all may have the same ID
	fixIPv4(one)
	elsewhere := udp4("10.5.3.9", "10.5.4.1", make([]byte, 100))
	own := udp4("10.5.3.9", inside, make([]byte, 100))
	fromOther := func(datagrams ...[]byte) memSend {
		a := arrival(datagrams...)
		a.to = outer(3, false)
		return a
	}
	marked := arrival(one, one, one)
	marked.tos = packet.CE
	for _, c := range []struct {
		name     string
		arrivals []memSend
		peer     uint64 // packets that count for the peer
		other    uint64 // packets that count for another one
		drops    map[string]uint64
	}{
		{"one receive", []memSend{arrival(one, one, one, one)}, 4, 0, nil},
		{"two receives", []memSend{arrival(one, one, one), arrival(one, one)}, 5, 0, nil},
		{"another sender", []memSend{arrival(one, one, one), fromOther(one)}, 3, 0, map[string]uint64{"rx_spoofed_source": 1}},
		{"another sender, after one that belongs", []memSend{arrival(one, one, one), fromOther(own, one)}, 3, 1, map[string]uint64{"rx_spoofed_source": 1}},
		{"another sender, after one to elsewhere", []memSend{arrival(one, one, one), fromOther(elsewhere, one)}, 3, 0, map[string]uint64{"rx_spoofed_source": 1, "rx_not_for_us": 1}},
		{"after a spoofed one", []memSend{arrival(one, one, one, own, one)}, 4, 0, map[string]uint64{"rx_spoofed_source": 1}},
		{"congestion met by the second receive", []memSend{arrival(one, one, one), marked}, 3, 0, map[string]uint64{"rx_congestion_not_ect": 3}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			m.setPeers(1, testLease(2, setup{}), testLease(3, setup{}))
			m.receive(t, c.arrivals...)
			if fmt.Sprint(m.drops()) != fmt.Sprint(c.drops) {
				t.Errorf("drops %v, want %v", m.drops(), c.drops)
			}
			if n := len(unpack(t, m.tun.take())); n != int(c.peer+c.other) {
				t.Errorf("%d packets written", n)
			}
			for from, want := range map[string]uint64{outside: c.peer, "10.5.3.9": c.other} {
				if n := m.table.Load().Lookup(addr(from)).State.Rx.Packets.Load(); n != want {
					t.Errorf("%d packets count for the peer of %s, want %d", n, from, want)
				}
			}
		})
	}
}

// What one side cuts, the other joins again.
func TestReceiveJoins(t *testing.T) {
	a, b := newMemNode(t, 1), newMemNode(t, 2)
	super := superUDP(inside, outside, 40, 1000)
	a.send(t, super)
	for _, s := range a.socket.sent {
		s.to = outer(1, false)
		b.receive(t, s)
	}
	got := b.tun.take()
	if len(got) != 1 || !bytes.Equal(got[0][packet.VnetHdrLen+28:], super[packet.VnetHdrLen+28:]) {
		t.Errorf("%d writes, the first of %d bytes", len(got), len(got[0]))
	}
}

func TestDeliveryErrors(t *testing.T) {
	isSuper := func(b []byte) bool { return b[1] != packet.GSONone }
	for _, c := range []struct {
		name    string
		refuse  func(b []byte) unix.Errno
		written int
		drops   map[string]uint64
		singly  bool // afterwards
	}{
		{"superpackets refused", func(b []byte) unix.Errno {
			if isSuper(b) {
				return unix.EINVAL
			}
			return 0
		}, 10, nil, true},
		{"no memory for superpackets now", func(b []byte) unix.Errno {
			if isSuper(b) {
				return unix.ENOMEM
			}
			return 0
		}, 10, nil, false},
		{"all refused", func([]byte) unix.Errno { return unix.EINVAL }, 0, map[string]uint64{"rx_write_refused": 10}, false},
		{"device down", func([]byte) unix.Errno { return unix.EIO }, 0, map[string]uint64{"rx_device_down": 10}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			m.tun.refuse = c.refuse
			one := udp4(outside, inside, make([]byte, 100))
			one[6] = 0x40 // DF: all may have the same ID
			fixIPv4(one)
			ten := arrival(repeated(one, 10)...)
			m.receive(t, ten)
			if n := len(unpack(t, m.tun.take())); n != c.written || fmt.Sprint(m.drops()) != fmt.Sprint(c.drops) {
				t.Errorf("%d packets written, want %d; drops %v, want %v", n, c.written, m.drops(), c.drops)
			}
			m.tun.refuse = nil
			m.receive(t, ten)
			if n := len(m.tun.take()); (n == 10) != c.singly || n != 10 && n != 1 {
				t.Errorf("then %d writes", n)
			}
			m.receiver.deliver.udpSince = m.receiver.deliver.udpSince.Add(-singlyFor)
			m.receive(t, ten)
			if n := len(m.tun.take()); n != 1 {
				t.Errorf("a minute later %d writes", n)
			}
		})
	}
	m := newMemNode(t, 1)
	m.tun.refuse = func(b []byte) unix.Errno {
		if isSuper(b) {
			return unix.EINVAL
		}
		return 0
	}
	for _, from := range []string{outside, "10.5.2.10", "10.5.2.11"} {
		b := udp4(from, inside, make([]byte, 100))
		b[6] = 0x40 // DF, as above
		fixIPv4(b)
		m.socket.arrive(arrival(repeated(b, 2)...))
	}
	m.receive(t)
	if n := m.logged("the TUN refuses superpackets"); n != 1 {
		t.Errorf("%d lines in the log about one batch:\n%s", n, &m.log)
	}

	m = newMemNode(t, 1)
	m.tun.refuse = func([]byte) unix.Errno { return unix.EBADFD }
	m.socket.arrive(arrival(udp4(outside, inside, nil)))
	n, err := m.receiver.receive()
	check(t, err)
	if m.receiver.accept(n) == nil {
		t.Error("a deleted device is no error")
	}
}

// A capability that is missing means single writes without a vnet header.
func TestDeliveryWithoutVnetHdr(t *testing.T) {
	m := newMemNode(t, 1)
	m.receiver.deliver = newDelivery(m.tun, false, false, false, m.trouble)
	pkt := udp4(outside, inside, []byte("plain"))
	m.receive(t, arrival(pkt, pkt))
	if got := m.tun.take(); len(got) != 2 || !bytes.Equal(got[0], pkt) || !bytes.Equal(got[1], pkt) {
		t.Errorf("written: %x", got)
	}
}
