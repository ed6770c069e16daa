package packet

// AppendFragments cuts an IPv4 packet into fragments of at most mtu bytes
// (RFC 791 section 3.2), and appends two pieces for each to dst: its header,
// newly allocated, and its payload, a slice of pkt. info is what Parse said
// about pkt. A packet that fits is not cut: its header and payload come back
// as one pair.
//
// It returns DontFragment if the packet (or any of IPv6) must not be
// fragmented on the way, MTUTooSmall if the mtu has no room for a header and
// eight bytes.
func AppendFragments(dst [][]byte, pkt []byte, info *Info, mtu int) ([][]byte, Reason) {
	return dst, OK
}
