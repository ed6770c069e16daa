package udp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

func newMemTableWithoutLease(m *memNode) *tunnel.Table {
	self := tunnel.Self{Network: testNetwork, IPv4: true}
	return tunnel.NewTable(self, []subnet.Lease{testLease(2, setup{})}, m.table.Load())
}

func TestRoute(t *testing.T) {
	short := make([]byte, packet.VnetHdrLen+12)
	for _, c := range []struct {
		name  string
		input []byte
		sent  int
		drops map[string]uint64
		icmp  bool // the sender is told
	}{
		{"to a peer", plain(udp4(inside, outside, nil)), 1, nil, false},
		{"to nobody", plain(udp4(inside, "10.5.77.1", nil)), 0, map[string]uint64{"tx_no_peer": 1}, true},
		{"to ourselves", plain(udp4(inside, "10.5.1.77", nil)), 0, map[string]uint64{"tx_no_peer": 1}, true},
		{"to a group", plain(udp4(inside, "224.0.0.251", nil)), 0, map[string]uint64{"tx_not_unicast": 1}, false},
		{"foreign source", plain(udp4("192.0.2.1", outside, nil)), 0, map[string]uint64{"tx_foreign_source": 1}, false},
		{"cut short", short, 0, map[string]uint64{"tx_bad_ip_version": 1}, false},
		{"no vnet header", short[:9], 0, map[string]uint64{"tx_truncated": 1}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			m.send(t, c.input)
			if len(m.socket.sent) != c.sent || fmt.Sprint(m.drops()) != fmt.Sprint(c.drops) {
				t.Errorf("%d sent, want %d; drops %v, want %v", len(m.socket.sent), c.sent, m.drops(), c.drops)
			}
			written := m.tun.take()
			if !c.icmp {
				if len(written) != 0 {
					t.Errorf("written to the TUN: %x", written)
				}
				return
			}
			if len(written) != 1 {
				t.Fatalf("%d packets written to the TUN", len(written))
			}
			b := written[0][packet.VnetHdrLen:]
			if !bytes.Equal(written[0][:packet.VnetHdrLen], make([]byte, packet.VnetHdrLen)) || b[9] != packet.ProtoICMP || b[20] != 3 || b[21] != 0 {
				t.Errorf("not a net unreachable: %x", written[0])
			}
			if from := addr("10.5.1.0").As4(); [4]byte(b[12:16]) != from {
				t.Errorf("it comes from %v", b[12:16])
			}
		})
	}
}

// A flannel peer takes any source, but neither congestion marks nor IPv6.
func TestSendToFlannel(t *testing.T) {
	m := newMemNode(t, 1)
	m.setPeers(1, testLease(2, setup{flannel: true}))
	marked := udp4(inside, outside, nil)
	marked[1] = packet.ECT0 | 0x28
	fixIPv4(marked)
	m.send(t, plain(marked), plain(udp4("192.0.2.1", outside, nil)))
	if len(m.socket.sent) != 1 || m.socket.sent[0].tos != 0 || m.socket.sent[0].datagram != 2 {
		t.Errorf("sent %+v, drops %v", m.socket.sent, m.drops())
	}
	if !bytes.Equal(m.socket.sent[0].payload[:28], marked) {
		t.Error("the inner packet was changed")
	}
}

func TestECNOutside(t *testing.T) {
	m := newMemNode(t, 1)
	b := udp4(inside, outside, nil)
	b[1] = packet.CE | 0xb8 // expedited forwarding
	fixIPv4(b)
	m.send(t, plain(b))
	if len(m.socket.sent) != 1 || m.socket.sent[0].tos != packet.CE {
		t.Errorf("sent %+v, want a TOS of %d", m.socket.sent, packet.CE)
	}
}

func TestTooBig(t *testing.T) {
	df := func(b []byte) []byte {
		b[packet.VnetHdrLen+6] |= 0x40
		fixIPv4(b[packet.VnetHdrLen:])
		return b
	}
	for _, c := range []struct {
		name  string
		path  int // learned path MTU, 0: none; the underlay's is 1500
		input []byte
		sent  []string
		mtu   int // in an ICMP error, 0: none
		drops uint64
	}{
		{"fits exactly", 0, df(plain(udp4(inside, outside, make([]byte, 1444)))), []string{"1x0=1472"}, 0, 0},
		{"one byte more", 0, df(plain(udp4(inside, outside, make([]byte, 1445)))), nil, 1472, 1},
		{"one byte more without DF", 0, plain(udp4(inside, outside, make([]byte, 1445))), []string{"2x1468=1493"}, 0, 0},
		{"fits the path exactly", 1300, df(plain(udp4(inside, outside, make([]byte, 1244)))), []string{"1x0=1272"}, 0, 0},
		{"one byte more than the path", 1300, df(plain(udp4(inside, outside, make([]byte, 1245)))), nil, 1272, 1},
		{"a superpacket", 1300, df(superUDP(inside, outside, 5, 1300)), nil, 1272, 5},
		{"a superpacket without DF", 1300, superUDP(inside, outside, 2, 1300), []string{"2x1268=1348", "2x1268=1348"}, 0, 0},
		{"a path longer than the underlay", 9000, df(plain(udp4(inside, outside, make([]byte, 1445)))), nil, 1472, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			if c.path != 0 {
				m.peer().State.PathMTU.Set(c.path, time.Now().Add(time.Hour))
			}
			m.send(t, c.input)
			if got := shapes(m.socket.sent); !slices.Equal(got, c.sent) {
				t.Errorf("sent %v, want %v", got, c.sent)
			}
			if got := m.drops()["tx_too_big"]; got != c.drops {
				t.Errorf("%d drops, want %d", got, c.drops)
			}
			written := m.tun.take()
			if c.mtu == 0 {
				if len(written) != 0 {
					t.Errorf("written to the TUN: %x", written)
				}
				return
			}
			if len(written) != 1 {
				t.Fatalf("%d packets written to the TUN", len(written))
			}
			if b := written[0][packet.VnetHdrLen:]; b[20] != 3 || b[21] != 4 || int(binary.BigEndian.Uint16(b[26:])) != c.mtu {
				t.Errorf("not a fragmentation needed with MTU %d: %x", c.mtu, b)
			}
		})
	}
}

// Hosts do not heed an ICMPv6 error with an MTU below 1280: packets up to that
// length are sent though the path MTU leaves less, and errors name 1280.
func TestTooBigForIPv6(t *testing.T) {
	for _, path := range []int{minPathMTUIPv4, minMTUIPv6 + overheadIPv4 - 1} {
		m := newMemNode(t, 1)
		m.peer().State.PathMTU.Set(path, time.Now().Add(time.Hour))
		m.send(t, plain(udp6("fd00:5:1::9", "fd00:5:2::9", make([]byte, minMTUIPv6-48))), plain(udp6("fd00:5:1::9", "fd00:5:2::9", make([]byte, minMTUIPv6-47))))
		if got := shapes(m.socket.sent); !slices.Equal(got, []string{"1x0=1280"}) {
			t.Errorf("path MTU %d: sent %v", path, got)
		}
		if got := m.drops(); len(got) != 1 || got["tx_too_big"] != 1 {
			t.Errorf("path MTU %d: drops %v", path, got)
		}
		written := m.tun.take()
		if len(written) != 1 {
			t.Fatalf("path MTU %d: %d packets written to the TUN", path, len(written))
		}
		if b := written[0][packet.VnetHdrLen:]; b[40] != 2 || binary.BigEndian.Uint32(b[44:]) != minMTUIPv6 {
			t.Errorf("path MTU %d: not a packet too big with MTU 1280: %x", path, b)
		}
	}
}

// udp6 is an inner IPv6 UDP packet. Its checksum is not looked at.
func udp6(src, dst string, payload []byte) []byte {
	b := make([]byte, 48+len(payload))
	b[0], b[6], b[7] = 6<<4, packet.ProtoUDP, 64
	binary.BigEndian.PutUint16(b[4:], uint16(len(b)-40))
	s, d := addr(src).As16(), addr(dst).As16()
	copy(b[8:], s[:])
	copy(b[24:], d[:])
	binary.BigEndian.PutUint16(b[44:], uint16(len(b)-40))
	return b
}

// ICMP errors are limited in number, however many packets they are about.
func TestICMPIsLimited(t *testing.T) {
	m := newMemNode(t, 1)
	began := time.Now()
	m.send(t, repeated(plain(udp4(inside, "10.5.77.1", nil)), 1000)...)
	took := time.Since(began)
	if n := len(m.tun.take()); n < icmpBurst || float64(n) > icmpBurst+icmpRate*took.Seconds()+1 {
		t.Errorf("%d ICMP errors about 1000 packets within %v", n, took)
	}
	if got := m.drops()["tx_no_peer"]; got != 1000 {
		t.Errorf("%d drops counted", got)
	}
	// Another flow learns its MTU all the same.
	long := plain(udp4(inside, outside, make([]byte, 1445)))
	long[packet.VnetHdrLen+6] |= 0x40 // DF
	m.send(t, long)
	if n := len(m.tun.take()); n != 1 {
		t.Errorf("%d ICMP errors about a packet that is too big", n)
	}
}

func TestErrorQueue(t *testing.T) {
	const hour = time.Hour
	for _, c := range []struct {
		name    string
		known   int
		errs    []unix.SockExtendedErr
		path    int
		refused uint64
	}{
		{"fragmentation needed", 0, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Origin: unix.SO_EE_ORIGIN_ICMP, Type: 3, Code: 4, Info: 1300}}, 1300, 0},
		{"of this host", 0, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Origin: unix.SO_EE_ORIGIN_LOCAL, Info: 1400}}, 1400, 0},
		{"lower still", 1400, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Info: 1300}}, 1300, 0},
		{"not higher", 1300, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Info: 1400}}, 1300, 0},
		{"not above the underlay's", 0, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Info: 1500}}, 0, 0},
		{"absurdly low", 0, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Info: 68}}, minPathMTUIPv4, 0},
		{"absurdly high", 0, []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Info: 1 << 31}}, 0, 0},
		{"port unreachable, twice", 0, []unix.SockExtendedErr{{Errno: uint32(unix.ECONNREFUSED)}, {Errno: uint32(unix.ECONNREFUSED)}}, 0, 2},
		{"another", 0, []unix.SockExtendedErr{{Errno: uint32(unix.EHOSTUNREACH)}}, 0, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			if c.known != 0 {
				m.peer().State.PathMTU.Set(c.known, time.Now().Add(hour))
			}
			m.socket.errs, m.socket.errTo, m.socket.quote = c.errs, outer(2, false), udp4(inside, outside, make([]byte, 1444))
			m.receiver.errors.drain()
			if got := m.peer().State.PathMTU.Get(); got != c.path {
				t.Errorf("path MTU is %d, want %d", got, c.path)
			}
			if got := m.peer().State.Refused.Load(); got != c.refused {
				t.Errorf("refused %d times, want %d", got, c.refused)
			}
			// About an address that is no peer's.
			m.socket.errs, m.socket.errTo = c.errs, addr("192.0.2.99")
			m.receiver.errors.drain()
		})
	}
}

// So is a lower path MTU; but of routers that quote hardly anything, and there
// are many, one that is plausible is believed.
func TestPathMTUMustQuote(t *testing.T) {
	v6 := udp6("fd00:5:1::2", "fd00:5:2::2", make([]byte, 1424)) // 1472 bytes
	long := udp4(inside, outside, make([]byte, 1444))
	for _, c := range []struct {
		name   string
		outer6 bool
		quote  []byte
		claim  uint32
		path   int
	}{
		{"a packet that is too long", false, long, 1300, 1300},
		{"a packet that is too long, and a low MTU", false, long, 600, 600},
		{"a packet that just fits", false, long, 1500, 0},
		{"one byte less", false, long, 1499, 1499},
		{"an IPv6 packet", false, v6, 1499, 1499},
		{"an IPv6 packet that is short", false, v6, 1500, 0},
		{"a short packet", false, udp4(inside, outside, make([]byte, 100)), 600, 0},
		{"a packet to another", false, udp4(inside, "10.5.3.1", make([]byte, 1444)), 1300, 0},
		{"a packet of another", false, udp4("10.5.3.1", outside, make([]byte, 1444)), 1300, 0},
		{"a part of a header", false, long[:19], 1300, 0},
		{"nothing", false, nil, 1300, 1300},
		{"nothing, and a low MTU", false, nil, 600, leastUnproven},
		{"by IPv6, a packet that is too long", true, v6, 1400, 1400},
		{"by IPv6, nothing", true, nil, 1400, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			self := tunnel.Self{Own: testLease(1, setup{}), Network: testNetwork, IPv4: !c.outer6, IPv6: c.outer6}
			m.table.Store(tunnel.NewTable(self, []subnet.Lease{testLease(2, setup{outer6: c.outer6})}, nil))
			m.socket.errs = []unix.SockExtendedErr{{Errno: uint32(unix.EMSGSIZE), Origin: unix.SO_EE_ORIGIN_ICMP, Info: c.claim}}
			m.socket.errTo, m.socket.quote = outer(2, c.outer6), c.quote
			m.receiver.errors.mtu = 1501
			m.receiver.errors.drain()
			if got := m.peer().State.PathMTU.Get(); got != c.path {
				t.Errorf("path MTU is %d, want %d", got, c.path)
			}
		})
	}
}

// A refusal is believed only if it quotes a packet that was sent to that peer.
func TestRefusalMustQuote(t *testing.T) {
	v6 := make([]byte, 48)
	v6[0] = 0x60
	src, dst := addr("fd00:5:1::2").As16(), addr("fd00:5:2::2").As16()
	copy(v6[8:], src[:])
	copy(v6[24:], dst[:])
	for _, c := range []struct {
		name  string
		quote []byte
		count uint64
	}{
		{"a packet to the peer", udp4(inside, outside, make([]byte, 100)), 1},
		{"an IPv6 packet to the peer", v6, 1},
		{"nothing", nil, 0},
		{"less than an IP header", udp4(inside, outside, nil)[:19], 0},
		{"less than an IPv6 header", v6[:39], 0},
		{"no IP packet", []byte("GET / HTTP/1.0 and so on and on and on..."), 0},
		{"another peer's address", udp4(inside, "10.5.3.1", nil), 0},
		{"a source that is not here", udp4("10.5.3.1", outside, nil), 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			noticed := uint64(0)
			m.receiver.errors.notify = func() { noticed++ }
			m.socket.errs, m.socket.errTo, m.socket.quote = []unix.SockExtendedErr{{Errno: uint32(unix.ECONNREFUSED)}}, outer(2, false), c.quote
			m.receiver.errors.drain()
			if got := m.peer().State.Refused.Load(); got != c.count || noticed != c.count {
				t.Errorf("refused %d times, noticed %d times, want %d", got, noticed, c.count)
			}
		})
	}
}
