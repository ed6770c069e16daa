package packet

import (
	"encoding/binary"
	"net/netip"
)

// Protocol numbers (IPv4 protocol, IPv6 next header).
const (
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
)

// Next headers of IPv6 that are extension headers (RFC 8200, RFC 4302).
const (
	extHopByHop    = 0
	extRouting     = 43
	extFragment    = 44
	extAuth        = 51
	extDestOptions = 60
)

// maxExtHeaders bounds the walk over IPv6 extension headers. RFC 8200 section
// 4.1 recommends an order in which seven occur.
const maxExtHeaders = 8

const (
	ipv4HeaderLen = 20 // without options
	ipv6HeaderLen = 40 // without extension headers
	tcpHeaderLen  = 20 // without options
	udpHeaderLen  = 8
	maxPacketLen  = 65535
)

// Fragment says whether a packet is a fragment, and which.
type Fragment uint8

const (
	NotFragment   Fragment = iota
	FirstFragment          // offset 0: has the transport header (an IPv6 atomic fragment too)
	LaterFragment          // has no transport header
)

// Info is what Parse learns about one IP packet.
type Info struct {
	Src, Dst  netip.Addr
	Version   uint8    // 4 or 6
	TOS       uint8    // IPv4 type of service, IPv6 traffic class: DSCP and ECN
	Protocol  uint8    // of what lies at Transport
	DF        bool     // IPv4 don't-fragment bit; always true for IPv6
	Fragment  Fragment // whether the packet is a fragment
	Transport int      // offset of the transport header (LaterFragment: of the data)
	Len       int      // bytes of the whole packet
}

// Parse reads the headers of the IP packet that b holds. The packet must fill
// b exactly: a tunnel datagram carries one packet and nothing else, so
// trailing bytes are refused (Trailing) rather than cut off.
//
// It checks what is needed to route a packet: version, header length and total
// length, and walks at most eight IPv6 extension headers; where there are more,
// Protocol is that of the ninth. It does not check the IPv4 header's checksum,
// nor look into the transport header: whoever reads that must check its length.
//
// The contents of info are undefined unless OK is returned.
func (info *Info) Parse(b []byte) Reason {
	if len(b) == 0 {
		return Truncated
	}
	switch b[0] >> 4 {
	case 4:
		return info.parseIPv4(b)
	case 6:
		return info.parseIPv6(b)
	}
	return BadVersion
}

func (info *Info) parseIPv4(b []byte) Reason {
	if len(b) < ipv4HeaderLen {
		return Truncated
	}
	headerLen := int(b[0]&0x0f) * 4
	total := int(binary.BigEndian.Uint16(b[2:]))
	if headerLen < ipv4HeaderLen || total < headerLen {
		return BadHeader
	}
	if r := checkLen(len(b), total); r != OK {
		return r
	}
	frag := binary.BigEndian.Uint16(b[6:])
	info.Src = netip.AddrFrom4([4]byte(b[12:16]))
	info.Dst = netip.AddrFrom4([4]byte(b[16:20]))
	info.Version = 4
	info.TOS = b[1]
	info.Protocol = b[9]
	info.DF = frag&ipv4DF != 0
	switch {
	case frag&ipv4OffsetMask != 0:
		info.Fragment = LaterFragment
	case frag&ipv4MF != 0:
		info.Fragment = FirstFragment
	default:
		info.Fragment = NotFragment
	}
	info.Transport = headerLen
	info.Len = total
	return OK
}

// Bits of the IPv4 flags and fragment offset field (RFC 791).
const (
	ipv4DF         = 0x4000
	ipv4MF         = 0x2000
	ipv4OffsetMask = 0x1fff // in units of 8 bytes
)

func (info *Info) parseIPv6(b []byte) Reason {
	if len(b) < ipv6HeaderLen {
		return Truncated
	}
	total := ipv6HeaderLen + int(binary.BigEndian.Uint16(b[4:]))
	if r := checkLen(len(b), total); r != OK {
		return r
	}
	info.Src = netip.AddrFrom16([16]byte(b[8:24]))
	info.Dst = netip.AddrFrom16([16]byte(b[24:40]))
	info.Version = 6
	info.TOS = b[0]<<4 | b[1]>>4
	info.Protocol = b[6]
	info.DF = true
	info.Fragment = NotFragment
	info.Transport = ipv6HeaderLen
	info.Len = total
	if b[6] == ProtoTCP || b[6] == ProtoUDP {
		return OK
	}
	return info.walkExtHeaders(b)
}

// walkExtHeaders moves Protocol and Transport past the extension headers.
func (info *Info) walkExtHeaders(b []byte) Reason {
	for range maxExtHeaders {
		var length int
		at := b[info.Transport:]
		switch info.Protocol {
		case extHopByHop, extRouting, extDestOptions:
			if len(at) < 8 {
				return BadHeader
			}
			length = 8 + int(at[1])*8
		case extAuth:
			if len(at) < 8 {
				return BadHeader
			}
			length = 8 + int(at[1])*4
		case extFragment:
			if len(at) < 8 {
				return BadHeader
			}
			length = 8
			info.Fragment = FirstFragment
			if binary.BigEndian.Uint16(at[2:])>>3 != 0 {
				info.Fragment = LaterFragment
			}
		default:
			return OK
		}
		if len(at) < length {
			return BadHeader
		}
		info.Protocol = at[0]
		info.Transport += length
		if info.Fragment == LaterFragment {
			return OK // what follows is data
		}
	}
	return OK
}

func checkLen(have, total int) Reason {
	switch {
	case have < total:
		return Truncated
	case have > total:
		return Trailing
	}
	return OK
}
