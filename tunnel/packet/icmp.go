package packet

import "net/netip"

// Longest ICMP errors (RFC 1812 section 4.3.2.3, RFC 4443 section 2.4 c).
const (
	maxICMPv4Error = 576
	maxICMPv6Error = 1280

	// MaxICMPError is the length in bytes of a buffer for any ICMP error.
	MaxICMPError = maxICMPv6Error
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
	return 0, false
}

// TooBig builds the IP packet that tells the sender of orig the MTU of the
// path, in bytes: ICMP fragmentation needed (RFC 1191) or ICMPv6 packet too
// big. Otherwise it is like Unreachable. Whether an IPv4 packet has DF set is
// the caller's to look at.
func TooBig(dst, orig []byte, info *Info, from netip.Addr, mtu int) (n int, ok bool) {
	return 0, false
}
