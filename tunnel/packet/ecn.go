package packet

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
	return 0
}

// ECNDecap returns the inner TOS of a packet that arrived with the outer TOS
// given (RFC 6040 section 4.2). drop means that the packet must not go on: it
// met congestion, and its sender would not understand a mark.
func ECNDecap(outer, inner uint8) (newInner uint8, drop bool) {
	return inner, false
}

// SetTOS sets the type of service or traffic class of an IP packet that Parse
// accepted, and corrects the IPv4 header checksum for it: a right one stays
// right, a wrong one wrong.
func SetTOS(pkt []byte, tos uint8) {
}
