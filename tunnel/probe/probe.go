// Package probe is the packet by which a node asks another one whether the udp
// path between them works: an inner IPv4/UDP packet from tunnel address to
// tunnel address, which the other node's engine sends back before the TUN sees
// it. So it goes the whole way that data goes, through both data paths, and
// only there: no kernel answers it.
//
//	IPv4 header, 20 bytes, DF, no options
//	UDP header, 8 bytes, from port 8286 to 8286, no checksum (RFC 768)
//	"weft", version 1, kind (1 request, 2 reply), two zero bytes
//	nonce, 8 bytes, the asker's business
//
// A node is asked only if its lease announces that it answers.
package probe

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/tunnel/packet"
)

const (
	// Version is of the format; a lease announces it.
	Version = 1

	// Port is the inner UDP port, source and destination.
	Port = 8286

	// Len is the length in bytes of a probe, both kinds.
	Len = ipLen + udpLen + messageLen

	ipLen      = 20
	udpLen     = 8
	messageLen = 16
	hopLimit   = 64
)

// Kind tells a question from an answer.
type Kind uint8

const (
	Request Kind = 1
	Reply   Kind = 2
)

var magic = [4]byte{'w', 'e', 'f', 't'}

// Build makes a request in dst, which has room for Len bytes. Both addresses
// are IPv4.
func Build(dst []byte, from, to netip.Addr, nonce uint64) []byte {
	return build(dst, Request, from, to, nonce)
}

// BuildReply makes the answer to a nonce, like Build.
func BuildReply(dst []byte, from, to netip.Addr, nonce uint64) []byte {
	return build(dst, Reply, from, to, nonce)
}

func build(dst []byte, kind Kind, from, to netip.Addr, nonce uint64) []byte {
	b := dst[:Len]
	clear(b)
	putIP(b, from, to, packet.ProtoUDP)
	u := b[ipLen:]
	putPorts(u)
	binary.BigEndian.PutUint16(u[4:], udpLen+messageLen)
	putMessage(u[udpLen:], kind, nonce)
	return b
}

// putIP writes the header of an IPv4 packet that fills b.
func putIP(b []byte, from, to netip.Addr, protocol uint8) {
	b[0] = 0x45
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[6:], 0x4000) // DF: no fragment, so no ID needed (RFC 6864)
	b[8], b[9] = hopLimit, protocol
	src, dst := from.As4(), to.As4()
	copy(b[12:], src[:])
	copy(b[16:], dst[:])
	binary.BigEndian.PutUint16(b[10:], ^packet.Sum(b[:ipLen], 0))
}

// putPorts writes the ports of a UDP or TCP header.
func putPorts(b []byte) {
	binary.BigEndian.PutUint16(b[0:], Port)
	binary.BigEndian.PutUint16(b[2:], Port)
}

// putMessage writes a question or an answer. The bytes that stay are zero.
func putMessage(b []byte, kind Kind, nonce uint64) {
	copy(b, magic[:])
	b[4], b[5] = Version, byte(kind)
	binary.BigEndian.PutUint64(b[8:], nonce)
}

// Read tells whether an IPv4 packet is a probe, and what it says. Addresses
// are the caller's to look at.
func Read(b []byte) (kind Kind, nonce uint64, ok bool) {
	if len(b) != Len || b[0] != 0x45 || b[9] != packet.ProtoUDP {
		return 0, 0, false
	}
	u := b[ipLen:]
	if !oneWhole(b) || !ourPorts(u) || binary.BigEndian.Uint16(u[4:]) != udpLen+messageLen {
		return 0, 0, false
	}
	return readMessage(u[udpLen:])
}

// oneWhole: an IPv4 packet is as long as it says, and no fragment.
func oneWhole(b []byte) bool {
	const moreFragmentsAndOffset = 0x3fff
	return int(binary.BigEndian.Uint16(b[2:])) == len(b) && binary.BigEndian.Uint16(b[6:])&moreFragmentsAndOffset == 0
}

func ourPorts(b []byte) bool {
	return binary.BigEndian.Uint16(b[0:]) == Port && binary.BigEndian.Uint16(b[2:]) == Port
}

// readMessage reads what is behind the transport header, 16 bytes at least.
func readMessage(b []byte) (kind Kind, nonce uint64, ok bool) {
	kind = Kind(b[5])
	if [4]byte(b) != magic || b[4] != Version || kind != Request && kind != Reply {
		return 0, 0, false
	}
	return kind, binary.BigEndian.Uint64(b[8:]), true
}

// Answer turns a request that Read has read into its reply.
func Answer(b []byte) {
	src, dst := [4]byte(b[12:]), [4]byte(b[16:])
	copy(b[12:], dst[:])
	copy(b[16:], src[:])
	b[8] = hopLimit
	b[10], b[11] = 0, 0
	binary.BigEndian.PutUint16(b[10:], ^packet.Sum(b[:ipLen], 0))
	b[ipLen+udpLen+5] = byte(Reply)
}
