package probe

import (
	"encoding/binary"
	"net/netip"

	"github.com/weftnet/weft/tunnel/packet"
)

// A trial asks whether superpackets arrive whole: a request in a TCP superpacket,
// from tunnel address to tunnel address, which kernels pass on.
//
//	IPv4 header, 20 bytes, DF, no options
//	TCP header, 20 bytes, from port 8286 to 8286, RST and ACK, no options
//	the 16 bytes of a request, in place of whose two zero bytes is the trial's
//	length in bytes, for what it is cut into may be superpackets, too
//	zeros up to that length
//
// A node that finds it in its TUN in one piece sends the reply by UDP. In pieces,
// or to a node that knows no trials, it is for the TCP of the host, which answers
// no RST (RFC 9293, section 3.10.7).

// MinTrialSegment is the least length of a trial's segments, in bytes: the first
// has the whole request.
const MinTrialSegment = trialHeaders + messageLen

const (
	tcpLen       = 20
	trialHeaders = ipLen + tcpLen
	maxIPLen     = 65535

	// Fields of the TCP header, as offsets into it.
	tcpDataOff  = 12
	tcpFlags    = 13
	tcpChecksum = 16

	trialLength = 6 // in the message

	rstACK = 0x14
)

// TrialLen is the length in bytes of a trial of two segments or more, which are
// packets of so many bytes, headers included.
func TrialLen(segment, segments int) int { return trialHeaders + segments*(segment-trialHeaders) }

// BuildTrial makes a trial that fills b, of TrialLen bytes. Both addresses are
// IPv4. The TCP checksum is a superpacket's: the sum of the pseudo-header, which
// whoever cuts it finishes for each segment.
func BuildTrial(b []byte, from, to netip.Addr, nonce uint64) {
	clear(b)
	putIP(b, from, to, packet.ProtoTCP)
	t := b[ipLen:]
	putPorts(t)
	t[tcpDataOff], t[tcpFlags] = tcpLen/4<<4, rstACK
	pseudo := binary.BigEndian.AppendUint16([]byte{0, packet.ProtoTCP}, uint16(len(t)))
	binary.BigEndian.PutUint16(t[tcpChecksum:], packet.Sum(pseudo, packet.Sum(b[12:20], 0)))
	putMessage(t[tcpLen:], Request, nonce)
	binary.BigEndian.PutUint16(t[tcpLen+trialLength:], uint16(len(b)))
}

// ReadTrial tells whether an IPv4 packet is a trial, and its nonce. Whether it is
// a superpacket is the caller's to know, and addresses are to look at.
func ReadTrial(b []byte) (nonce uint64, ok bool) {
	if len(b) < TrialLen(MinTrialSegment, 2) || len(b) > maxIPLen || b[0] != 0x45 || b[9] != packet.ProtoTCP {
		return 0, false
	}
	t := b[ipLen:]
	if !oneWhole(b) || !ourPorts(t) || t[tcpDataOff] != tcpLen/4<<4 || t[tcpFlags] != rstACK {
		return 0, false
	}
	kind, nonce, ok := readMessage(t[tcpLen:])
	return nonce, ok && kind == Request && int(binary.BigEndian.Uint16(t[tcpLen+trialLength:])) == len(b)
}
