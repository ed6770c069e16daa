package udp

import (
	"encoding/binary"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

// memTUN, memSocket and memRing (memring_test.go) are the ends of the engine in
// memory. A packet given to one for reading is copied as the kernel would; what is
// written is kept.

type memTUN struct {
	memWaiter
	mu      sync.Mutex
	input   [][]byte // with vnet headers
	written [][]byte // with vnet headers
	refuse  func(b []byte) unix.Errno
}

var _ tunPort = (*memTUN)(nil)

func (m *memTUN) give(packets ...[]byte) {
	m.mu.Lock()
	m.input = append(m.input, packets...)
	m.mu.Unlock()
	m.wake()
}

func (m *memTUN) read(b []byte) (int, unix.Errno) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.input) == 0 {
		return 0, unix.EAGAIN
	}
	n := copy(b, m.input[0])
	m.input = m.input[1:]
	return n, 0
}

func (m *memTUN) writev(iov []unix.Iovec) unix.Errno {
	b := gatherIovecs(iov)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.refuse != nil {
		if errno := m.refuse(b); errno != 0 {
			return errno
		}
	}
	m.written = append(m.written, b)
	return 0
}

// take returns what was written since the last take.
func (m *memTUN) take() [][]byte {
	m.mu.Lock()
	defer m.mu.Unlock()
	w := m.written
	m.written = nil
	return w
}

// memSend is one message as a socket sent it.
type memSend struct {
	to       netip.Addr
	tos      uint8
	segment  int // 0 if it was not asked for
	payload  []byte
	datagram int // datagrams in it
}

type memSocket struct {
	memWaiter
	addr netip.Addr
	mu   sync.Mutex
	sent []memSend
	// refuse may fail a message.
	refuse func(s *memSend) unix.Errno
	// deliver takes the datagrams of a message, in place of sent.
	deliver func(s memSend)
	queue   []memSend // to be received; to is where they come from
	errs    []unix.SockExtendedErr
	errTo   netip.Addr
	quote   []byte // of the packet that an error is about
}

var _ udpPort = (*memSocket)(nil)

func (m *memSocket) sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	for i := range msgs {
		h := &msgs[i].Hdr
		s := memSend{to: getSockaddr(unsafe.Slice(h.Name, h.Namelen)), payload: gatherIovecs(unsafe.Slice(h.Iov, h.Iovlen)), datagram: 1}
		control := unsafe.Slice(h.Control, h.Controllen)
		s.tos = control[cmsgHeaderLen]
		if len(control) == controlGSO {
			s.segment = int(binary.NativeEndian.Uint16(control[unix.CmsgSpace(4)+cmsgHeaderLen:]))
			s.datagram = (len(s.payload) + s.segment - 1) / s.segment
		}
		if m.refuse != nil {
			if errno := m.refuse(&s); errno != 0 {
				if i > 0 {
					return i, 0 // the error is said at the next call
				}
				return 0, errno
			}
		}
		if m.deliver != nil {
			m.deliver(s)
			continue
		}
		m.mu.Lock()
		m.sent = append(m.sent, s)
		m.mu.Unlock()
	}
	return len(msgs), 0
}

// arrive queues a receive: datagrams of one size, the last perhaps shorter.
func (m *memSocket) arrive(s memSend) {
	m.mu.Lock()
	m.queue = append(m.queue, s)
	m.mu.Unlock()
	m.wake()
}

func (m *memSocket) recvmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	m.mu.Lock()
	defer m.mu.Unlock()
	n := 0
	for ; n < len(msgs) && len(m.queue) > 0; n++ {
		s := m.queue[0]
		m.queue = m.queue[1:]
		h := &msgs[n].Hdr
		h.Namelen = uint32(putSockaddr((*[nameSpace]byte)(unsafe.Pointer(h.Name)), s.to, DefaultPort))
		msgs[n].Len = uint32(copy(unsafe.Slice(h.Iov.Base, h.Iov.Len), s.payload))
		control := unsafe.Slice(h.Control, h.Controllen)
		clear(control)
		putCmsgHeader(control, 1, unix.SOL_IP, unix.IP_TOS)
		control[cmsgHeaderLen] = s.tos
		length := unix.CmsgSpace(1)
		if s.segment > 0 {
			putCmsgHeader(control[length:], 4, unix.SOL_UDP, unix.UDP_GRO)
			binary.NativeEndian.PutUint32(control[length+cmsgHeaderLen:], uint32(s.segment))
			length += unix.CmsgSpace(4)
		}
		h.SetControllen(length)
	}
	if n == 0 {
		return 0, unix.EAGAIN
	}
	return n, 0
}

// recverr gives out errs, each about a packet to errTo.
func (m *memSocket) recverr(msg *unix.Msghdr) (int, unix.Errno) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.errs) == 0 {
		return 0, unix.EAGAIN
	}
	e := m.errs[0]
	m.errs = m.errs[1:]
	msg.Namelen = uint32(putSockaddr((*[nameSpace]byte)(unsafe.Pointer(msg.Name)), m.errTo, DefaultPort))
	control := unsafe.Slice(msg.Control, msg.Controllen)
	level, typ := unix.SOL_IP, unix.IP_RECVERR
	if m.errTo.Is6() {
		level, typ = unix.SOL_IPV6, unix.IPV6_RECVERR
	}
	putCmsgHeader(control, 16, level, typ)
	*(*unix.SockExtendedErr)(unsafe.Pointer(&control[cmsgHeaderLen])) = e
	msg.SetControllen(unix.CmsgSpace(16))
	return copy(unsafe.Slice(msg.Iov.Base, msg.Iov.Len), m.quote), 0
}

func (m *memSocket) clearError() {}

// memWaiter waits for wake or stop.
type memWaiter struct {
	ready   chan struct{} // capacity 1
	stopped chan struct{}
}

func newMemWaiter() memWaiter {
	return memWaiter{make(chan struct{}, 1), make(chan struct{})}
}

func (w *memWaiter) wake() {
	select {
	case w.ready <- struct{}{}:
	default:
	}
}

// wait reports whether it was woken, rather than stopped or the time is over.
func (w *memWaiter) wait(timeout time.Duration) bool {
	var expired <-chan time.Time
	if timeout > 0 {
		expired = time.After(timeout)
	}
	select {
	case <-w.ready:
		return true
	case <-expired:
	case <-w.stopped:
	}
	return false
}

func gatherIovecs(iov []unix.Iovec) (b []byte) {
	for _, v := range iov {
		b = append(b, unsafe.Slice(v.Base, v.Len)...)
	}
	return b
}

// memNode is the engine of one node between ends in memory.
type memNode struct {
	tun      *memTUN
	socket   *memSocket
	ring     *memRing
	input    memWaiter // of all ends
	table    atomic.Pointer[tunnel.Table]
	closing  atomic.Bool
	sender   *sender
	receiver *receiver
	worker   *worker
	trouble  *trouble
	log      logBuffer
}

// memPoller waits for all ends.
type memPoller struct{ *memNode }

func (p memPoller) poll(ports []portState, timeout time.Duration) {
	for {
		p.tun.mu.Lock()
		tun := len(p.tun.input) > 0
		p.tun.mu.Unlock()
		p.socket.mu.Lock()
		socket := len(p.socket.queue) > 0
		p.socket.mu.Unlock()
		found := false
		for i, input := range []bool{tunAt: tun, ringAt: p.ring.waiting(), socketsAt: socket} {
			ports[i].ready = 0
			if input {
				ports[i].ready = ports[i].want & unix.POLLIN
			}
			found = found || ports[i].ready != 0
		}
		if found || !p.input.wait(timeout) {
			return
		}
	}
}

// newMemNode makes node n, with the other of nodes 1 and 2 as its peer.
func newMemNode(t testing.TB, n int) *memNode {
	t.Helper()
	input := newMemWaiter()
	m := &memNode{
		input:  input,
		tun:    &memTUN{memWaiter: input},
		ring:   &memRing{memWaiter: input},
		socket: &memSocket{memWaiter: input, addr: outer(n, false)},
	}
	m.setPeers(n, testLease(3-n, setup{}))
	log := testConfig(n, setup{}, &m.log).Log
	m.sender = newSender(m.tun, true, &m.table, 1500)
	m.sender.ring = m.ring
	batch := newSendBatch(m.socket, false, DefaultPort, true)
	batch.errors = newErrorQueue(m.socket, &m.table, 1500)
	m.trouble = newTrouble(log)
	t.Cleanup(func() { m.logged("") })
	batch.counters, batch.trouble = m.sender.counters, m.trouble
	m.sender.batches[0] = []*sendBatch{batch}
	d := newDelivery(m.tun, true, true, true, m.trouble)
	d.mtu, d.most = 1472, 1472
	m.receiver = newReceiver(m.socket, &m.table, newErrorQueue(m.socket, &m.table, 1500), d)
	m.worker = newWorker(&m.closing, memPoller{m}, m.sender, []*receiver{m.receiver}, nil)
	return m
}

func (m *memNode) setPeers(n int, leases ...subnet.Lease) {
	self := tunnel.Self{Own: testLease(n, setup{}), Network: testNetwork, IPv4: true}
	m.table.Store(tunnel.NewTable(self, leases, m.table.Load()))
}

// send passes packets, with their vnet headers, through the sending loop.
func (m *memNode) send(t testing.TB, packets ...[]byte) {
	t.Helper()
	m.tun.give(packets...)
	for {
		n, err := m.sender.read()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if err := m.sender.forward(m.sender.packets[:n]); err != nil {
			t.Fatal(err)
		}
	}
}

// receive passes receives through the receiving loop.
func (m *memNode) receive(t testing.TB, arrivals ...memSend) {
	t.Helper()
	for _, a := range arrivals {
		m.socket.arrive(a)
	}
	for {
		n, err := m.receiver.receive()
		if err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			return
		}
		if err := m.receiver.accept(n); err != nil {
			t.Fatal(err)
		}
	}
}

// logged counts the lines logged that contain a string, at the end of a test.
func (m *memNode) logged(s string) int {
	if m.trouble != nil {
		m.trouble.close()
		m.trouble = nil
	}
	return m.log.count(s)
}

func (m *memNode) peer() *tunnel.Peer { return m.table.Load().Peers()[0] }

func (m *memNode) drops() map[string]uint64 {
	sums := make(map[string]uint64)
	m.sender.counters.addDrops(sums, "tx")
	m.receiver.counters.addDrops(sums, "rx")
	return sums
}

// udp4 is an inner IPv4 UDP packet with right checksums, without DF.
func udp4(src, dst string, payload []byte) []byte {
	b := make([]byte, 28+len(payload))
	b[0], b[8], b[9] = 0x45, 64, packet.ProtoUDP
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	s, d := addr(src).As4(), addr(dst).As4()
	copy(b[12:], s[:])
	copy(b[16:], d[:])
	u := b[20:]
	binary.BigEndian.PutUint16(u[0:], 1000)
	binary.BigEndian.PutUint16(u[2:], 2000)
	binary.BigEndian.PutUint16(u[4:], uint16(len(u)))
	copy(u[8:], payload)
	pseudo := []byte{0, packet.ProtoUDP, u[4], u[5]}
	binary.BigEndian.PutUint16(u[6:], ^packet.Sum(u, packet.Sum(pseudo, packet.Sum(b[12:20], 0))))
	fixIPv4(b)
	return b
}

// fixIPv4 sets the header checksum.
func fixIPv4(b []byte) {
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^packet.Sum(b[:20], 0))
}

// plain puts an empty vnet header before a packet.
func plain(b []byte) []byte { return append(make([]byte, packet.VnetHdrLen), b...) }

// superUDP is a UDP superpacket with its vnet header, of count datagrams with
// size bytes of payload each.
func superUDP(src, dst string, count, size int) []byte {
	b := udp4(src, dst, make([]byte, count*size))
	for i := range b[28:] {
		b[28+i] = byte(i * 7)
	}
	u := b[20:]
	pseudo := []byte{0, packet.ProtoUDP, u[4], u[5]}
	binary.BigEndian.PutUint16(u[6:], packet.Sum(pseudo, packet.Sum(b[12:20], 0)))
	hdr := packet.VnetHdr{Flags: packet.FlagNeedsCsum, GSOType: packet.GSOUDPL4, GSOSize: uint16(size), HdrLen: 28, CsumStart: 20, CsumOffset: 6}
	out := make([]byte, packet.VnetHdrLen, packet.VnetHdrLen+len(b))
	hdr.Encode(out)
	return append(out, b...)
}
