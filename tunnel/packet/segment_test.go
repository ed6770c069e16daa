package packet

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
)

// Timestamps, as Linux writes them: two NOPs, kind 8, length 10.
var timestamps = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}

// slowSegments is the reference: the packets that the kernel's GSO makes of a
// superpacket (tcp_gso_segment, __udp_gso_segment, inet_gso_segment).
func slowSegments(s spec, mss int) [][]byte {
	var out [][]byte
	payload, flags := s.payload, or(s.flags, tcpACK)
	for first := true; len(payload) > 0; first = false {
		s.payload = payload[:min(mss, len(payload))]
		payload = payload[len(s.payload):]
		s.flags = flags
		if !first {
			s.flags &^= tcpCWR
		}
		if len(payload) > 0 {
			s.flags &^= tcpPSH | tcpFIN
		}
		out = append(out, s.build())
		s.seq += uint32(len(s.payload))
		s.id++
	}
	return out
}

func comparePackets(t testing.TB, got, want [][]byte) {
	t.Helper()
	for i := range min(len(got), len(want)) {
		if !bytes.Equal(got[i], want[i]) {
			n := min(len(got[i]), len(want[i]), 120)
			t.Fatalf("packet %d of %d, %d bytes:\n% x\nwant %d bytes:\n% x", i, len(want), len(got[i]), got[i][:n], len(want[i]), want[i][:n])
		}
	}
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
}

var superpackets = map[string]struct {
	spec spec
	mss  int
}{
	"TCP4 with timestamps, odd last":   {spec{tcpOptions: timestamps, flags: tcpACK | tcpPSH, seq: 1, df: true, id: 9, payload: bytesOf(62001)}, 1448},
	"TCP4 ends evenly":                 {spec{flags: tcpACK | tcpFIN, payload: bytesOf(2800)}, 1400},
	"TCP4 CWR, ECE, ECT(0), seq wraps": {spec{flags: tcpACK | tcpCWR | tcpPSH | 0x40, tos: 2, seq: 0xfffffff0, payload: bytesOf(3333)}, 1111},
	"TCP4 id wraps without DF":         {spec{id: 0xffff, payload: bytesOf(3000)}, 1000},
	"TCP4 URG":                         {spec{flags: tcpACK | tcpURG, urgent: 17, payload: bytesOf(3000)}, 1000},
	"TCP4 with IP options":             {spec{ipOptions: []byte{1, 1, 1, 0}, payload: bytesOf(3000)}, 1000},
	"TCP4 odd segments":                {spec{payload: bytesOf(5000)}, 999},
	"TCP4 more than one batch":         {spec{payload: bytesOf(65000)}, 100},
	"TCP4 one byte each":               {spec{payload: bytesOf(300)}, 1},
	"TCP6 with timestamps":             {spec{src: "fd00::1", dst: "fd00::2", tcpOptions: timestamps, flags: tcpACK | tcpPSH, tos: 0xb9, flowLabel: 0x12345, payload: bytesOf(60000)}, 1428},
	"TCP6 with an extension header":    {spec{src: "fd00::1", dst: "fd00::2", extFirst: 60, ext: []byte{6, 0, 1, 4, 0, 0, 0, 0}, payload: bytesOf(3000)}, 1200},
	"UDP4":                             {spec{udp: true, df: true, id: 77, payload: bytesOf(10 * 1372)}, 1372},
	"UDP4 odd, last of one byte":       {spec{udp: true, payload: bytesOf(3*333 + 1)}, 333},
	"UDP6":                             {spec{src: "fd00::1", dst: "fd00::2", udp: true, payload: bytesOf(5000)}, 1232},
	"UDP4 all zero":                    {spec{udp: true, payload: make([]byte, 4000)}, 1000},
}

func TestSegment(t *testing.T) {
	for name, c := range superpackets {
		t.Run(name, func(t *testing.T) {
			h, pkt := super(c.spec.build(), c.mss, or(c.spec.flags, tcpACK)&tcpCWR != 0)
			want := slowSegments(c.spec, c.mss)
			for _, w := range want {
				checkPacket(t, w) // the reference itself
			}
			before := slices.Clone(pkt)
			comparePackets(t, cut(t, NewSegmenter(128), h, pkt), want)
			if !bytes.Equal(pkt, before) {
				t.Error("the superpacket was changed")
			}
			comparePackets(t, cut(t, NewSegmenter(3), h, pkt), want)

			// Without FlagNeedsCsum the field means nothing.
			h.Flags = 0
			binary.BigEndian.PutUint16(pkt[int(h.CsumStart)+int(h.CsumOffset):], 0xabcd)
			comparePackets(t, cut(t, NewSegmenter(128), h, pkt), want)
		})
	}
}

func TestSegmentPointsIntoThePacket(t *testing.T) {
	h, pkt := super(spec{payload: bytesOf(3000)}.build(), 1400, false)
	info := mustParse(t, pkt)
	s := NewSegmenter(128)
	if r := s.Load(h, pkt, &info); r != OK {
		t.Fatal(r)
	}
	var segs Segments
	if !s.Next(&segs) || segs.Count != 3 || segs.Size != 1440 || segs.Last != 240 || len(segs.Pieces) != 6 {
		t.Fatalf("%d packets of %d, last %d, in %d pieces", segs.Count, segs.Size, segs.Last, len(segs.Pieces))
	}
	if &segs.Pieces[1][0] != &pkt[40] || &segs.Pieces[5][0] != &pkt[2840] {
		t.Error("payload was copied")
	}
	if got := segs.Slice(1, 3); len(got) != 4 || &got[1][0] != &pkt[1440] {
		t.Error("Slice(1, 3) is not packets 1 and 2")
	}
	if s.Next(&segs) {
		t.Error("more than all")
	}
}

// UDP that sums up to zero must say 0xffff, for 0 means no checksum (RFC 768).
func TestSegmentUDPChecksumNeverZero(t *testing.T) {
	s := spec{udp: true, payload: make([]byte, 2000)}
	sum := binary.BigEndian.Uint16(slowSegments(s, 1000)[0][26:])
	binary.BigEndian.PutUint16(s.payload, sum)        // brings the first datagram's to zero
	binary.BigEndian.PutUint16(s.payload[1000:], sum) // and the second's
	h, pkt := super(s.build(), 1000, false)
	pkts := cut(t, NewSegmenter(128), h, pkt)
	s.payload = s.payload[:1000]
	h, pkt = super(s.build(), 0, false)
	h.GSOType = GSONone
	pkts = append(pkts, cut(t, NewSegmenter(128), h, pkt)...)
	for i, p := range pkts {
		if got := binary.BigEndian.Uint16(p[26:]); got != 0xffff {
			t.Errorf("datagram %d has checksum %#04x, want 0xffff", i, got)
		}
	}
}

func TestPlainPackets(t *testing.T) {
	for name, s := range map[string]spec{
		"TCP4":            {payload: bytesOf(1400)},
		"TCP4 empty":      {flags: tcpSYN},
		"TCP6":            {src: "fd00::1", dst: "fd00::2", payload: bytesOf(101)},
		"UDP4":            {udp: true, payload: bytesOf(3)},
		"UDP6 all zero":   {src: "fd00::1", dst: "fd00::2", udp: true, payload: make([]byte, 64)},
		"TCP4 IP options": {ipOptions: []byte{1, 1, 1, 0}, payload: bytesOf(77)},
	} {
		t.Run(name, func(t *testing.T) {
			want := s.build()
			h, pkt := super(want, 0, false)
			h.GSOType, h.GSOSize = GSONone, 0
			got := cut(t, NewSegmenter(1), h, pkt)
			comparePackets(t, got, [][]byte{want})
			// Nothing to complete: the packet is not touched.
			h = VnetHdr{Flags: FlagDataValid}
			wrong := slices.Clone(want)
			wrong[len(wrong)-1] ^= 1
			comparePackets(t, cut(t, NewSegmenter(1), h, slices.Clone(wrong)), [][]byte{wrong})
		})
	}
}

// What claims to be a superpacket but fits one segment is a plain packet.
func TestSuperpacketOfOneSegment(t *testing.T) {
	for _, n := range []int{0, 1, 999, 1000} {
		want := spec{payload: bytesOf(n)}.build()
		h, pkt := super(want, 1000, false)
		comparePackets(t, cut(t, NewSegmenter(4), h, pkt), [][]byte{want})
	}
}

func TestLoadRefuses(t *testing.T) {
	tcp4, udp4 := spec{payload: bytesOf(3000)}, spec{udp: true, payload: bytesOf(3000)}
	tcp6 := spec{src: "fd00::1", dst: "fd00::2", payload: bytesOf(3000)}
	longExt := append([]byte{6, 16}, make([]byte, 134)...)
	for name, c := range map[string]struct {
		spec   spec
		change func(h *VnetHdr, pkt []byte)
		want   Reason
	}{
		"segments of nothing":        {tcp4, func(h *VnetHdr, _ []byte) { h.GSOSize = 0 }, BadVnetHdr},
		"unknown kind":               {tcp4, func(h *VnetHdr, _ []byte) { h.GSOType = 2 }, BadVnetHdr},
		"UFO":                        {udp4, func(h *VnetHdr, _ []byte) { h.GSOType = 3 }, BadVnetHdr},
		"UDP tunnel":                 {tcp4, func(h *VnetHdr, _ []byte) { h.GSOType |= 0x20 }, BadVnetHdr},
		"ECN bit alone":              {tcp4, func(h *VnetHdr, _ []byte) { h.GSOType = GSOECN }, BadVnetHdr},
		"USO with ECN bit":           {udp4, func(h *VnetHdr, _ []byte) { h.GSOType |= GSOECN }, BadVnetHdr},
		"TCPv6 of IPv4":              {tcp4, func(h *VnetHdr, _ []byte) { h.GSOType = GSOTCPv6 }, BadVnetHdr},
		"TCPv4 of IPv6":              {tcp6, func(h *VnetHdr, _ []byte) { h.GSOType = GSOTCPv4 }, BadVnetHdr},
		"TCP of UDP":                 {udp4, func(h *VnetHdr, _ []byte) { h.GSOType = GSOTCPv4 }, BadVnetHdr},
		"UDP of TCP":                 {tcp4, func(h *VnetHdr, _ []byte) { h.GSOType = GSOUDPL4 }, BadVnetHdr},
		"checksum starts elsewhere":  {tcp4, func(h *VnetHdr, _ []byte) { h.CsumStart += 2 }, BadVnetHdr},
		"checksum field elsewhere":   {udp4, func(h *VnetHdr, _ []byte) { h.CsumOffset = 16 }, BadVnetHdr},
		"a fragment":                 {tcp4, func(_ *VnetHdr, p []byte) { p[6] |= 0x20 }, BadVnetHdr},
		"TCP header of 16 bytes":     {tcp4, func(_ *VnetHdr, p []byte) { p[32] = 0x40 }, BadHeader},
		"TCP header beyond packet":   {spec{payload: bytesOf(4)}, func(_ *VnetHdr, p []byte) { p[32] = 0xf0 }, BadHeader},
		"headers beyond the scratch": {spec{src: "fd00::1", dst: "fd00::2", extFirst: 60, ext: longExt, payload: bytesOf(3000)}, nil, BadHeader},
		"plain, checksum in IP header": {tcp4, func(h *VnetHdr, _ []byte) {
			h.GSOType, h.CsumStart, h.CsumOffset = GSONone, 0, 10
		}, BadVnetHdr},
		"plain, checksum half outside": {tcp4, func(h *VnetHdr, _ []byte) {
			h.GSOType, h.CsumStart, h.CsumOffset = GSONone, 20, 3019
		}, BadVnetHdr},
		"plain, checksum far outside": {tcp4, func(h *VnetHdr, _ []byte) {
			h.GSOType, h.CsumStart, h.CsumOffset = GSONone, 65535, 65535
		}, BadVnetHdr},
	} {
		t.Run(name, func(t *testing.T) {
			h, pkt := super(c.spec.build(), 1000, false)
			if c.change != nil {
				c.change(&h, pkt)
			}
			info := mustParse(t, pkt)
			s := NewSegmenter(1)
			if r := s.Load(h, pkt, &info); r != c.want {
				t.Errorf("got %v, want %v", r, c.want)
			}
			if s.Next(new(Segments)) {
				t.Error("Next gives packets")
			}
		})
	}
	// A transport header cut short.
	for _, udp := range []bool{false, true} {
		p := spec{udp: udp}.build()[:26]
		binary.BigEndian.PutUint16(p[2:], 26)
		info := mustParse(t, p)
		h := VnetHdr{GSOType: GSOTCPv4, GSOSize: 1}
		if udp {
			h.GSOType = GSOUDPL4
		}
		if r := NewSegmenter(1).Load(h, p, &info); r != BadHeader {
			t.Errorf("udp %v: got %v, want %v", udp, r, BadHeader)
		}
	}
}

// Long headers mean fewer segments at a time, not fewer in all.
func TestSegmentLongHeaders(t *testing.T) {
	ext := append([]byte{6, 31}, make([]byte, 254)...)
	s := spec{src: "fd00::1", dst: "fd00::2", extFirst: 60, ext: ext, payload: bytesOf(9000)}
	h, pkt := super(s.build(), 1000, false)
	comparePackets(t, cut(t, NewSegmenter(8), h, pkt), slowSegments(s, 1000))
}

// What is loaded takes the place of a superpacket that was not cut to its end.
func TestLoadForgetsTheLast(t *testing.T) {
	h, pkt := super(spec{payload: bytesOf(3000)}.build(), 1000, false)
	info := mustParse(t, pkt)
	s := NewSegmenter(1)
	load := func(h VnetHdr, want Reason) {
		t.Helper()
		if r := s.Load(h, pkt, &info); r != want {
			t.Fatalf("got %v, want %v", r, want)
		}
	}
	load(h, OK)
	if !s.Next(new(Segments)) {
		t.Fatal("nothing")
	}
	load(VnetHdr{GSOType: 99, GSOSize: 1}, BadVnetHdr)
	if s.Next(new(Segments)) {
		t.Error("segments of the packet before the refused one")
	}
	load(h, OK)
	load(VnetHdr{}, OK)
	if got := drain(t, s); len(got) != 1 || len(got[0]) != 3040 {
		t.Errorf("%d packets", len(got))
	}
	load(VnetHdr{}, OK)
	load(h, OK)
	if got := drain(t, s); len(got) != 3 {
		t.Errorf("%d packets", len(got))
	}
}

func ExampleSegmenter() {
	h, pkt := super(spec{payload: bytesOf(4000)}.build(), 1400, false)
	var info Info
	info.Parse(pkt)
	s := NewSegmenter(128)
	if s.Load(h, pkt, &info) != OK {
		return // and count the reason
	}
	var segs Segments
	for s.Next(&segs) {
		fmt.Println(segs.Count, "packets of", segs.Size, "bytes, the last of", segs.Last)
	}
	// Output: 3 packets of 1440 bytes, the last of 1240
}

// FuzzSegment loads arbitrary packets behind arbitrary vnet headers. With sum,
// the checksum field gets the pseudo-header sum, as from the kernel: then all
// that comes out has right checksums.
func FuzzSegment(f *testing.F) {
	for _, s := range superpackets {
		s.spec.payload = bytesOf(71)
		h, pkt := super(s.spec.build(), 20, false)
		f.Add(h.Flags, h.GSOType, h.GSOSize, h.CsumStart, h.CsumOffset, true, pkt)
	}
	s := NewSegmenter(7)
	f.Fuzz(func(t *testing.T, flags, gsoType uint8, size, start, offset uint16, sum bool, pkt []byte) {
		var info Info
		pkt = withLength(pkt) // a copy: a plain one is completed in place
		if len(pkt) > 9000 || info.Parse(pkt) != OK {
			return
		}
		at := int(start) + int(offset)
		if sum && at+2 <= len(pkt) && int(start) == info.Transport {
			binary.BigEndian.PutUint16(pkt[at:], slowPseudo(pkt, info.Protocol, info.Transport))
		}
		h := VnetHdr{Flags: flags, GSOType: gsoType, GSOSize: size, CsumStart: start, CsumOffset: offset}
		if s.Load(h, pkt, &info) != OK {
			if s.Next(new(Segments)) {
				t.Fatal("packets from what was refused")
			}
			return
		}
		payload := 0
		out := drain(t, s)
		for _, p := range out {
			var got Info
			if r := got.Parse(p); r != OK || got.Transport != info.Transport || got.Src != info.Src || got.Dst != info.Dst || got.TOS != info.TOS {
				t.Fatalf("%v: %+v of %+v", r, got, info)
			}
			payload += len(p)
			if len(out) > 1 && (sum || flags&FlagNeedsCsum == 0) {
				checkPacket(t, p)
			}
		}
		if header := len(out[0]) - int(size); len(out) > 1 {
			payload -= (len(out) - 1) * header
		}
		if payload != len(pkt) {
			t.Fatalf("%d bytes in, %d bytes out in %d packets", len(pkt), payload, len(out))
		}
	})
}
