package packet

import "encoding/binary"

// maxRunHeader is the scratch memory for a superpacket's headers: vnet, IPv6
// without extension headers (IPv4 without options is shorter), TCP with all
// options.
const maxRunHeader = VnetHdrLen + ipv6HeaderLen + 60

// noVnetHdr precedes a single packet. It does not have FlagDataValid: a packet
// that met no other was not verified, and the TUN driver ignores that flag.
var noVnetHdr [VnetHdrLen]byte

// Next fills out with the next run, and reports whether there was one. No
// packet may be added between the first call of Next and Reset.
func (c *Coalescer) Next(out *Run) bool {
	if c.taken == len(c.runs) {
		return false
	}
	r := &c.runs[c.taken]
	c.taken++
	from := len(c.pieces)
	if r.count == 1 {
		c.pieces = append(c.pieces, noVnetHdr[:], c.packets[r.first].pkt)
	} else {
		c.pieces = append(c.pieces, c.superHeader(r))
		at := r.first
		for range r.count {
			p := &c.packets[at]
			c.pieces = append(c.pieces, p.pkt[r.shape.header:])
			at = p.next
		}
	}
	*out = Run{Pieces: c.pieces[from:], Packets: r.count, Bytes: r.bytes}
	return true
}

// superHeader builds the vnet header of a run's superpacket and its headers
// behind it: the first packet's, with lengths and checksums for the whole.
func (c *Coalescer) superHeader(r *run) []byte {
	from := len(c.scratch)
	c.scratch = c.scratch[:from+VnetHdrLen+r.shape.header]
	out := c.scratch[from:]
	vnet := VnetHdr{
		Flags:     FlagNeedsCsum,
		HdrLen:    uint16(r.shape.header),
		GSOSize:   uint16(r.shape.payload),
		CsumStart: uint16(r.shape.l4),
	}
	header := out[VnetHdrLen:]
	copy(header, c.packets[r.first].pkt)

	total := r.length()
	if r.shape.version == 4 {
		binary.BigEndian.PutUint16(header[2:], uint16(total))
		putIPv4Checksum(header[:r.shape.l4])
	} else {
		binary.BigEndian.PutUint16(header[4:], uint16(total-ipv6HeaderLen))
	}
	// The checksum field holds the sum of the pseudo-header, from which the
	// kernel goes on (CHECKSUM_PARTIAL).
	l4, length := header[r.shape.l4:], total-r.shape.l4
	pseudo := fold(uint64(addressSum(header, r.shape.version, r.shape.proto)) + uint64(length))
	if r.shape.proto == ProtoTCP {
		vnet.GSOType = GSOTCPv4
		if r.shape.version == 6 {
			vnet.GSOType = GSOTCPv6
		}
		vnet.CsumOffset = tcpChecksum
		l4[tcpFlags] |= r.endFlags
	} else {
		vnet.GSOType = GSOUDPL4
		vnet.CsumOffset = udpChecksum
		binary.BigEndian.PutUint16(l4[udpLength:], uint16(length))
	}
	binary.BigEndian.PutUint16(l4[vnet.CsumOffset:], pseudo)
	vnet.Encode(out)
	return out
}

// AppendPackets appends the packets of the run that Next gave last, as they
// were added, for writing them one by one behind an empty vnet header.
func (c *Coalescer) AppendPackets(dst [][]byte) [][]byte {
	if c.taken == 0 {
		return dst
	}
	r := &c.runs[c.taken-1]
	at := r.first
	for range r.count {
		dst = append(dst, c.packets[at].pkt)
		at = c.packets[at].next
	}
	return dst
}
