package udp

import (
	"encoding/binary"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// probeWrites finds out whether the TUN takes superpackets, by writing some:
// some kernels (6.6.44 and its like) refuse valid ones, and those before 6.2
// know none of UDP. The device must be up.
func (c *capabilities) probeWrites(tun tunPort, dualStack bool) {
	try := func(ipv4Type, ipv6Type, protocol uint8) error {
		if err := c.needs(VnetHdr); err != nil {
			return err
		}
		if errno := writeProbe(tun, ipv4Type, protocol, false); errno != 0 {
			return fmt.Errorf("write an IPv4 superpacket: %w", errno)
		}
		if !dualStack {
			return nil
		}
		if errno := writeProbe(tun, ipv6Type, protocol, true); errno != 0 {
			return fmt.Errorf("write an IPv6 superpacket: %w", errno)
		}
		return nil
	}
	c.probe(TUNGRO, func() error { return try(packet.GSOTCPv4, packet.GSOTCPv6, packet.ProtoTCP) })
	c.probe(TUNGROUDP, func() error { return try(packet.GSOUDPL4, packet.GSOUDPL4, packet.ProtoUDP) })
}

// writeProbe writes a superpacket of two segments that the kernel's IP layer
// throws away without a word, after the TUN has taken it: the IPv4 header's
// checksum is wrong, the IPv6 source is a multicast address.
func writeProbe(tun tunPort, gsoType, protocol uint8, ipv6 bool) unix.Errno {
	const payload = 64 // bytes of each segment
	ip := make([]byte, 20, 256)
	transport := make([]byte, 20)
	checksumAt := 16
	if protocol == packet.ProtoUDP {
		transport = make([]byte, 8)
		checksumAt = 6
		binary.BigEndian.PutUint16(transport[4:], uint16(8+2*payload))
	} else {
		transport[12] = 5 << 4 // header length in words
		transport[13] = 0x10   // ACK
	}
	length := len(transport) + 2*payload
	if ipv6 {
		ip = ip[:40]
		ip[0] = 6 << 4
		binary.BigEndian.PutUint16(ip[4:], uint16(length))
		ip[6] = protocol
		copy(ip[8:], []byte{0xff, 0x02, 15: 1})
		copy(ip[24:], []byte{0xff, 0x02, 15: 1})
	} else {
		ip[0] = 4<<4 | 5
		binary.BigEndian.PutUint16(ip[2:], uint16(len(ip)+length))
		ip[8], ip[9] = 1, protocol
		copy(ip[12:], []byte{127, 0, 0, 1, 127, 0, 0, 1})
		binary.BigEndian.PutUint16(ip[10:], packet.Sum(ip, 0)) // not complemented
	}
	hdr := packet.VnetHdr{
		Flags: packet.FlagNeedsCsum, GSOType: gsoType, GSOSize: payload,
		HdrLen:    uint16(len(ip) + len(transport)),
		CsumStart: uint16(len(ip)), CsumOffset: uint16(checksumAt),
	}
	b := make([]byte, packet.VnetHdrLen)
	hdr.Encode(b)
	b = append(b, ip...)
	b = append(b, transport...)
	b = append(b, make([]byte, 2*payload)...)
	iov := []unix.Iovec{{Base: unsafe.SliceData(b)}}
	iov[0].SetLen(len(b))
	return tun.writev(iov)
}
