package udp

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// controlSpace is the room in bytes for the control messages of one datagram
// in either direction, see cmsg(3): three of an int each.
const controlSpace = 96

// nameSpace is the room for the raw address of either family.
const nameSpace = unix.SizeofSockaddrInet6

// cmsgHeaderLen is the aligned length in bytes of struct cmsghdr, which
// precedes each control message.
var cmsgHeaderLen = unix.CmsgLen(0)

// sendControl holds the control messages of a send: the TOS or traffic class,
// and behind it the segment size, which is left off by a shorter length.
type sendControl struct {
	b   [controlSpace]byte
	tos int // offsets of the values
	gso int
}

// Lengths of the control buffer of a send.
var (
	controlTOS = unix.CmsgSpace(4)
	controlGSO = unix.CmsgSpace(4) + unix.CmsgSpace(2)
)

// wire writes what stays the same for all sends of a family.
func (c *sendControl) wire(ipv6 bool) {
	level, typ := unix.SOL_IP, unix.IP_TOS
	if ipv6 {
		level, typ = unix.SOL_IPV6, unix.IPV6_TCLASS
	}
	c.tos = cmsgHeaderLen
	putCmsgHeader(c.b[:], 4, level, typ)
	segment := c.b[unix.CmsgSpace(4):]
	c.gso = unix.CmsgSpace(4) + cmsgHeaderLen
	putCmsgHeader(segment, 2, unix.SOL_UDP, unix.UDP_SEGMENT)
}

func (c *sendControl) setTOS(tos uint8) {
	binary.NativeEndian.PutUint32(c.b[c.tos:], uint32(tos)) // an int
}

// setSegment sets the payload bytes of each datagram but the last.
func (c *sendControl) setSegment(size int) {
	binary.NativeEndian.PutUint16(c.b[c.gso:], uint16(size))
}

// putCmsgHeader writes a struct cmsghdr, whose length field is a size_t.
func putCmsgHeader(b []byte, dataLen, level, typ int) {
	h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
	h.SetLen(unix.CmsgLen(dataLen))
	h.Level, h.Type = int32(level), int32(typ)
}

// received is what the control messages of a receive say.
type received struct {
	tos      uint8
	segment  int    // payload bytes of each datagram but the last; 0: only one
	overflow uint32 // datagrams lost so far to a full receive buffer
}

// parse reads control messages as the kernel wrote them. It takes nothing for
// granted about them but the alignment of b.
func (r *received) parse(b []byte) {
	*r = received{}
	for len(b) >= cmsgHeaderLen {
		h := (*unix.Cmsghdr)(unsafe.Pointer(unsafe.SliceData(b)))
		length := int(h.Len)
		if length < cmsgHeaderLen || length > len(b) {
			return
		}
		data := b[cmsgHeaderLen:length]
		switch {
		case h.Level == unix.SOL_IP && h.Type == unix.IP_TOS && len(data) >= 1:
			r.tos = data[0] // of one byte, unlike what is sent
		case h.Level == unix.SOL_IPV6 && h.Type == unix.IPV6_TCLASS && len(data) >= 4:
			r.tos = uint8(binary.NativeEndian.Uint32(data))
		case h.Level == unix.SOL_UDP && h.Type == unix.UDP_GRO && len(data) >= 4:
			r.segment = int(binary.NativeEndian.Uint32(data))
		case h.Level == unix.SOL_SOCKET && h.Type == unix.SO_RXQ_OVFL && len(data) >= 4:
			r.overflow = binary.NativeEndian.Uint32(data)
		}
		next := unix.CmsgSpace(len(data))
		if next >= len(b) {
			return
		}
		b = b[next:]
	}
}

// putSockaddr writes the raw form of an address and port, and returns its
// length.
func putSockaddr(b *[nameSpace]byte, addr netip.Addr, port uint16) int {
	clear(b[:])
	binary.BigEndian.PutUint16(b[2:], port)
	if addr.Is4() {
		binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
		a := addr.As4()
		copy(b[4:], a[:])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET6)
	a := addr.As16()
	copy(b[8:], a[:]) // between them the flow label, zero
	return unix.SizeofSockaddrInet6
}

// getSockaddr reads the address out of the raw form; the zero Addr if it is
// of neither family.
func getSockaddr(b []byte) netip.Addr {
	if len(b) < unix.SizeofSockaddrInet4 {
		return netip.Addr{}
	}
	switch binary.NativeEndian.Uint16(b) {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b[4:8]))
	case unix.AF_INET6:
		if len(b) >= unix.SizeofSockaddrInet6 {
			return netip.AddrFrom16([16]byte(b[8:24]))
		}
	}
	return netip.Addr{}
}
