package packet

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

// slowSum is the reference for Sum: RFC 1071, word by word.
func slowSum(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for i := 0; i < len(b); i += 2 {
		word := uint32(b[i]) << 8
		if i+1 < len(b) {
			word |= uint32(b[i+1])
		}
		sum += word
		sum = sum&0xffff + sum>>16
	}
	return uint16(sum)
}

// slowPseudo is the sum of the pseudo-header of a packet whose transport header
// is at l4 (RFC 9293 section 3.1, RFC 8200 section 8.1).
func slowPseudo(p []byte, proto uint8, l4 int) uint16 {
	addresses := p[12:20]
	if p[0]>>4 == 6 {
		addresses = p[8:40]
	}
	return slowSum(binary.BigEndian.AppendUint16([]byte{0, proto}, uint16(len(p)-l4)), slowSum(addresses, 0))
}

// slowTransportSum sums up the pseudo-header and everything behind the network
// header: 0xffff if the checksum is right.
func slowTransportSum(p []byte, proto uint8, l4 int) uint16 {
	return slowSum(p[l4:], slowPseudo(p, proto, l4))
}

// spec is a TCP or UDP packet in words. The zero values are sensible.
type spec struct {
	src, dst     string // addresses; default 10.1.0.2 and 10.2.0.2
	udp          bool
	sport, dport uint16
	tos          uint8
	ttl          uint8 // default 64
	id           uint16
	df           bool
	ipOptions    []byte // IPv4; a multiple of four
	ext          []byte // IPv6 extension headers, whole
	extFirst     uint8  // next header of the IPv6 header if there is ext
	flowLabel    uint32
	seq, ack     uint32
	flags        uint8 // TCP; default ACK
	window       uint16
	urgent       uint16
	tcpOptions   []byte // a multiple of four
	noChecksum   bool   // UDP
	payload      []byte
}

const tcpACK = 0x10

// build makes the packet, with right checksums computed the slow way.
func (s spec) build() []byte {
	src, dst := netip.MustParseAddr(or(s.src, "10.1.0.2")), netip.MustParseAddr(or(s.dst, "10.2.0.2"))
	proto := uint8(ProtoTCP)
	var l4 []byte
	l4 = binary.BigEndian.AppendUint16(l4, or(s.sport, 40000))
	l4 = binary.BigEndian.AppendUint16(l4, or(s.dport, 5001))
	if s.udp {
		proto = ProtoUDP
		l4 = binary.BigEndian.AppendUint16(l4, uint16(8+len(s.payload)))
		l4 = append(l4, 0, 0)
	} else {
		l4 = binary.BigEndian.AppendUint32(l4, s.seq)
		l4 = binary.BigEndian.AppendUint32(l4, s.ack)
		l4 = append(l4, uint8(5+len(s.tcpOptions)/4)<<4, or(s.flags, tcpACK))
		l4 = binary.BigEndian.AppendUint16(l4, or(s.window, 502))
		l4 = append(l4, 0, 0)
		l4 = binary.BigEndian.AppendUint16(l4, s.urgent)
		l4 = append(l4, s.tcpOptions...)
	}
	l4 = append(l4, s.payload...)

	var p []byte
	if src.Is4() {
		p = append(p, 0x40|uint8(5+len(s.ipOptions)/4), s.tos)
		p = binary.BigEndian.AppendUint16(p, uint16(20+len(s.ipOptions)+len(l4)))
		p = binary.BigEndian.AppendUint16(p, s.id)
		frag := uint16(0)
		if s.df {
			frag = ipv4DF
		}
		p = binary.BigEndian.AppendUint16(p, frag)
		p = append(p, or(s.ttl, 64), proto, 0, 0)
		p = append(p, src.AsSlice()...)
		p = append(p, dst.AsSlice()...)
		p = append(p, s.ipOptions...)
		binary.BigEndian.PutUint16(p[10:], ^slowSum(p, 0))
	} else {
		p = binary.BigEndian.AppendUint32(p, 6<<28|uint32(s.tos)<<20|s.flowLabel)
		p = binary.BigEndian.AppendUint16(p, uint16(len(s.ext)+len(l4)))
		next := proto
		if s.ext != nil {
			next = s.extFirst
		}
		p = append(p, next, or(s.ttl, 64))
		p = append(p, src.AsSlice()...)
		p = append(p, dst.AsSlice()...)
		p = append(p, s.ext...)
	}
	at := len(p)
	p = append(p, l4...)
	if s.udp && s.noChecksum {
		return p
	}
	sum := ^slowTransportSum(p, proto, at)
	if s.udp {
		if sum == 0 {
			sum = 0xffff
		}
		binary.BigEndian.PutUint16(p[at+6:], sum)
	} else {
		binary.BigEndian.PutUint16(p[at+16:], sum)
	}
	return p
}

// resum makes the length and the checksums of an IPv4 packet right again after
// a change, as far as there is room for them.
func resum(p []byte) {
	binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	l4 := int(p[0]&15) * 4
	p[10], p[11] = 0, 0
	binary.BigEndian.PutUint16(p[10:], ^slowSum(p[:l4], 0))
	at := l4 + 16
	if p[9] == ProtoUDP {
		at = l4 + 6
	}
	if at+2 <= len(p) {
		p[at], p[at+1] = 0, 0
		binary.BigEndian.PutUint16(p[at:], ^slowTransportSum(p, p[9], l4))
	}
}

// withLength returns a copy of an arbitrary packet whose total length field is
// right, so that the fuzzer gets past it.
func withLength(p []byte) []byte {
	p = slices.Clone(p)
	switch {
	case len(p) >= 20 && p[0]>>4 == 4:
		binary.BigEndian.PutUint16(p[2:], uint16(len(p)))
	case len(p) >= 40 && p[0]>>4 == 6:
		binary.BigEndian.PutUint16(p[4:], uint16(len(p)-40))
	}
	return p
}

func or[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// bytesOf returns n bytes that differ from place to place.
func bytesOf(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// super turns the whole superpacket p, of TCP or UDP, into what the kernel
// gives out: the pseudo-header sum in place of the checksum, and a vnet header.
func super(p []byte, mss int, ecn bool) (VnetHdr, []byte) {
	var info Info
	if info.Parse(p) != OK {
		panic("bad superpacket")
	}
	h := VnetHdr{Flags: FlagNeedsCsum, GSOSize: uint16(mss), CsumStart: uint16(info.Transport)}
	switch {
	case info.Protocol == ProtoUDP:
		h.GSOType, h.CsumOffset = GSOUDPL4, 6
	case info.Version == 4:
		h.GSOType, h.CsumOffset = GSOTCPv4, 16
	default:
		h.GSOType, h.CsumOffset = GSOTCPv6, 16
	}
	if ecn {
		h.GSOType |= GSOECN
	}
	p = slices.Clone(p)
	at := info.Transport + int(h.CsumOffset)
	binary.BigEndian.PutUint16(p[at:], slowPseudo(p, info.Protocol, info.Transport))
	return h, p
}

// mustParse parses a packet that must be right.
func mustParse(t testing.TB, p []byte) Info {
	t.Helper()
	var info Info
	if r := info.Parse(p); r != OK {
		t.Fatalf("Parse: %v (% x)", r, p[:min(len(p), 60)])
	}
	return info
}

// checkPacket fails unless p is a packet with right checksums.
func checkPacket(t testing.TB, p []byte) {
	t.Helper()
	info := mustParse(t, p)
	if info.Version == 4 && slowSum(p[:info.Transport], 0) != 0xffff {
		t.Fatalf("IPv4 header checksum wrong: % x", p[:info.Transport])
	}
	if info.Fragment == NotFragment && hasPorts(info.Protocol) {
		if sum := slowTransportSum(p, info.Protocol, info.Transport); sum != 0xffff {
			t.Fatalf("checksum wrong: sum %#04x, protocol %d, %d bytes", sum, info.Protocol, len(p))
		}
	}
}

// cut loads a packet and returns all that comes out, copied.
func cut(t testing.TB, s *Segmenter, h VnetHdr, pkt []byte) [][]byte {
	t.Helper()
	info := mustParse(t, pkt)
	if r := s.Load(h, pkt, &info); r != OK {
		t.Fatalf("Load: %v", r)
	}
	return drain(t, s)
}

func drain(t testing.TB, s *Segmenter) [][]byte {
	t.Helper()
	var out [][]byte
	var segs Segments
	for {
		more := s.More()
		if s.Next(&segs) != more {
			t.Fatalf("More says %v, Next the contrary", more)
		}
		if !more {
			break
		}
		for i := range segs.Count {
			p := slices.Concat(segs.Slice(i, i+1)...)
			want := segs.Size
			if i == segs.Count-1 {
				want = segs.Last
			}
			if len(p) != want {
				t.Fatalf("packet %d of %d has %d bytes, want %d", i, segs.Count, len(p), want)
			}
			out = append(out, p)
		}
		if got := len(slices.Concat(segs.Pieces...)); got != segs.Size*(segs.Count-1)+segs.Last || segs.Last > segs.Size {
			t.Fatalf("%d bytes in all, %d packets of %d, last %d", got, segs.Count, segs.Size, segs.Last)
		}
	}
	return out
}
