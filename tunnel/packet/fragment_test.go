package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// field reads the flags and the offset in bytes of an IPv4 packet.
func field(p []byte) (flags uint16, offset int) {
	v := binary.BigEndian.Uint16(p[6:])
	return v &^ ipv4OffsetMask, int(v&ipv4OffsetMask) * 8
}

func TestFragment(t *testing.T) {
	pkt := spec{udp: true, id: 0xbeef, tos: 0x12, ttl: 9, payload: bytesOf(2972)}.build() // 3,000 bytes
	info := mustParse(t, pkt)
	pieces, r := AppendFragments(nil, pkt, &info, 1472)
	if r != OK || len(pieces) != 6 {
		t.Fatalf("%v, %d pieces", r, len(pieces))
	}
	var data []byte
	for i, want := range []struct {
		total  int
		more   uint16
		offset int
	}{{1468, ipv4MF, 0}, {1468, ipv4MF, 1448}, {104, 0, 2896}} {
		header, payload := pieces[2*i], pieces[2*i+1]
		p := slices.Concat(header, payload)
		checkPacket(t, p)
		flags, offset := field(p)
		if len(p) != want.total || flags != want.more || offset != want.offset {
			t.Errorf("fragment %d: %d bytes, flags %#x, offset %d; want %+v", i, len(p), flags, offset, want)
		}
		if binary.BigEndian.Uint16(p[4:]) != 0xbeef || p[1] != 0x12 || p[8] != 9 || p[9] != ProtoUDP {
			t.Errorf("fragment %d: header % x", i, header)
		}
		if &payload[0] != &pkt[20+offset] {
			t.Errorf("fragment %d: payload was copied", i)
		}
		data = append(data, payload...)
	}
	if !bytes.Equal(data, pkt[20:]) {
		t.Error("the payload changed")
	}
}

func TestFragmentOptions(t *testing.T) {
	// No operation, record route (not copied), router alert (copied), end.
	options := []byte{1, 7, 7, 4, 0, 0, 0, 0, 0x94, 4, 0, 0}
	pkt := spec{ipOptions: options, payload: bytesOf(100)}.build() // 32 + 120 bytes
	info := mustParse(t, pkt)
	pieces, r := AppendFragments(nil, pkt, &info, 100)
	if r != OK || len(pieces) != 4 {
		t.Fatalf("%v, %d pieces", r, len(pieces))
	}
	if got := pieces[0][20:]; !bytes.Equal(got, options) || len(pieces[1]) != 64 {
		t.Errorf("first: options % x, %d bytes", got, len(pieces[1]))
	}
	if got := pieces[2][20:]; !bytes.Equal(got, []byte{0x94, 4, 0, 0}) || len(pieces[3]) != 56 {
		t.Errorf("second: options % x, %d bytes", got, len(pieces[3]))
	}
	for i := 0; i < 4; i += 2 {
		checkPacket(t, slices.Concat(pieces[i], pieces[i+1]))
	}
}

func TestFragmentOfFragment(t *testing.T) {
	for _, more := range []uint16{0, ipv4MF} {
		pkt := spec{udp: true, payload: bytesOf(92)}.build() // 100 bytes of data
		binary.BigEndian.PutUint16(pkt[6:], more|10)
		resum(pkt)
		info := mustParse(t, pkt)
		pieces, r := AppendFragments(nil, pkt, &info, 84)
		if r != OK || len(pieces) != 4 {
			t.Fatalf("%v, %d pieces", r, len(pieces))
		}
		if flags, offset := field(pieces[0]); flags != ipv4MF || offset != 80 {
			t.Errorf("first: flags %#x, offset %d", flags, offset)
		}
		if flags, offset := field(pieces[2]); flags != more || offset != 144 {
			t.Errorf("second: flags %#x, offset %d, want flags %#x", flags, offset, more)
		}
	}
}

func TestFragmentOrNot(t *testing.T) {
	plain, df := spec{payload: bytesOf(100)}, spec{df: true, payload: bytesOf(100)}
	badOption := spec{ipOptions: []byte{7, 5, 0, 0}, payload: bytesOf(100)}
	options := spec{ipOptions: make([]byte, 40), payload: bytesOf(100)}
	for name, c := range map[string]struct {
		spec   spec
		offset uint16
		mtu    int
		want   Reason
		pieces int
	}{
		"fits":                    {plain, 0, 140, OK, 2},
		"fits, DF":                {df, 0, 140, OK, 2},
		"one byte too long":       {plain, 0, 139, OK, 4},
		"DF":                      {df, 0, 139, DontFragment, 0},
		"IPv6":                    {spec{src: "fd00::1", dst: "fd00::2", payload: bytesOf(100)}, 0, 139, DontFragment, 0},
		"smallest MTU":            {plain, 0, 28, OK, 30},
		"smaller MTU":             {plain, 0, 27, MTUTooSmall, 0},
		"no MTU":                  {plain, 0, -1, MTUTooSmall, 0},
		"RFC 791 minimum":         {options, 0, 68, OK, 2 * (1 + 3)},
		"option beyond header":    {badOption, 0, 139, BadHeader, 0},
		"ends beyond any packet":  {plain, 8191, 139, BadHeader, 0},
		"ends where a packet may": {plain, 8176, 139, OK, 4},
	} {
		t.Run(name, func(t *testing.T) {
			pkt := c.spec.build()
			if c.offset != 0 {
				binary.BigEndian.PutUint16(pkt[6:], c.offset)
			}
			info := mustParse(t, pkt)
			before := [][]byte{{1}}
			pieces, r := AppendFragments(before, pkt, &info, c.mtu)
			if r != c.want || len(pieces) != 1+c.pieces {
				t.Errorf("%v, %d pieces; want %v, %d", r, len(pieces)-1, c.want, c.pieces)
			}
		})
	}
}

func FuzzFragment(f *testing.F) {
	f.Add(spec{udp: true, payload: bytesOf(300)}.build(), 100)
	f.Add(spec{ipOptions: []byte{0x94, 4, 0, 0, 7, 3, 4, 1}, payload: bytesOf(300)}.build(), 68)
	f.Fuzz(func(t *testing.T, pkt []byte, mtu int) {
		pkt = withLength(pkt)
		var info Info
		if len(pkt) > 9000 || info.Parse(pkt) != OK {
			return
		}
		pieces, r := AppendFragments(nil, pkt, &info, mtu)
		if r != OK {
			if len(pieces) != 0 {
				t.Fatalf("%v, and %d pieces", r, len(pieces))
			}
			return
		}
		var data []byte
		flags, next := uint16(0), 0
		if info.Version == 4 {
			flags, next = field(pkt)
		}
		for i := 0; i < len(pieces); i += 2 {
			p := slices.Concat(pieces[i], pieces[i+1])
			var got Info
			if r := got.Parse(p); r != OK || len(p) > mtu {
				t.Fatalf("fragment %d of %d bytes, MTU %d: %v", i/2, len(p), mtu, r)
			}
			data = append(data, pieces[i+1]...)
			if len(pieces) == 2 {
				break // not cut; nothing about the header is new
			}
			if sum := slowSum(pieces[i], 0); sum != 0xffff {
				t.Fatalf("fragment %d: header sum %#x", i/2, sum)
			}
			gotFlags, offset := field(p)
			if offset != next || i+2 < len(pieces) && gotFlags != flags|ipv4MF || i+2 == len(pieces) && gotFlags != flags {
				t.Fatalf("fragment %d: flags %#x, offset %d; want offset %d", i/2, gotFlags, offset, next)
			}
			next += len(pieces[i+1])
		}
		if !bytes.Equal(data, pkt[info.Transport:]) {
			t.Fatal("the payload changed")
		}
	})
}
