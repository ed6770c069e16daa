package udp

import (
	"fmt"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

const (
	// maxReceives is how many receives one system call makes. With UDP_GRO
	// each may hold as many datagrams as fit its buffer; the whole should stay
	// in a CPU's cache until it is written to the TUN.
	maxReceives = 8

	// receiveSize is the room for one receive: the longest UDP payload.
	receiveSize = 65536
)

// receiver carries packets from one socket to one queue of the TUN. Its
// methods come in the order a packet travels. All belongs to one worker's thread.
type receiver struct {
	socket   udpPort
	errors   *errorQueue
	table    *atomic.Pointer[tunnel.Table]
	counters *counters
	overflow atomic.Uint32 // datagrams that found the socket's buffer full

	headers  [maxReceives]unix.Mmsghdr
	buffers  []byte
	names    [maxReceives][nameSpace]byte
	controls [maxReceives][controlSpace / 8]uint64 // aligned
	iovecs   [maxReceives]unix.Iovec

	meta    received
	info    packet.Info
	echo    *echo
	deliver *delivery
}

func newReceiver(socket udpPort, table *atomic.Pointer[tunnel.Table], errors *errorQueue, d *delivery) *receiver {
	r := &receiver{socket: socket, errors: errors, table: table, counters: d.counters, deliver: d}
	r.buffers = make([]byte, maxReceives*receiveSize)
	for i := range r.headers {
		r.iovecs[i].Base = &r.buffers[i*receiveSize]
		r.iovecs[i].SetLen(receiveSize)
		h := &r.headers[i].Hdr
		h.Name = &r.names[i][0]
		h.Iov = &r.iovecs[i]
		h.SetIovlen(1)
		h.Control = (*byte)(unsafe.Pointer(&r.controls[i]))
	}
	return r
}

// serve carries one batch, if there is something to receive. An error means
// that it cannot go on.
func (r *receiver) serve(ready int16) error {
	if ready == 0 {
		return nil
	}
	if ready&unix.POLLERR != 0 {
		r.errors.drain()
	}
	n, err := r.receive()
	if err != nil || n == 0 {
		return err
	}
	return r.accept(n)
}

// receive makes one system call; n is how many receives it made.
func (r *receiver) receive() (n int, err error) {
	for i := range r.headers {
		h := &r.headers[i].Hdr
		h.Namelen = nameSpace
		h.SetControllen(controlSpace)
	}
	n, errno := r.socket.recvmmsg(r.headers[:])
	switch errno {
	case 0:
		return n, nil
	case unix.EAGAIN, unix.EINTR:
		return 0, nil
	case unix.EBADF, unix.ENOTSOCK, unix.EFAULT, unix.EINVAL:
		return 0, fmt.Errorf("receive: %w", errno)
	}
	// An ICMP error about a packet that was sent; the queue has the details.
	// Or a shortage of memory, which passes.
	r.errors.drain()
	return 0, nil
}

// accept takes the packets out of n receives and delivers those that belong.
func (r *receiver) accept(n int) error {
	table := r.table.Load()
	packets := 0
	r.deliver.begin()
	for i := range n {
		h := &r.headers[i]
		control := unsafe.Slice((*byte)(unsafe.Pointer(&r.controls[i])), controlSpace)
		r.meta.parse(control[:h.Hdr.Controllen])
		if r.meta.overflow != 0 {
			r.overflow.Store(r.meta.overflow)
		}
		b := r.buffers[i*receiveSize:][:h.Len]
		size := len(b) // of each datagram but the last
		if r.meta.segment > 0 && r.meta.segment < size {
			size = r.meta.segment
		}
		count := 1
		if size > 0 {
			count = (len(b) + size - 1) / size
		}
		packets += count

		from := getSockaddr(r.names[i][:h.Hdr.Namelen])
		switch {
		case !table.HasLease():
			r.counters.drop(noLease, count)
			continue
		case table.At(from) == nil:
			r.counters.drop(unknownSender, count)
			continue
		case h.Hdr.Flags&unix.MSG_TRUNC != 0:
			r.counters.drop(oversized, count)
			continue
		}
		if err := r.acceptFrom(from, b, size, table); err != nil {
			return err
		}
	}
	r.counters.in.add(n, packets)
	return r.deliver.flush()
}

// acceptFrom takes the datagrams of one receive, each of size bytes but the
// last, from a sender that is known.
func (r *receiver) acceptFrom(from netip.Addr, b []byte, size int, table *tunnel.Table) error {
	var peer *tunnel.Peer // of the packet before, most likely of this one too
	packets, bytes := 0, 0
	added := false                  // the packet added last is this peer's, of this receive
	self := table.Own().IPv4.Addr() // the tunnel address
	for more := true; more; {
		pkt := b[:min(size, len(b))]
		b = b[len(pkt):]
		more = len(b) > 0
		// All that is asked below has the same answer as for the packet before.
		if added && r.deliver.coalescer.Continue(pkt) {
			packets++
			bytes += len(pkt)
			continue
		}
		if why := r.info.Parse(pkt); why != packet.OK {
			r.counters.drop(reason(why), 1)
			continue
		}
		if peer == nil || !peer.Owns(r.info.Src) {
			added = false
			if peer != nil {
				peer.State.Rx.Count(packets, bytes)
				packets, bytes = 0, 0
			}
			// Several leases may name one address.
			if peer = table.Lookup(r.info.Src); peer == nil || !peer.At(from) {
				r.counters.drop(spoofedSource, 1)
				peer = nil
				continue
			}
		}
		if !table.Owns(r.info.Dst) {
			r.counters.drop(notForUs, 1)
			continue
		}
		if r.info.Dst == self && r.echo.took(pkt, peer) {
			continue
		}
		tos, drop := packet.ECNDecap(r.meta.tos, r.info.TOS)
		if drop {
			r.counters.drop(congested, 1)
			continue
		}
		if tos != r.info.TOS {
			packet.SetTOS(pkt, tos)
			r.info.TOS = tos
		}
		if peer.Weft > 0 {
			// Its kernel may have sent it, for ours, which has left it: it was
			// marked on the way, or one of the two nodes has or had the assist and
			// the other does not know yet.
			if len(pkt) > r.deliver.mtu {
				taken, err := r.takeSuperpacket(pkt, peer)
				if err != nil {
					return err
				}
				if taken {
					added = false
					continue
				}
			}
			packet.FinishChecksum(pkt, &r.info)
		}
		packets++
		bytes += len(pkt)
		if err := r.deliver.add(pkt, &r.info); err != nil {
			return err
		}
		added = true
	}
	if peer != nil {
		peer.State.Rx.Count(packets, bytes)
	}
	return nil
}
