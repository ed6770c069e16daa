package packet

import "encoding/binary"

// FlowHash returns a hash of the packet's flow: addresses, protocol, and for
// TCP and UDP the ports. All fragments of a flow hash alike, but not like its
// whole packets. info is what Parse said about pkt.
//
// It spreads flows and keeps no secret: whoever sends packets can make two
// flows collide.
func FlowHash(pkt []byte, info *Info) uint32 {
	h := uint64(info.Protocol)
	if info.Fragment == NotFragment && hasPorts(info.Protocol) && len(pkt) >= info.Transport+4 {
		h |= uint64(binary.LittleEndian.Uint32(pkt[info.Transport:])) << 8
	}
	if info.Version == 4 {
		h = mix(h, binary.LittleEndian.Uint64(pkt[12:]))
	} else {
		for at := 8; at < ipv6HeaderLen; at += 8 {
			h = mix(h, binary.LittleEndian.Uint64(pkt[at:]))
		}
	}
	return uint32(h >> 32)
}

// hasPorts reports whether the protocol's header begins with two ports that
// weft looks at.
func hasPorts(proto uint8) bool { return proto == ProtoTCP || proto == ProtoUDP }

// mix is one round of multiply and fold; the constant is 2^64 over the golden
// ratio, made odd.
func mix(h, v uint64) uint64 {
	h = (h ^ v) * 0x9e3779b97f4a7c15
	return h ^ h>>29
}
