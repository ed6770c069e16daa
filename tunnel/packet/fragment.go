package packet

import "encoding/binary"

// AppendFragments cuts an IPv4 packet into fragments of at most mtu bytes
// (RFC 791 section 3.2), and appends two pieces for each to dst: its header,
// newly allocated, and its payload, a slice of pkt. info is what Parse said
// about pkt, whose checksums must be complete; it may be a fragment itself. A
// packet that fits is not cut, and comes back as two slices of itself.
//
// It returns DontFragment if the packet (or any of IPv6) must not be
// fragmented on the way, MTUTooSmall if the mtu has no room for a header and
// eight bytes, BadHeader if its IPv4 options or fragment offset are impossible. Then dst comes
// back as it was.
func AppendFragments(dst [][]byte, pkt []byte, info *Info, mtu int) ([][]byte, Reason) {
	if len(pkt) <= mtu {
		return append(dst, pkt[:info.Transport], pkt[info.Transport:]), OK
	}
	if info.DF { // or IPv6
		return dst, DontFragment
	}
	// The first fragment has all options, the others those that are to be
	// copied.
	header := append([]byte(nil), pkt[:info.Transport]...)
	later, ok := laterHeader(header)
	if !ok {
		return dst, BadHeader
	}
	if mtu < len(header)+8 {
		return dst, MTUTooSmall
	}
	field := binary.BigEndian.Uint16(pkt[6:])
	more := field & ipv4MF
	offset := field & ipv4OffsetMask
	payload := pkt[info.Transport:]
	if int(offset)*8+len(payload) > maxPacketLen {
		return dst, BadHeader // ends beyond any packet: the offset would overflow
	}
	for len(payload) > 0 {
		chunk := payload[:min(len(payload), (mtu-len(header))&^7)]
		if len(payload) <= mtu-len(header) {
			chunk = payload // the last may have any length
		}
		payload = payload[len(chunk):]

		field = field&^(ipv4MF|ipv4OffsetMask) | offset | ipv4MF
		if len(payload) == 0 {
			field = field&^ipv4MF | more // the last is as last as pkt was
		}
		binary.BigEndian.PutUint16(header[2:], uint16(len(header)+len(chunk)))
		binary.BigEndian.PutUint16(header[6:], field)
		putIPv4Checksum(header)
		dst = append(dst, header, chunk)
		offset += uint16(len(chunk) / 8)
		header = append([]byte(nil), later...)
	}
	return dst, OK
}

// laterHeader returns the header of all fragments but the first: with those
// options only whose copied bit is set. It reports false if the options do not
// fit the header.
func laterHeader(first []byte) (header []byte, ok bool) {
	const (
		endOfOptions = 0
		noOperation  = 1
		copied       = 0x80
	)
	header = append([]byte(nil), first[:ipv4HeaderLen]...)
	options := first[ipv4HeaderLen:]
	for len(options) > 0 && options[0] != endOfOptions {
		length := 1
		if options[0] != noOperation {
			if len(options) < 2 || options[1] < 2 || int(options[1]) > len(options) {
				return nil, false
			}
			length = int(options[1])
		}
		if options[0]&copied != 0 {
			header = append(header, options[:length]...)
		}
		options = options[length:]
	}
	for len(header)%4 != 0 {
		header = append(header, endOfOptions)
	}
	header[0] = 4<<4 | uint8(len(header)/4)
	return header, true
}
