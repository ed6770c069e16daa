package udp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// tcp4 is an inner IPv4 TCP packet without options, its checksum finished or, as
// kernels pass on superpackets, not.
func tcp4(src, dst string, seq uint32, flags byte, payload []byte, finished bool) []byte {
	b := make([]byte, 40+len(payload))
	b[0], b[6], b[8], b[9] = 0x45, 0x40, 64, packet.ProtoTCP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	s, d := addr(src).As4(), addr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	tcp := b[20:]
	binary.BigEndian.PutUint16(tcp[0:], 1000)
	binary.BigEndian.PutUint16(tcp[2:], 2000)
	binary.BigEndian.PutUint32(tcp[4:], seq)
	tcp[12], tcp[13] = 5<<4, flags
	copy(tcp[20:], payload)
	pseudo := binary.BigEndian.AppendUint16([]byte{0, packet.ProtoTCP}, uint16(len(tcp)))
	sum := packet.Sum(pseudo, packet.Sum(b[12:20], 0))
	if finished {
		sum = ^packet.Sum(tcp, sum)
	}
	binary.BigEndian.PutUint16(tcp[16:], sum)
	fixIPv4(b)
	return b
}

const ack = 0x10

func counting(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i * 7)
	}
	return b
}

// A superpacket that a peer's kernel sent to ours and that came to the socket is
// handed on in one piece.
func TestTakeSuperpacket(t *testing.T) {
	super := tcp4(outside, inside, 1, ack, counting(40000), false)
	for _, c := range []struct {
		name    string
		pkt     []byte
		setup   func(*memNode)
		packets uint64 // counted as received
		bytes   uint64
		gso     byte
		drops   map[string]uint64
	}{
		{"whole", super, nil, 28, 40000 + 28*40, packet.GSOTCPv4, nil},
		{"fits", tcp4(outside, inside, 1, ack, counting(1432), false), nil, 1, 1472, packet.GSONone, nil},
		{"finished", tcp4(outside, inside, 1, ack, counting(40000), true), nil, 1, 40040, packet.GSONone, nil},
		{"a smaller device, and a packet", tcp4(outside, inside, 1, ack, counting(1400), false), func(m *memNode) {
			m.receiver.deliver.mtu, m.receiver.deliver.tcp = 1400, false
		}, 1, 1440, packet.GSONone, nil},
		{"a smaller device, and a superpacket", tcp4(outside, inside, 1, ack, counting(1400), false), func(m *memNode) {
			m.receiver.deliver.mtu = 1400
		}, 2, 1480, packet.GSOTCPv4, nil},
		{"not to be cut", tcp4(outside, inside, 1, 0x80|ack, counting(40000), false), nil, 0, 0, 0, map[string]uint64{"rx_superpacket_not_taken": 1}},
		{"the TUN takes none", super, func(m *memNode) { m.receiver.deliver.tcp = false }, 0, 0, 0, map[string]uint64{"rx_superpacket_not_taken": 28}},
		{"the TUN takes none for a while", super, func(m *memNode) {
			m.receiver.deliver.tcpSince = time.Now().Add(time.Hour)
		}, 0, 0, 0, map[string]uint64{"rx_superpacket_not_taken": 28}},
		{"the TUN has no vnet headers", super, func(m *memNode) { m.receiver.deliver.vnetHdr = false }, 0, 0, 0, map[string]uint64{"rx_superpacket_not_taken": 28}},
		{"refused", super, func(m *memNode) {
			m.tun.refuse = func([]byte) unix.Errno { return unix.EINVAL }
		}, 28, 40000 + 28*40, 0, map[string]uint64{"rx_write_refused": 28}},
		{"a flannel node's", super, func(m *memNode) { m.setPeers(1, testLease(2, setup{flannel: true})) }, 1, 40040, packet.GSONone, nil},
		{"a stranger's", tcp4("10.5.3.9", inside, 1, ack, counting(40000), false), nil, 0, 0, 0, map[string]uint64{"rx_spoofed_source": 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := newMemNode(t, 1)
			if c.setup != nil {
				c.setup(m)
			}
			m.receive(t, arrival(c.pkt))
			rx := &m.peer().State.Rx
			if rx.Packets.Load() != c.packets || rx.Bytes.Load() != c.bytes || fmt.Sprint(m.drops()) != fmt.Sprint(c.drops) {
				t.Errorf("%d packets, %d bytes, drops %v; want %d, %d, %v", rx.Packets.Load(), rx.Bytes.Load(), m.drops(), c.packets, c.bytes, c.drops)
			}
			w := m.tun.take()
			if c.drops != nil {
				if len(w) != 0 {
					t.Errorf("written: %d packets", len(w))
				}
				return
			}
			if len(w) != 1 || w[0][1] != c.gso {
				t.Fatalf("%d written, the first with %x", len(w), w[0][:packet.VnetHdrLen])
			}
			if c.gso != packet.GSONone && !bytes.Equal(w[0][packet.VnetHdrLen:], c.pkt) {
				t.Error("it was changed")
			}
			if n := uint64(len(unpack(t, w))); n != c.packets {
				t.Errorf("it is cut into %d packets", n)
			}
		})
	}
}

// It keeps its place among the packets of its flow, and is marked like them.
func TestTakeSuperpacketInOrder(t *testing.T) {
	m := newMemNode(t, 1)
	seq := uint32(1)
	var want []byte
	flow := func(n, size int, finished bool) memSend {
		var all [][]byte
		for range n {
			payload := counting(size)
			pkt := tcp4(outside, inside, seq, ack, payload, finished)
			pkt[1] = packet.ECT0
			fixIPv4(pkt)
			all = append(all, pkt)
			seq += uint32(size)
			want = append(want, payload...)
		}
		a := arrival(all...)
		a.tos = packet.CE
		return a
	}
	m.receive(t, flow(3, 1400, true), flow(1, 30000, false), flow(1, 20000, false), flow(2, 100, true), flow(1, 2000, false))
	writes := m.tun.take()
	if len(writes) != 5 {
		t.Errorf("%d writes", len(writes))
	}
	var got []byte
	for _, p := range unpack(t, writes) {
		if at := binary.BigEndian.Uint32(p[24:]); int(at) != 1+len(got) || p[1] != packet.CE {
			t.Fatalf("sequence number %d after %d bytes, TOS %#x", at, len(got), p[1])
		}
		got = append(got, p[40:]...)
	}
	if !bytes.Equal(got, want) {
		t.Error("other bytes arrived")
	}
}

// A trial that did not come to the TUN by the kernel's way proves nothing.
func TestTrialAtTheSocket(t *testing.T) {
	m := newMemNode(t, 1)
	m.receiver.echo = newEcho(DefaultPort, nil)
	m.receiver.echo.ports[0] = m.socket
	m.receive(t, arrival(trialFrom(tunnel2, tunnel1, packet.VnetHdr{})[packet.VnetHdrLen:]))
	if len(m.socket.sent) != 0 || len(m.tun.take()) != 0 || len(m.drops()) != 0 {
		t.Errorf("sent %+v, drops %v", m.socket.sent, m.drops())
	}
}

func TestTakeSuperpacketAllocatesNothing(t *testing.T) {
	m := newMemNode(t, 1)
	tun := &nullTUN{}
	m.receiver.deliver.tun = tun
	m.sender.echo = newEcho(DefaultPort, nil)
	m.sender.echo.ports[0] = &nullSocket{}
	m.socket.arrive(arrival(tcp4(outside, inside, 1, ack, counting(40000), false)))
	received, err := m.receiver.receive()
	check(t, err)
	trial := [][]byte{trialFrom(tunnel2, tunnel1, packet.VnetHdr{GSOType: packet.GSOTCPv4})}
	if n := testing.AllocsPerRun(100, func() {
		check(t, m.receiver.accept(received))
		check(t, m.sender.forward(trial))
	}); n != 0 {
		t.Errorf("a superpacket and a trial allocate %v times", n)
	}
	if tun.writes == 0 || m.sender.echo.ports[0].(*nullSocket).messages == 0 || len(m.drops()) != 0 {
		t.Errorf("%d written, drops %v", tun.writes, m.drops())
	}
}
