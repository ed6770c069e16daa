package packet

// Superpacket says how a TUN takes a superpacket that came whole.
type Superpacket struct {
	Hdr     VnetHdr
	Packets int // that it will be cut into; 0: it cannot be
	Bytes   int // of all these, headers included
}

// TCPSuperpacket tells whether an IPv4 packet that Parse accepted and that is
// longer than mtu is a TCP superpacket as kernels pass it on, with its checksum
// unfinished (FinishChecksum), and how a TUN takes it. How long the packets were to
// be it does not say itself; they will have mtu bytes, but the last. Not to be
// cut is one with IP options, SYN, RST, URG or CWR.
func TCPSuperpacket(pkt []byte, info *Info, mtu int) (s Superpacket, ok bool) {
	if info.Protocol != ProtoTCP || len(pkt) <= mtu {
		return s, false
	}
	if _, unfinished := unfinishedChecksum(pkt, info); !unfinished {
		return s, false
	}
	shape := shapeOf(pkt, info)
	size := mtu - shape.header
	if !shape.joinable() || size <= 0 {
		return s, true
	}
	s.Hdr = VnetHdr{
		Flags: FlagNeedsCsum, GSOType: GSOTCPv4, GSOSize: uint16(size),
		HdrLen: uint16(shape.header), CsumStart: uint16(shape.l4), CsumOffset: tcpChecksum,
	}
	s.Packets = (shape.payload + size - 1) / size
	s.Bytes = s.Packets*shape.header + shape.payload
	return s, true
}
