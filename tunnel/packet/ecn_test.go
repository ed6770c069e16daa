package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestECNEncap(t *testing.T) {
	for inner, want := range map[uint8]uint8{0x00: 0, 0x01: 1, 0x02: 2, 0x03: 3, 0xb8: 0, 0xba: 2, 0xff: 3} {
		if got := ECNEncap(inner); got != want {
			t.Errorf("inner %#02x: outer %#02x, want %#02x", inner, got, want)
		}
	}
}

// The whole of RFC 6040 figure 4.
func TestECNDecap(t *testing.T) {
	const drop = 0xff
	for _, c := range []struct{ inner, outer, want uint8 }{
		{NotECT, NotECT, NotECT}, {NotECT, ECT0, NotECT}, {NotECT, ECT1, NotECT}, {NotECT, CE, drop},
		{ECT0, NotECT, ECT0}, {ECT0, ECT0, ECT0}, {ECT0, ECT1, ECT1}, {ECT0, CE, CE},
		{ECT1, NotECT, ECT1}, {ECT1, ECT0, ECT1}, {ECT1, ECT1, ECT1}, {ECT1, CE, CE},
		{CE, NotECT, CE}, {CE, ECT0, CE}, {CE, ECT1, CE}, {CE, CE, CE},
	} {
		for _, dscp := range []uint8{0, 0xb8, 0xfc} {
			got, dropped := ECNDecap(0x50|c.outer, dscp|c.inner)
			if c.want == drop {
				if !dropped {
					t.Errorf("inner %d outer %d: not dropped", c.inner, c.outer)
				}
				continue
			}
			if dropped || got != dscp|c.want {
				t.Errorf("inner %#02x outer %d: got %#02x, drop %v, want %#02x", dscp|c.inner, c.outer, got, dropped, dscp|c.want)
			}
		}
	}
}

func TestSetTOS(t *testing.T) {
	for from := 0; from < 256; from += 5 {
		for to := range 256 {
			v4 := spec{tos: uint8(from), id: uint16(from*331 + to*257), payload: []byte("x")}
			p := v4.build()
			SetTOS(p, uint8(to))
			v4.tos = uint8(to)
			if !bytes.Equal(p, v4.build()) {
				t.Fatalf("IPv4 %#02x to %#02x: % x, want % x", from, to, p[:20], v4.build()[:20])
			}
			v6 := spec{src: "fd00::1", dst: "fd00::2", tos: uint8(from), flowLabel: 0xabcde}
			p = v6.build()
			SetTOS(p, uint8(to))
			v6.tos = uint8(to)
			if !bytes.Equal(p, v6.build()) {
				t.Fatalf("IPv6 %#02x to %#02x: % x", from, to, p[:8])
			}
		}
	}
}

func TestSetTOSLeavesWrongChecksumWrong(t *testing.T) {
	p := spec{payload: []byte("x")}.build()
	binary.BigEndian.PutUint16(p[10:], binary.BigEndian.Uint16(p[10:])+1)
	SetTOS(p, CE)
	if slowSum(p[:20], 0) == 0xffff {
		t.Error("a wrong header checksum became right")
	}
}
