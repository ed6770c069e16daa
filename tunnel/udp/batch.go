package udp

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

const (
	maxPacket = 65535 // bytes of an IP packet

	// maxDatagram is the largest UDP payload over IPv4, in bytes: that of one
	// packet, and of one send that the kernel cuts, since it is built as one.
	maxDatagram = maxPacket - overheadIPv4

	// maxSegments is how many datagrams the kernel cuts one send into:
	// UDP_MAX_SEGMENTS is 64, but some kernels before 6.9 count the headers
	// of the first datagram in with the payload of 64.
	maxSegments = 63

	maxMessages = 64   // in one sendmmsg
	maxIovecs   = 2048 // in one sendmmsg; one message has room in any case
)

// sendBatch collects datagrams for one socket, and sends them in as few system
// calls as it can. Memory for all of it is made once.
//
//	datagram: one inner packet, in one or two pieces
//	message:  one send; datagrams to one peer, equal in length but the last,
//	          which the kernel cuts apart (UDP_SEGMENT)
//	batch:    the messages of one sendmmsg
type sendBatch struct {
	port        udpPort
	errors      *errorQueue
	counters    *counters
	trouble     *trouble
	remotePort  uint16
	maxSegments int // 1 where the kernel cannot cut

	n, niov  int // messages and pieces in use
	messages [maxMessages]message
	headers  [maxMessages]unix.Mmsghdr // what the kernel sees of the messages
	names    [maxMessages][nameSpace]byte
	controls [maxMessages]sendControl
	iovecs   [maxIovecs]unix.Iovec

	// rest waits for an event at the port, or none, until a time has passed.
	rest func(events int16, timeout time.Duration)

	patience int            // waits left in this flush
	stray    int            // errors of earlier packets that it puts up with
	single   []unix.Mmsghdr // scratch of sendSingly, length 1
}

// message says what one of the headers holds.
type message struct {
	peer  *tunnel.Peer
	tos   uint8 // outer
	size  int   // bytes of each datagram but the last
	last  int   // bytes of the last one
	count int   // datagrams
	bytes int   // of all datagrams
	iov   int   // index of the first piece
	niov  int   // pieces
}

func newSendBatch(port udpPort, ipv6 bool, remotePort uint16, segment bool) *sendBatch {
	b := &sendBatch{port: port, remotePort: remotePort, maxSegments: 1, single: make([]unix.Mmsghdr, 1)}
	if segment {
		b.maxSegments = maxSegments
	}
	for i := range b.controls {
		b.controls[i].wire(ipv6)
	}
	return b
}

// add takes datagrams for a peer. Their pieces must not change before flush.
// A batch that is full is flushed on the way.
func (b *sendBatch) add(peer *tunnel.Peer, tos uint8, segs *packet.Segments) error {
	most := min(b.maxSegments, maxDatagram/segs.Size)
	if peer.State.Unbatched.Get() != 0 {
		most = 1
	}
	if b.join(peer, tos, segs, most) {
		return nil
	}
	// Even parts: the receiver gets them in as many batches, and 23 + 22
	// datagrams cost it less than 44 + 1.
	sends := (segs.Count + most - 1) / most
	part := (segs.Count + sends - 1) / sends
	for i := 0; i < segs.Count; i += part {
		if err := b.start(peer, tos, segs, i, min(i+part, segs.Count)); err != nil {
			return err
		}
	}
	return nil
}

// join appends datagrams to the message begun last, if that may have them.
func (b *sendBatch) join(peer *tunnel.Peer, tos uint8, segs *packet.Segments, most int) bool {
	if b.n == 0 {
		return false
	}
	m := &b.messages[b.n-1]
	size, bytes := segs.Size, (segs.Count-1)*segs.Size+segs.Last
	if segs.Count == 1 {
		size = segs.Last
	}
	switch {
	case m.peer != peer || m.tos != tos:
		return false
	case m.last < m.size: // a shorter datagram ends a message
		return false
	case size > m.size || size < m.size && segs.Count > 1:
		return false
	case m.count+segs.Count > most || m.bytes+bytes > maxDatagram || b.niov+len(segs.Pieces) > maxIovecs:
		return false
	}
	m.count += segs.Count
	m.bytes += bytes
	m.last = segs.Last
	m.niov += b.gather(segs.Pieces)
	return true
}

// start begins a message with datagrams i to j-1.
func (b *sendBatch) start(peer *tunnel.Peer, tos uint8, segs *packet.Segments, i, j int) error {
	pieces := segs.Slice(i, j)
	if b.n == maxMessages || b.niov+len(pieces) > maxIovecs {
		if err := b.flush(); err != nil {
			return err
		}
	}
	m := &b.messages[b.n]
	*m = message{peer: peer, tos: tos, size: segs.Size, last: segs.Size, count: j - i, iov: b.niov}
	if j == segs.Count {
		m.last = segs.Last
	}
	if m.count == 1 {
		m.size = m.last
	}
	m.bytes = (m.count-1)*m.size + m.last
	m.niov = b.gather(pieces)
	b.n++
	return nil
}

// gather appends pieces to the batch's gather list.
func (b *sendBatch) gather(pieces [][]byte) int {
	for _, p := range pieces {
		v := &b.iovecs[b.niov]
		v.Base = unsafe.SliceData(p)
		v.SetLen(len(p))
		b.niov++
	}
	return len(pieces)
}

// flush sends all messages. What cannot be sent is dropped and counted; an
// error means that the socket is of no use any more.
func (b *sendBatch) flush() error {
	for i := range b.n {
		b.seal(i)
	}
	b.patience, b.stray = maxPatience, maxStray
	for done := 0; done < b.n; {
		sent, errno := b.push(b.headers[done:b.n])
		b.account(b.messages[done : done+sent])
		if done += sent; errno != 0 {
			if err := b.failed(done, errno); err != nil {
				return err
			}
			done++
		}
	}
	b.n, b.niov = 0, 0
	return nil
}

// seal makes the header of a message for the kernel.
func (b *sendBatch) seal(i int) {
	m, control := &b.messages[i], &b.controls[i]
	h := &b.headers[i].Hdr
	h.Name = &b.names[i][0]
	h.Namelen = uint32(putSockaddr(&b.names[i], m.peer.Endpoint, b.remotePort))
	h.Iov = &b.iovecs[m.iov]
	h.SetIovlen(m.niov)
	h.Control = &control.b[0]
	control.setTOS(m.tos)
	h.SetControllen(controlTOS)
	if m.count > 1 {
		control.setSegment(m.size)
		h.SetControllen(controlGSO)
	}
}

// account counts messages that were sent, once for each run of one peer.
func (b *sendBatch) account(sent []message) {
	if len(sent) == 0 {
		return
	}
	peer, packets, bytes, all := sent[0].peer, 0, 0, 0
	for i := range sent {
		m := &sent[i]
		if m.peer != peer {
			peer.State.Tx.Count(packets, bytes)
			peer, packets, bytes = m.peer, 0, 0
		}
		packets += m.count
		bytes += m.bytes
		all += m.count
	}
	peer.State.Tx.Count(packets, bytes)
	b.counters.out.add(len(sent), all)
}

// unbatchedFor is how long a peer's datagrams go singly after the kernel, or
// the interface towards that peer, refused to cut a message.
const unbatchedFor = 10 * time.Minute
