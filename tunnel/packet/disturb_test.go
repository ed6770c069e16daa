package packet

import (
	"slices"
	"testing"
)

const (
	disturbances = 5   // kinds of them, and 0 for none
	maxDisturbed = 300 // packets
)

// disturb loses, repeats, swaps and damages packets, as a script of one byte
// for each of them says. What is left of the packets themselves is shared.
func disturb(pkts [][]byte, script []byte) (out [][]byte) {
	pkts = slices.Clone(pkts)
	for i := range pkts {
		step := byte(0)
		if i < len(script) {
			step = script[i]
		}
		switch step {
		case 1: // lost
			continue
		case 2:
			out = append(out, pkts[i])
		case 3: // swapped with the next
			if i+1 < len(pkts) {
				pkts[i], pkts[i+1] = pkts[i+1], pkts[i]
			}
		case 4: // held back
			if i+1 < len(pkts) {
				p := pkts[i]
				copy(pkts[i:], pkts[i+1:min(i+4, len(pkts))])
				pkts[min(i+3, len(pkts)-1)] = p
			}
		case 5: // damaged
			pkts[i] = slices.Clone(pkts[i])
			pkts[i][len(pkts[i])-1] ^= 0x40
		}
		out = append(out, pkts[i])
	}
	return out
}

// FuzzWay cuts a superpacket of any kind, has the packets suffer on the way, and
// joins what arrives: each packet is the one that the kernel would have cut,
// with right checksums, and none is changed by being joined.
func FuzzWay(f *testing.F) {
	const udp, ipv6, df, options = 1, 2, 4, 8
	f.Add(uint8(df|options), uint8(tcpACK|tcpPSH), uint8(2), uint16(0xfffe), uint32(0xffffff00), uint16(1448), uint16(20001), []byte{0, 1, 0, 3, 0, 0, 2})
	f.Add(uint8(ipv6), uint8(tcpACK|tcpFIN|tcpCWR), uint8(0xb9), uint16(0), uint32(7), uint16(99), uint16(1000), []byte{0, 0, 5, 4})
	f.Add(uint8(udp|df), uint8(0), uint8(1), uint16(9), uint32(0), uint16(100), uint16(1001), []byte{2, 0, 0, 0, 3})
	f.Add(uint8(udp|ipv6), uint8(0), uint8(3), uint16(0), uint32(0), uint16(1), uint16(70), []byte{})
	f.Add(uint8(options), uint8(tcpACK|tcpURG), uint8(0), uint16(1), uint32(1), uint16(333), uint16(3000), []byte{4})
	seg, c := NewSegmenter(64), coalescer()
	f.Fuzz(func(t *testing.T, shape, flags, tos uint8, id uint16, seq uint32, mss, length uint16, script []byte) {
		s := spec{
			udp: shape&udp != 0, df: shape&df != 0, tos: tos, id: id, seq: seq,
			flags: flags | tcpACK, payload: bytesOf(min(int(length), 65000)),
		}
		if shape&ipv6 != 0 {
			s.src, s.dst = "fd00::1", "fd00::2"
		}
		if shape&options != 0 {
			s.tcpOptions = timestamps
		}
		if flags&tcpURG != 0 {
			s.urgent = id
		}
		if mss == 0 || length <= mss || int(length) > maxDisturbed*int(mss) {
			return
		}
		h, pkt := super(s.build(), int(mss), flags&tcpCWR != 0 && !s.udp)
		pkts := cut(t, seg, h, pkt)
		comparePackets(t, pkts, slowSegments(s, int(mss)))
		checkRoundTrip(t, c, disturb(pkts, script))
	})
}
