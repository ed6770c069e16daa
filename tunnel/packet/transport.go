package packet

import "encoding/binary"

// Fields of the TCP header (RFC 9293 section 3.1), as offsets into it.
const (
	tcpSeq      = 4
	tcpAck      = 8
	tcpDataOff  = 12 // high four bits: header length in units of 4 bytes
	tcpFlags    = 13
	tcpChecksum = 16
	tcpUrgent   = 18
)

// TCP flags.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpRST = 0x04
	tcpPSH = 0x08
	tcpURG = 0x20
	tcpCWR = 0x80
)

// Fields of the UDP header (RFC 768), as offsets into it.
const (
	udpLength   = 4
	udpChecksum = 6
)

// transportHeaderLen returns the length of the TCP or UDP header that l4
// begins with, or 0 if it is not whole or not possible.
func transportHeaderLen(l4 []byte, proto uint8) int {
	if proto == ProtoUDP {
		if len(l4) < udpHeaderLen {
			return 0
		}
		return udpHeaderLen
	}
	if len(l4) < tcpHeaderLen {
		return 0
	}
	n := int(l4[tcpDataOff]>>4) * 4
	if n < tcpHeaderLen || n > len(l4) {
		return 0
	}
	return n
}

// addressSum returns the part of the pseudo-header sum (RFC 9293 section 3.1,
// RFC 8200 section 8.1) that does not depend on the length: the addresses of
// the packet and the protocol.
func addressSum(pkt []byte, version, proto uint8) uint16 {
	if version == 4 {
		return Sum(pkt[12:20], uint16(proto))
	}
	return Sum(pkt[8:40], uint16(proto))
}

// checksumOK verifies the TCP or UDP checksum of a packet whose transport
// header starts at l4.
func checksumOK(pkt []byte, version, proto uint8, l4 int) bool {
	pseudo := fold(uint64(addressSum(pkt, version, proto)) + uint64(len(pkt)-l4))
	return Sum(pkt[l4:], pseudo) == 0xffff
}

// FinishChecksum computes the TCP or UDP checksum of an IPv4 packet that Parse
// accepted, if so far it only has the sum of the pseudo-header: so kernels leave
// it for a network card to finish (CHECKSUM_PARTIAL in linux/skbuff.h). It changes
// no other packet: one in 65536 has a right checksum that looks like that, and
// gets the same again.
func FinishChecksum(pkt []byte, info *Info) {
	if at, ok := unfinishedChecksum(pkt, info); ok {
		binary.BigEndian.PutUint16(pkt[at:], nonzero(^Sum(pkt[info.Transport:], 0)))
	}
}

// unfinishedChecksum returns where the checksum is that FinishChecksum computes.
func unfinishedChecksum(pkt []byte, info *Info) (at int, ok bool) {
	at = info.Transport
	switch {
	case info.Version != 4 || info.Fragment != NotFragment:
		return 0, false
	case info.Protocol == ProtoTCP:
		at += tcpChecksum
	case info.Protocol == ProtoUDP:
		at += udpChecksum
	default:
		return 0, false
	}
	l4 := pkt[info.Transport:]
	pseudo := fold(uint64(addressSum(pkt, 4, info.Protocol)) + uint64(len(l4)))
	return at, transportHeaderLen(l4, info.Protocol) != 0 && binary.BigEndian.Uint16(pkt[at:]) == pseudo
}

// nonzero gives a checksum its other representation if it is 0, which in UDP
// means none (RFC 768). For other protocols both are the same.
func nonzero(sum uint16) uint16 {
	if sum == 0 {
		return 0xffff
	}
	return sum
}

// putIPv4Checksum computes the checksum of an IPv4 header.
func putIPv4Checksum(header []byte) {
	header[10], header[11] = 0, 0
	binary.BigEndian.PutUint16(header[10:], ^Sum(header, 0))
}
