package probe

import (
	"bytes"
	"encoding/hex"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/tunnel/packet"
)

var (
	here  = netip.MustParseAddr("10.5.1.0")
	there = netip.MustParseAddr("10.5.2.0")
)

// The bytes on the wire, which other versions of weft must understand.
const (
	request = "4500002c00004000401123b8" + "0a050100" + "0a050200" + "205e205e00180000" + "77656674" + "01010000" + "0102030405060708"
	reply   = "4500002c00004000401123b8" + "0a050200" + "0a050100" + "205e205e00180000" + "77656674" + "01020000" + "0102030405060708"
)

func TestBuildAndAnswer(t *testing.T) {
	b := Build(make([]byte, 64), here, there, 0x0102030405060708)
	if got := hex.EncodeToString(b); got != request {
		t.Errorf("request\n%s, want\n%s", got, request)
	}
	var info packet.Info
	if why := info.Parse(b); why != packet.OK || info.Src != here || info.Dst != there || !info.DF {
		t.Errorf("parsed as %+v: %v", info, why)
	}
	if packet.Sum(b[:20], 0) != 0xffff {
		t.Error("wrong header checksum")
	}
	if kind, nonce, ok := Read(b); kind != Request || nonce != 0x0102030405060708 || !ok {
		t.Errorf("read as %v %x %v", kind, nonce, ok)
	}
	Answer(b)
	if got := hex.EncodeToString(b); got != reply {
		t.Errorf("reply\n%s, want\n%s", got, reply)
	}
	if kind, nonce, ok := Read(b); kind != Reply || nonce != 0x0102030405060708 || !ok {
		t.Errorf("read as %v %x %v", kind, nonce, ok)
	}
}

func TestReadRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"empty", func(b []byte) []byte { return nil }},
		{"short", func(b []byte) []byte { return b[:len(b)-1] }},
		{"long", func(b []byte) []byte { return append(b, 0) }},
		{"IPv6", func(b []byte) []byte { b[0] = 0x65; return b }},
		{"options", func(b []byte) []byte { b[0] = 0x46; return b }},
		{"TCP", func(b []byte) []byte { b[9] = 6; return b }},
		{"total length", func(b []byte) []byte { b[3]--; return b }},
		{"first fragment", func(b []byte) []byte { b[6] |= 0x20; return b }},
		{"later fragment", func(b []byte) []byte { b[7] = 1; return b }},
		{"source port", func(b []byte) []byte { b[20] = 0; return b }},
		{"destination port", func(b []byte) []byte { b[23] = 0; return b }},
		{"UDP length", func(b []byte) []byte { b[25]++; return b }},
		{"magic", func(b []byte) []byte { b[28] = 'W'; return b }},
		{"version", func(b []byte) []byte { b[32] = 2; return b }},
		{"kind 0", func(b []byte) []byte { b[33] = 0; return b }},
		{"kind 3", func(b []byte) []byte { b[33] = 3; return b }},
	} {
		b, err := hex.DecodeString(request)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, ok := Read(c.change(b)); ok {
			t.Errorf("%s: taken for a probe", c.name)
		}
	}
}

// Whatever is read is what Build or Answer would have made, but for the bytes
// that nothing depends on; and an answer to it is read as its answer.
func FuzzRead(f *testing.F) {
	for _, text := range []string{request, reply, request[:40], ""} {
		b, err := hex.DecodeString(text)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		kind, nonce, ok := Read(b)
		if !bytes.Equal(b, before) {
			t.Fatal("reading changes the packet")
		}
		if !ok {
			return
		}
		var info packet.Info
		if why := info.Parse(b); why != packet.OK || info.Fragment != packet.NotFragment || info.Protocol != packet.ProtoUDP {
			t.Fatalf("a probe that is no UDP packet: %+v, %v", info, why)
		}
		built := Build(make([]byte, Len), info.Src, info.Dst, nonce)
		if kind == Reply {
			built[33] = byte(Reply)
		}
		if !bytes.Equal(built[20:26], b[20:26]) || !bytes.Equal(built[28:34], b[28:34]) || !bytes.Equal(built[36:], b[36:]) {
			t.Fatalf("read %x, which would have been built %x", b, built)
		}
		Answer(b)
		if k, n, ok := Read(b); k != Reply || n != nonce || !ok {
			t.Fatalf("the answer is read as %v %x %v", k, n, ok)
		}
	})
}
