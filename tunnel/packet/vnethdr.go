package packet

import "encoding/binary"

// VnetHdrLen is the length in bytes of the header that precedes each packet on
// a TUN opened with IFF_VNET_HDR (struct virtio_net_hdr, the kernel's default
// for TUNSETVNETHDRSZ).
const VnetHdrLen = 10

// VnetHdr mirrors struct virtio_net_hdr of the kernel's linux/virtio_net.h.
//
// Its integers are in the machine's own byte order: a TUN takes the legacy
// virtio order unless TUNSETVNETLE or TUNSETVNETBE say otherwise, and weft
// uses neither.
type VnetHdr struct {
	Flags      uint8  // FlagNeedsCsum, FlagDataValid
	GSOType    uint8  // GSONone …, with GSOECN as a further bit
	HdrLen     uint16 // bytes of all headers; a hint, not to be trusted when read
	GSOSize    uint16 // payload bytes of each segment but the last
	CsumStart  uint16 // where checksumming starts: offset of the TCP or UDP header
	CsumOffset uint16 // where the checksum belongs, from CsumStart
}

// Values of VnetHdr.Flags.
const (
	FlagNeedsCsum = 1 // the checksum field holds the pseudo-header sum only
	FlagDataValid = 2 // the checksum was verified
)

// Values of VnetHdr.GSOType.
const (
	GSONone  = 0
	GSOTCPv4 = 1
	GSOTCPv6 = 4
	GSOUDPL4 = 5    // UDP datagrams of one size (USO), IPv4 or IPv6
	GSOECN   = 0x80 // a bit: the TCP superpacket has CWR set (RFC 3168 section 6.1.2)
)

// Decode reads h from the first VnetHdrLen bytes of b, and reports whether b
// is that long.
func (h *VnetHdr) Decode(b []byte) bool {
	if len(b) < VnetHdrLen {
		return false
	}
	h.Flags, h.GSOType = b[0], b[1]
	h.HdrLen = binary.NativeEndian.Uint16(b[2:])
	h.GSOSize = binary.NativeEndian.Uint16(b[4:])
	h.CsumStart = binary.NativeEndian.Uint16(b[6:])
	h.CsumOffset = binary.NativeEndian.Uint16(b[8:])
	return true
}

// Encode writes h to the first VnetHdrLen bytes of b, and reports whether b is
// that long.
func (h *VnetHdr) Encode(b []byte) bool {
	if len(b) < VnetHdrLen {
		return false
	}
	b[0], b[1] = h.Flags, h.GSOType
	binary.NativeEndian.PutUint16(b[2:], h.HdrLen)
	binary.NativeEndian.PutUint16(b[4:], h.GSOSize)
	binary.NativeEndian.PutUint16(b[6:], h.CsumStart)
	binary.NativeEndian.PutUint16(b[8:], h.CsumOffset)
	return true
}
