package udp

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

const (
	// pathMTUFor is how long a learned path MTU is believed (RFC 1191
	// section 6.3 has ten minutes).
	pathMTUFor = 10 * time.Minute

	// Least path MTU believed, in bytes of an outer packet: an ICMP error can
	// be forged. For IPv4 it is what every host reassembles, for IPv6 the
	// least that there is.
	minPathMTUIPv4 = 576
	minPathMTUIPv6 = 1280

	// leastUnproven is the least that is believed of an IPv4 router that does
	// not quote enough of the packet to show that it had one: many give no
	// more than the eight bytes that RFC 792 asks for, and without them
	// packets would vanish. Few ways that carry tunnels have less.
	leastUnproven = 1280
)

// errorQueue reads a socket's error queue (IP_RECVERR, see ip(7)): the ICMP
// errors that came back, and packets too long for this host's own routes. Each
// thread has its own, with its own scratch memory.
type errorQueue struct {
	port    udpPort
	table   *atomic.Pointer[tunnel.Table]
	mtu     int    // of the underlay
	notify  func() // a peer has refused a datagram; may be nil
	learned func() // a peer's path MTU was learned; may be nil

	msg     unix.Msghdr
	name    [nameSpace]byte
	control [controlSpace]uint64 // aligned; room for the offender's address
	iov     unix.Iovec
	quote   [quoteSpace]byte
}

// quoteSpace is the room for the beginning of the datagram that an error is
// about, in bytes: an inner IP header.
const quoteSpace = 40

func newErrorQueue(port udpPort, table *atomic.Pointer[tunnel.Table], mtu int) *errorQueue {
	return &errorQueue{port: port, table: table, mtu: mtu}
}

// drain reads the queue until it is empty, and returns how many errors in it
// came from others: those of this host are about the send that met them.
func (q *errorQueue) drain() (foreign int) {
	for {
		q.msg = unix.Msghdr{Name: &q.name[0], Namelen: nameSpace, Control: (*byte)(unsafe.Pointer(&q.control[0]))}
		q.msg.SetControllen(len(q.control) * 8)
		q.iov.Base = &q.quote[0]
		q.iov.SetLen(quoteSpace)
		q.msg.Iov = &q.iov
		q.msg.SetIovlen(1)
		n, errno := q.port.recverr(&q.msg)
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		default: // EAGAIN: empty
			return foreign
		}
		// The name is where the packet in question was sent to.
		to := getSockaddr(q.name[:q.msg.Namelen])
		control := unsafe.Slice((*byte)(unsafe.Pointer(&q.control[0])), int(q.msg.Controllen))
		if e, ok := extendedError(control); ok {
			if e.Origin != unix.SO_EE_ORIGIN_LOCAL {
				foreign++
			}
			q.learn(to, &e, q.quote[:min(n, quoteSpace)], time.Now())
		}
	}
}

// clear drains the queue of a socket that nothing is received from. The kernel
// sets the socket's error after it has filled the queue: if the queue was read
// in between, the error remains, and poll would tell of it for ever.
func (q *errorQueue) clear() {
	q.drain()
	q.port.clearError()
}

// extendedError finds the struct sock_extended_err among control messages.
func extendedError(b []byte) (e unix.SockExtendedErr, ok bool) {
	for len(b) >= cmsgHeaderLen {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		length := int(h.Len)
		if length < cmsgHeaderLen || length > len(b) {
			return e, false
		}
		data := b[cmsgHeaderLen:length]
		ipv4 := h.Level == unix.SOL_IP && h.Type == unix.IP_RECVERR
		ipv6 := h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_RECVERR
		if (ipv4 || ipv6) && len(data) >= int(unsafe.Sizeof(e)) {
			e.Errno = binary.NativeEndian.Uint32(data)
			e.Origin, e.Type, e.Code = data[4], data[5], data[6]
			e.Info = binary.NativeEndian.Uint32(data[8:])
			return e, true
		}
		next := unix.CmsgSpace(len(data))
		if next >= len(b) {
			return e, false
		}
		b = b[next:]
	}
	return e, false
}

// learn applies an error to the peers that have the address. quote is the
// beginning of the datagram's payload, as far as the error quotes it.
func (q *errorQueue) learn(to netip.Addr, e *unix.SockExtendedErr, quote []byte, now time.Time) {
	table := q.table.Load()
	for _, p := range table.At(to) {
		switch unix.Errno(e.Errno) {
		case unix.EMSGSIZE: // from this host or from a router
			least, ok := leastPathMTU(table, p, e, quote)
			if !ok {
				continue
			}
			// Old routers leave the MTU out (RFC 1191 section 5): 0.
			mtu := max(int(min(e.Info, maxPacket)), least)
			known := p.State.PathMTU.Get()
			if mtu < q.mtu && (known == 0 || mtu <= known) {
				p.State.PathMTU.Set(mtu, now.Add(pathMTUFor))
				if q.learned != nil {
					q.learned()
				}
			}
		case unix.ECONNREFUSED:
			if !quotes(table, p, quote) {
				continue
			}
			p.State.Refused.Add(1)
			if q.notify != nil {
				q.notify()
			}
		}
	}
}

// leastPathMTU returns the least path MTU to believe of an error, or that the
// error is not to be believed at all: it quotes something that was not sent, or
// that is no longer than the MTU it claims.
func leastPathMTU(table *tunnel.Table, p *tunnel.Peer, e *unix.SockExtendedErr, quote []byte) (least int, ok bool) {
	ipv6 := p.Endpoint.Is6()
	least, overhead := minPathMTUIPv4, overheadIPv4
	if ipv6 {
		least, overhead = minPathMTUIPv6, overheadIPv6
	}
	if e.Origin == unix.SO_EE_ORIGIN_LOCAL {
		return least, true // of this host's own route
	}
	if len(quote) == 0 && !ipv6 {
		return leastUnproven, true
	}
	if !quotes(table, p, quote) {
		return 0, false
	}
	length := int(binary.BigEndian.Uint16(quote[2:])) // of the inner packet
	if quote[0]>>4 == 6 {
		length = 40 + int(binary.BigEndian.Uint16(quote[4:]))
	}
	return least, uint32(length+overhead) > e.Info
}

// quotes tells whether an error quotes an inner packet to the peer. An ICMP
// error can be forged, by somebody who knows the addresses of both hosts; he
// must then know what is spoken inside the tunnel as well. Hosts quote 500
// bytes and more; an error that quotes none of the payload (RFC 792 asks for
// eight bytes, the UDP header) is not believed.
func quotes(table *tunnel.Table, p *tunnel.Peer, quote []byte) bool {
	switch {
	case len(quote) >= 20 && quote[0]>>4 == 4:
		return p.Owns(netip.AddrFrom4([4]byte(quote[16:20]))) && quotesSource(table, p, netip.AddrFrom4([4]byte(quote[12:16])))
	case len(quote) >= 40 && quote[0]>>4 == 6:
		return p.Owns(netip.AddrFrom16([16]byte(quote[24:40]))) && quotesSource(table, p, netip.AddrFrom16([16]byte(quote[8:24])))
	}
	return false
}

// quotesSource: a flannel peer is sent packets with foreign sources too.
func quotesSource(table *tunnel.Table, p *tunnel.Peer, src netip.Addr) bool {
	return p.Weft == 0 || table.Owns(src)
}
