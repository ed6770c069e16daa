package udp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

// What comes by the ring is sent as what comes by the TUN is: to the same peers in the
// same messages, or dropped for the same reason, of which the same senders are told.
func TestRingAsTUN(t *testing.T) {
	long := func(df bool) []byte {
		b := udp4(inside, outside, make([]byte, 1445)) // 1473 bytes
		if df {
			b[6] = 0x40
		}
		fixIPv4(b)
		return b
	}
	small := func(payload int) []byte { return udp4(inside, outside, counting(payload)) }
	marked := small(100)
	marked[1] = packet.ECT0 | 0xb8
	fixIPv4(marked)
	unfinished := withChecksum(small(100), pseudoHeaderSum(small(100)))
	noLease := func(m *memNode) { m.table.Store(newMemTableWithoutLease(m)) }
	flannel := func(m *memNode) { m.setPeers(1, testLease(2, setup{flannel: true})) }
	byIPv6 := func(m *memNode) {
		self := tunnel.Self{Own: testLease(1, setup{}), Network: testNetwork, IPv4: true, IPv6: true}
		m.table.Store(tunnel.NewTable(self, []subnet.Lease{testLease(2, setup{outer6: true})}, nil))
	}
	narrow := func(m *memNode) { m.peer().State.PathMTU.Set(1300, time.Now().Add(time.Hour)) }
	for _, c := range []struct {
		name    string
		setup   func(*memNode)
		input   [][]byte
		sent    []string
		drops   map[string]uint64
		written int // ICMP errors
	}{
		{"to a peer", nil, [][]byte{small(100)}, []string{"1x0=128"}, nil, 0},
		{"equal packets", nil, repeated(small(64), 5), []string{"5x92=460"}, nil, 0},
		{"a shorter one ends it", nil, [][]byte{small(100), small(100), small(50), small(50)}, []string{"3x128=334", "1x0=78"}, nil, 0},
		{"another mark begins another", nil, [][]byte{small(100), marked, small(100)}, []string{"1x0=128", "1x0=128", "1x0=128"}, nil, 0},
		{"more than a batch", nil, repeated(small(10), 65), []string{"63x38=2394", "1x0=38", "1x0=38"}, nil, 0},
		{"to nobody", nil, [][]byte{udp4(inside, "10.5.77.1", nil)}, nil, map[string]uint64{"tx_no_peer": 1}, 1},
		{"to a group", nil, [][]byte{udp4(inside, "224.0.0.251", nil)}, nil, map[string]uint64{"tx_not_unicast": 1}, 0},
		{"foreign source", nil, [][]byte{udp4("192.0.2.1", outside, nil), small(1)}, []string{"1x0=29"}, map[string]uint64{"tx_foreign_source": 1}, 0},
		{"foreign source to a flannel node", flannel, [][]byte{udp4("192.0.2.1", outside, nil), marked}, []string{"1x0=28", "1x0=128"}, nil, 0},
		{"no lease", noLease, repeated(small(1), 3), nil, map[string]uint64{"tx_no_lease": 3}, 0},
		{"no socket", byIPv6, [][]byte{small(1)}, nil, map[string]uint64{"tx_no_socket": 1}, 0},
		{"fits exactly", nil, [][]byte{small(1444)}, []string{"1x0=1472"}, nil, 0},
		{"too big", nil, [][]byte{long(true), small(1)}, []string{"1x0=29"}, map[string]uint64{"tx_too_big": 1}, 1},
		{"to be fragmented", nil, [][]byte{long(false)}, []string{"2x1468=1493"}, nil, 0},
		{"a narrow path", narrow, [][]byte{unfinished, long(false)}, []string{"1x0=128", "2x1268=1493"}, nil, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var nodes [2]*memNode
			for i := range nodes {
				nodes[i] = newMemNode(t, 1)
				if c.setup != nil {
					c.setup(nodes[i])
				}
			}
			tun, ring := nodes[0], nodes[1]
			for _, b := range c.input {
				// For the TUN the kernel says that a checksum is unfinished.
				hdr := packet.VnetHdr{}
				if bytes.Equal(b, unfinished) {
					hdr = packet.VnetHdr{Flags: packet.FlagNeedsCsum, CsumStart: 20, CsumOffset: 6}
				}
				withHdr := plain(b)
				hdr.Encode(withHdr)
				tun.tun.give(withHdr)
				ring.ring.give(bytes.Clone(b))
			}
			for range c.input {
				check(t, tun.sender.serve(unix.POLLIN))
				check(t, ring.sender.serve(0))
			}
			if got := shapes(ring.socket.sent); !slices.Equal(got, c.sent) {
				t.Errorf("sent %v, want %v", got, c.sent)
			}
			if got := ring.drops(); !maps.Equal(got, c.drops) {
				t.Errorf("drops %v, want %v", got, c.drops)
			}
			written := ring.tun.take()
			if len(written) != c.written {
				t.Errorf("%d written to the TUN, want %d", len(written), c.written)
			}
			if got, want := fmt.Sprint(ring.socket.sent), fmt.Sprint(tun.socket.sent); got != want {
				t.Errorf("by the ring is sent\n%s\nby the TUN\n%s", got, want)
			}
			if got, want := fmt.Sprintf("%x", written), fmt.Sprintf("%x", tun.tun.take()); got != want {
				t.Errorf("for the ring is written\n%s\nfor the TUN\n%s", got, want)
			}
			for i, m := range nodes {
				if c.setup != nil && len(m.table.Load().Peers()) == 0 {
					continue
				}
				if n := m.peer().State.Tx.Packets.Load(); n != uint64(len(datagrams(m.socket.sent))) {
					t.Errorf("node %d counts %d packets to its peer", i, n)
				}
			}
		})
	}
}

// Packets of all lengths reach the peer in the order in which they were put into the
// ring, unchanged, however many wait there.
func TestRingInOrder(t *testing.T) {
	m := newMemNode(t, 1)
	random := rand.New(rand.NewPCG(3, 4))
	var want [][]byte
	for i := range 1000 {
		payload := binary.BigEndian.AppendUint32(nil, uint32(i))
		if i%10 == 9 {
			payload = append(payload, make([]byte, random.IntN(1400))...)
		}
		want = append(want, udp4(inside, outside, payload))
	}
	check(t, m.sendByRing(want...))
	got := datagrams(m.socket.sent)
	if len(got) != len(want) {
		t.Fatalf("%d datagrams of %d packets", len(got), len(want))
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("datagram %d is\n%x\nwant\n%x", i, got[i], want[i])
		}
	}
	if in := &m.sender.counters.in; in.packets.Load() != 1000 || in.messages.Load() != 1000 || in.calls.Load() != 0 {
		t.Errorf("counted %d packets in %d messages by %d calls", in.packets.Load(), in.messages.Load(), in.calls.Load())
	}
}

// onesComplement is the ones' complement sum of RFC 1071, of 16-bit words.
func onesComplement(b []byte) uint16 {
	sum := 0
	for i, v := range b {
		if i%2 == 0 {
			sum += int(v) << 8
		} else {
			sum += int(v)
		}
		for sum > 0xffff {
			sum = sum&0xffff + sum>>16
		}
	}
	return uint16(sum)
}

// pseudoHeader is that of RFC 768 of a packet without IP options.
func pseudoHeader(b []byte) []byte {
	return append(bytes.Clone(b[12:20]), 0, b[9], byte((len(b)-20)>>8), byte(len(b)-20))
}

// pseudoHeaderSum is what a kernel leaves for a network card to go on from.
func pseudoHeaderSum(b []byte) uint16 { return onesComplement(pseudoHeader(b)) }

// rightChecksum is that of a UDP packet without IP options.
func rightChecksum(b []byte) uint16 {
	sum := ^onesComplement(append(pseudoHeader(b), withChecksum(b, 0)[20:]...))
	if sum == 0 {
		return 0xffff
	}
	return sum
}

// withChecksum is a UDP packet with another checksum.
func withChecksum(b []byte, sum uint16) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[26:], sum)
	return b
}

// An unfinished checksum is finished, whatever the packet is like, and no other is
// touched: neither a right one, nor a wrong one, nor none.
func TestRingFinishesChecksums(t *testing.T) {
	m := newMemNode(t, 1)
	random := rand.New(rand.NewPCG(5, 6))
	var input, want [][]byte
	add := func(pkt, result []byte) { input, want = append(input, pkt), append(want, result) }
	for size := range 1445 {
		if size > 70 && size%61 != 0 && size < 1440 {
			continue
		}
		for range 4 {
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(random.Uint32())
			}
			pkt := udp4(inside, outside, payload)
			right := withChecksum(pkt, rightChecksum(pkt))
			add(withChecksum(pkt, pseudoHeaderSum(pkt)), right)
			add(right, right)
			for _, sum := range []uint16{0, rightChecksum(pkt) ^ 1, pseudoHeaderSum(pkt) ^ 0x8000, ^pseudoHeaderSum(pkt)} {
				if other := withChecksum(pkt, sum); sum != pseudoHeaderSum(pkt) {
					add(other, other)
				}
			}
		}
	}
	// One whose sum is 0, which stands for no checksum: it is to be 0xffff.
	pkt := udp4(inside, outside, []byte{0, 0})
	binary.BigEndian.PutUint16(pkt[28:], rightChecksum(pkt))
	zero := withChecksum(pkt, 0xffff)
	add(withChecksum(pkt, pseudoHeaderSum(pkt)), zero)
	add(zero, zero)

	check(t, m.sendByRing(input...))
	got := datagrams(m.socket.sent)
	if len(got) != len(want) {
		t.Fatalf("%d datagrams of %d packets; drops %v", len(got), len(want), m.drops())
	}
	for i := range want {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("%x became\n%x, want\n%x", input[i], got[i], want[i])
		}
	}
}

// What cannot be a packet is dropped and counted, and what comes with it is not.
func TestRingGarbage(t *testing.T) {
	m := newMemNode(t, 1)
	change := func(at int, values ...byte) []byte {
		b := udp4(inside, outside, counting(50))
		copy(b[at:], values)
		return b
	}
	good := udp4(inside, outside, counting(50))
	garbage := [][]byte{
		{}, {0x45}, good[:19], good[:27], make([]byte, 20), bytes.Repeat([]byte{0xff}, 9216),
		change(0, 0x75), change(0, 0x44), change(0, 0x4f, 0, 0, 50)[:50], change(2, 0, 10), change(2, 0xff, 0xff), {0x60}, change(0, 0x65),
	}
	for _, b := range garbage {
		check(t, m.sendByRing(good, b, good))
	}
	if got := datagrams(m.socket.sent); len(got) != 2*len(garbage) || !bytes.Equal(bytes.Join(got, nil), bytes.Repeat(good, len(got))) {
		t.Errorf("%d datagrams sent, or other than they were: %v", len(got), shapes(m.socket.sent))
	}
	dropped := uint64(0)
	for _, n := range m.drops() {
		dropped += n
	}
	if dropped != uint64(len(garbage)) {
		t.Errorf("drops %v, want %d", m.drops(), len(garbage))
	}
	if m.sender.taken != 3 {
		t.Errorf("of the last three %d were taken", m.sender.taken)
	}
}

// Whatever the ring has, it is sent or dropped, and nothing breaks.
func FuzzRing(f *testing.F) {
	for _, b := range [][]byte{
		{}, udp4(inside, outside, nil), udp4(inside, outside, counting(2000)), tcp4(inside, outside, 1, ack, counting(20), false),
		udp6("fd00:5:1::9", "fd00:5:2::9", counting(8)), udp4(inside, "10.5.77.1", nil), udp4("192.0.2.1", "224.0.0.1", nil),
	} {
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := newMemNode(t, 1)
		m.ring.give(b[:min(len(b), 9216)])
		check(t, m.sender.serve(0))
		sum := uint64(len(m.socket.sent))
		for _, n := range m.drops() {
			sum += n
		}
		if sum == 0 || m.sender.taken != 1 || !m.sender.drained {
			t.Errorf("%d sent or dropped, %d taken, drained %v", sum, m.sender.taken, m.sender.drained)
		}
	})
}

// In a turn, the ring has a batch and then the TUN, and each is counted as its own.
func TestRingAndTUN(t *testing.T) {
	m := newMemNode(t, 1)
	small := udp4(inside, outside, nil)
	for _, c := range []struct {
		ring, tun        int // what waits there
		ready            int16
		taken, datagrams int
		drained          bool
	}{
		{0, 0, 0, 0, 0, true},
		{0, 0, unix.POLLIN, 0, 0, true},
		{1, 0, 0, 1, 0, true},
		{1, 0, unix.POLLIN, 1, 0, true},
		{maxReads, 0, 0, maxReads, 0, true},
		{maxReads + 1, 0, 0, maxReads, 0, false},
		{maxReads + 1, 0, unix.POLLIN, maxReads, 0, false},
		{maxReads + 1, 1, unix.POLLIN, maxReads, 1, false},
		{0, 1, unix.POLLIN, 0, 1, true},
		{0, 1, 0, 0, 0, true}, // it waits for the poll to say so
		{3, 2, unix.POLLIN, 3, 2, true},
		{3, maxReads, unix.POLLIN, 3, maxReads, false},
		{3, maxReads + 1, unix.POLLIN, 3, maxReads, false},
		{maxReads + 1, maxReads + 1, unix.POLLIN, maxReads, maxReads, false},
	} {
		m.ring.packets, m.tun.input, m.socket.sent = nil, nil, nil
		for i := range c.ring {
			m.ring.give(udp4(inside, outside, []byte{0, byte(i)}))
		}
		for i := range c.tun {
			m.tun.give(plain(udp4(inside, outside, []byte{1, byte(i)})))
		}
		check(t, m.sender.serve(c.ready))
		if s := m.sender; s.taken != c.taken || s.datagrams != c.datagrams || s.drained != c.drained {
			t.Errorf("%+v: %d taken, %d datagrams, drained %v", c, s.taken, s.datagrams, s.drained)
		}
		var want, got []byte
		for _, from := range []int{0, 1} {
			for i := range []int{c.taken, c.datagrams}[from] {
				want = append(want, byte(from), byte(i))
			}
		}
		for _, d := range datagrams(m.socket.sent) {
			got = append(got, d[len(small):]...)
		}
		if !bytes.Equal(got, want) {
			t.Errorf("%+v: sent %x, want %x", c, got, want)
		}
	}
	// Nothing is left of a turn, or of a ring, that was.
	m.sender.ring = nil
	if check(t, m.sender.serve(0)); m.sender.taken != 0 || !m.sender.drained {
		t.Errorf("without a ring: %d taken, drained %v", m.sender.taken, m.sender.drained)
	}
}

// A socket that is gone ends the worker, from the ring as from the TUN.
func TestRingSocketGone(t *testing.T) {
	m := newMemNode(t, 1)
	m.socket.refuse = func(*memSend) unix.Errno { return unix.EBADF }
	if err := m.sendByRing(udp4(inside, outside, nil)); err == nil {
		t.Error("a closed socket is no error")
	}
}

// nullRing costs nothing itself.
type nullRing struct {
	packets [][]byte
	given   int
}

func (n *nullRing) Take(arena []byte, packets [][]byte) (int, bool) {
	at := 0
	for i, b := range n.packets {
		packets[i] = arena[at : at+copy(arena[at:], b)]
		at += (len(b) + 63) &^ 63
	}
	n.given += len(n.packets)
	return len(n.packets), false
}

func TestRingAllocatesNothing(t *testing.T) {
	m := newMemNode(t, 1)
	small := udp4(inside, outside, make([]byte, 100))
	ring := &nullRing{packets: slices.Concat(
		repeated(small, 40), repeated(withChecksum(small, pseudoHeaderSum(small)), 20), repeated(udp4(inside, outside, make([]byte, 1400)), 4))}
	socket := &nullSocket{}
	m.sender.ring, m.sender.batches[0][0].port = ring, socket
	if n := testing.AllocsPerRun(100, func() {
		check(t, m.sender.serve(0))
		m.worker.moderation.note(1, m.sender.datagrams, m.sender.taken)
	}); n != 0 {
		t.Errorf("a batch from the ring allocates %v times", n)
	}
	if sent := m.peer().State.Tx.Packets.Load(); socket.messages == 0 || int(sent) != ring.given || len(m.drops()) != 0 {
		t.Errorf("%d packets in %d messages of %d from the ring; drops %v", sent, socket.messages, ring.given, m.drops())
	}
}
