package probe

import (
	"encoding/binary"
	"net/netip"
)

// The VXLAN path is probed with ARP (RFC 826), from VTEP to VTEP. It is what
// the peer's kernel answers whether its daemon runs, hangs or is dead; by the
// device that was asked, whatever the routes say; and past a firewall that lets
// nothing in but what is forwarded. An ICMP echo is answered by the way that
// the peer uses towards us, which may be the dead one.

// ARPLen is the length in bytes of an ARP packet for IPv4 over Ethernet.
const ARPLen = 28

const (
	arpRequest = 1
	arpReply   = 2
)

// arpHead is what all ARP packets for IPv4 over Ethernet begin with: hardware
// type 1, protocol type 0x0800, address lengths 6 and 4.
var arpHead = [6]byte{0, 1, 8, 0, 6, 4}

// BuildARP makes a request in dst, which has room for ARPLen bytes: who has to,
// tell from, which is at mac. Both addresses are IPv4.
func BuildARP(dst []byte, mac [6]byte, from, to netip.Addr) []byte {
	b := dst[:ARPLen]
	clear(b)
	copy(b, arpHead[:])
	b[7] = arpRequest
	src, dest := from.As4(), to.As4()
	copy(b[8:], mac[:])
	copy(b[14:], src[:])
	copy(b[24:], dest[:])
	return b
}

// ReadARP reads a reply: from is at mac. Ethernet may have padded it.
func ReadARP(b []byte) (mac [6]byte, from netip.Addr, ok bool) {
	if len(b) < ARPLen || [6]byte(b) != arpHead || binary.BigEndian.Uint16(b[6:]) != arpReply {
		return mac, from, false
	}
	return [6]byte(b[8:]), netip.AddrFrom4([4]byte(b[14:])), true
}
