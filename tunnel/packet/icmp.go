package packet

import (
	"encoding/binary"
	"net/netip"
)

// Longest ICMP errors (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 c).
const (
	maxICMPv4Error = 576
	maxICMPv6Error = 1280

	// MaxICMPError is the length in bytes of a buffer for any ICMP error.
	MaxICMPError = maxICMPv6Error
)

// Types and codes of the ICMP errors built here (RFC 792, RFC 1191, RFC 4443).
const (
	icmpv4Unreachable      = 3
	icmpv4NetUnreachable   = 0 // code
	icmpv4FragNeeded       = 4 // code
	icmpv6Unreachable      = 1
	icmpv6NoRoute          = 0 // code
	icmpv6TooBig           = 2
	icmpHeaderLen          = 8
	icmpHopLimit           = 64
	tosInternetworkControl = 0xc0 // RFC 1812 section 4.3.2.5
)

// Unreachable builds the IP packet that tells the sender of orig that its
// destination cannot be reached: ICMP network unreachable, or ICMPv6 no route
// to destination. orig is an IP packet (a superpacket too) and info what Parse
// said about it; from is the address the error comes from, of the same family.
//
// The error is written to dst, of at least MaxICMPError bytes, and n is its
// length. ok is false if there must be no error about orig: it is an ICMP
// error itself, a later fragment, or its source or destination is no single
// host (RFC 1122 section 3.2.2, RFC 4443 section 2.4 e).
func Unreachable(dst, orig []byte, info *Info, from netip.Addr) (n int, ok bool) {
	if info.Dst.IsMulticast() {
		return 0, false
	}
	if info.Version == 4 {
		return buildICMPv4(dst, orig, info, from, icmpv4NetUnreachable, 0)
	}
	return buildICMPv6(dst, orig, info, from, icmpv6Unreachable, icmpv6NoRoute, 0)
}

// TooBig builds the IP packet that tells the sender of orig the MTU of the
// path, in bytes: ICMP fragmentation needed (RFC 1191) or ICMPv6 packet too
// big. Otherwise it is like Unreachable, but that ICMPv6 also goes out about a
// packet to a multicast group (RFC 4443 section 2.4 e.3). Whether an IPv4
// packet has DF set is the caller's to look at.
func TooBig(dst, orig []byte, info *Info, from netip.Addr, mtu int) (n int, ok bool) {
	if info.Version == 4 {
		if info.Dst.IsMulticast() {
			return 0, false
		}
		return buildICMPv4(dst, orig, info, from, icmpv4FragNeeded, uint32(min(mtu, maxPacketLen)))
	}
	return buildICMPv6(dst, orig, info, from, icmpv6TooBig, 0, uint32(mtu))
}

// buildICMPv4 builds a destination unreachable of the code given; rest is the
// second word of its header.
func buildICMPv4(dst, orig []byte, info *Info, from netip.Addr, code uint8, rest uint32) (int, bool) {
	if len(dst) < maxICMPv4Error || !from.Is4() || !mayAnswer(orig, info) {
		return 0, false
	}
	quote := orig[:min(len(orig), maxICMPv4Error-ipv4HeaderLen-icmpHeaderLen)]
	n := ipv4HeaderLen + icmpHeaderLen + len(quote)
	src, to := from.As4(), info.Src.As4()
	ip := dst[:ipv4HeaderLen]
	clear(ip)
	ip[0], ip[1] = 0x45, tosInternetworkControl
	binary.BigEndian.PutUint16(ip[2:], uint16(n))
	binary.BigEndian.PutUint16(ip[6:], ipv4DF) // no fragment, so no ID needed (RFC 6864)
	ip[8], ip[9] = icmpHopLimit, ProtoICMP
	copy(ip[12:], src[:])
	copy(ip[16:], to[:])
	putIPv4Checksum(ip)
	putICMP(dst[ipv4HeaderLen:n], icmpv4Unreachable, code, rest, quote, 0)
	return n, true
}

// buildICMPv6 is like buildICMPv4, for any type of ICMPv6 error.
func buildICMPv6(dst, orig []byte, info *Info, from netip.Addr, typ, code uint8, rest uint32) (int, bool) {
	if len(dst) < maxICMPv6Error || !from.Is6() || !mayAnswer(orig, info) {
		return 0, false
	}
	quote := orig[:min(len(orig), maxICMPv6Error-ipv6HeaderLen-icmpHeaderLen)]
	n := ipv6HeaderLen + icmpHeaderLen + len(quote)
	src, to := from.As16(), info.Src.As16()
	ip := dst[:ipv6HeaderLen]
	clear(ip)
	ip[0] = 6 << 4
	binary.BigEndian.PutUint16(ip[4:], uint16(n-ipv6HeaderLen))
	ip[6], ip[7] = ProtoICMPv6, icmpHopLimit
	copy(ip[8:], src[:])
	copy(ip[24:], to[:])
	pseudo := fold(uint64(addressSum(ip, 6, ProtoICMPv6)) + uint64(n-ipv6HeaderLen))
	putICMP(dst[ipv6HeaderLen:n], typ, code, rest, quote, pseudo)
	return n, true
}

// putICMP fills b with an ICMP message; pseudo is the sum of the pseudo-header
// (0 for ICMPv4, which has none).
func putICMP(b []byte, typ, code uint8, rest uint32, quote []byte, pseudo uint16) {
	b[0], b[1], b[2], b[3] = typ, code, 0, 0
	binary.BigEndian.PutUint32(b[4:], rest)
	copy(b[icmpHeaderLen:], quote)
	binary.BigEndian.PutUint16(b[2:], ^Sum(b, pseudo))
}

// mayAnswer reports whether there may be an ICMP error about a packet, its
// destination aside.
func mayAnswer(orig []byte, info *Info) bool {
	if info.Fragment == LaterFragment || !singleHost(info.Src) || info.Dst == broadcast {
		return false
	}
	switch info.Protocol {
	case ProtoICMP:
		return len(orig) > info.Transport && !isICMPv4Error(orig[info.Transport])
	case ProtoICMPv6:
		return len(orig) > info.Transport && !isICMPv6Error(orig[info.Transport])
	}
	return true
}

// singleHost reports whether a source address can be answered: it is not
// unspecified, loopback, multicast, nor of IPv4's zero network or class E,
// broadcast included.
func singleHost(a netip.Addr) bool {
	if a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() {
		return false
	}
	if a.Is4() {
		first := a.As4()[0]
		return first != 0 && first < 240
	}
	return true
}

var broadcast = netip.AddrFrom4([4]byte{255, 255, 255, 255})

// isICMPv4Error reports whether a message of the type is an error: unreachable,
// source quench, redirect, time exceeded, parameter problem (RFC 1122 section
// 3.2.2), or unknown, for it might be.
func isICMPv4Error(typ uint8) bool {
	switch typ {
	case 0, 8, 9, 10, 13, 14, 15, 16, 17, 18:
		return false
	}
	return true
}

// isICMPv6Error reports whether a message of the type is an error, or a
// redirect, which is treated alike (RFC 4443 sections 2.1 and 2.4 e).
func isICMPv6Error(typ uint8) bool {
	const redirect = 137
	return typ < 128 || typ == redirect
}
