package packet

import "encoding/binary"

// Values of the ECN field, the low two bits of TOS (RFC 3168).
const (
	NotECT = 0
	ECT1   = 1
	ECT0   = 2
	CE     = 3

	ecnMask = 3
)

// ECNEncap returns the TOS for the outer header of a packet whose inner TOS is
// given: the inner ECN field (normal mode of RFC 6040 section 4.1) and no
// DSCP. Towards a peer that throws the outer TOS away, use 0 instead
// (compatibility mode): it would lose the congestion marks.
func ECNEncap(inner uint8) (outer uint8) {
	return inner & ecnMask
}

// ecnDecap is figure 4 of RFC 6040, indexed by the inner and the outer field.
var ecnDecap = [4][4]struct {
	ecn  uint8
	drop bool
}{
	NotECT: {NotECT: {ecn: NotECT}, ECT0: {ecn: NotECT}, ECT1: {ecn: NotECT}, CE: {drop: true}},
	ECT0:   {NotECT: {ecn: ECT0}, ECT0: {ecn: ECT0}, ECT1: {ecn: ECT1}, CE: {ecn: CE}},
	ECT1:   {NotECT: {ecn: ECT1}, ECT0: {ecn: ECT1}, ECT1: {ecn: ECT1}, CE: {ecn: CE}},
	CE:     {NotECT: {ecn: CE}, ECT0: {ecn: CE}, ECT1: {ecn: CE}, CE: {ecn: CE}},
}

// ECNDecap returns the inner TOS of a packet that arrived with the outer TOS
// given (RFC 6040 section 4.2). drop means that the packet must not go on: it
// met congestion, and its sender would not understand a mark.
func ECNDecap(outer, inner uint8) (newInner uint8, drop bool) {
	e := &ecnDecap[inner&ecnMask][outer&ecnMask]
	return inner&^ecnMask | e.ecn, e.drop
}

// SetTOS sets the type of service or traffic class of an IP packet that Parse
// accepted, and corrects the IPv4 header checksum for it: a right one stays
// right, a wrong one wrong.
func SetTOS(pkt []byte, tos uint8) {
	if pkt[0]>>4 == 6 {
		pkt[0] = 6<<4 | tos>>4
		pkt[1] = tos<<4 | pkt[1]&0x0f
		return
	}
	if pkt[1] == tos {
		return
	}
	// HC' = ~(~HC + ~m + m'), equation 3 of RFC 1624; m is the first word.
	old := binary.BigEndian.Uint16(pkt)
	pkt[1] = tos
	sum := ^binary.BigEndian.Uint16(pkt[10:])
	sum = fold(uint64(sum) + uint64(^old) + uint64(binary.BigEndian.Uint16(pkt)))
	binary.BigEndian.PutUint16(pkt[10:], ^sum)
}
