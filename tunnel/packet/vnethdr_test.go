package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func TestVnetHdr(t *testing.T) {
	want := VnetHdr{Flags: FlagNeedsCsum, GSOType: GSOTCPv4 | GSOECN, HdrLen: 0x0102, GSOSize: 0x0304, CsumStart: 0x0506, CsumOffset: 0x0708}
	b := make([]byte, VnetHdrLen)
	if !want.Encode(b) {
		t.Fatal("Encode: not long enough")
	}
	order := binary.NativeEndian
	wire := []byte{1, 0x81}
	for _, v := range []uint16{0x0102, 0x0304, 0x0506, 0x0708} {
		wire = order.AppendUint16(wire, v)
	}
	if !bytes.Equal(b, wire) {
		t.Errorf("encoded % x, want % x", b, wire)
	}
	var got VnetHdr
	if !got.Decode(append(b, 0x45)) || got != want {
		t.Errorf("decoded %+v, want %+v", got, want)
	}
	if got.Decode(b[:9]) || got.Encode(b[:9]) {
		t.Error("9 bytes are enough")
	}
}

func TestReasonNames(t *testing.T) {
	seen := map[string]bool{}
	for r := range Reason(NumReasons) {
		if name := r.String(); name == "" || name == "unknown" || seen[name] {
			t.Errorf("reason %d is called %q", r, name)
		}
		seen[r.String()] = true
	}
	if Reason(NumReasons).String() != "unknown" {
		t.Error("a reason beyond the last has a name")
	}
}
