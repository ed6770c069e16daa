package probe

import (
	"bytes"
	"encoding/hex"
	"testing"

	"github.com/weftnet/weft/tunnel/packet"
)

// A trial of segments of 60 bytes, 20 of them payload. The TCP checksum is the
// sum of 0a05 0100 0a05 0200 0006 003c.
const trial = "45000050000040004006239f" + "0a050100" + "0a050200" +
	"205e205e" + "00000000" + "00000000" + "50140000" + "174c0000" +
	"77656674" + "01010050" + "0102030405060708" + "000000000000000000000000000000000000000000000000"

func trialBytes(t testing.TB) []byte {
	t.Helper()
	b, err := hex.DecodeString(trial)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestBuildTrial(t *testing.T) {
	b := bytes.Repeat([]byte{0xff}, TrialLen(60, 2))
	BuildTrial(b, here, there, 0x0102030405060708)
	if want := trialBytes(t); !bytes.Equal(b, want) {
		t.Errorf("trial\n%x, want\n%x", b, want)
	}
	if nonce, ok := ReadTrial(b); nonce != 0x0102030405060708 || !ok {
		t.Errorf("read as %x %v", nonce, ok)
	}
	if packet.Sum(b[:20], 0) != 0xffff {
		t.Error("wrong header checksum")
	}
	if _, _, ok := Read(b); ok {
		t.Error("it is taken for a probe")
	}
	if got := hex.EncodeToString(BuildReply(make([]byte, Len), there, here, 0x0102030405060708)); got != reply {
		t.Errorf("reply\n%s, want\n%s", got, reply)
	}
}

// What a kernel makes of it: segments of that length, with right checksums, the
// first of which is no trial, even if it is a superpacket.
func TestTrialIsASuperpacket(t *testing.T) {
	for _, c := range []struct{ segment, segments int }{{MinTrialSegment, 2}, {548, 2}, {1472, 2}, {1472, 45}, {15000, 4}} {
		segment := c.segment
		b := make([]byte, TrialLen(segment, c.segments))
		BuildTrial(b, here, there, 7)
		if nonce, ok := ReadTrial(b); nonce != 7 || !ok {
			t.Errorf("%d: read as %d %v", segment, nonce, ok)
		}
		var info packet.Info
		if why := info.Parse(b); why != packet.OK || !info.DF || info.Src != here || info.Dst != there {
			t.Fatalf("%d: %+v, %v", segment, info, why)
		}
		seg, segs := packet.NewSegmenter(64), packet.Segments{}
		hdr := packet.VnetHdr{Flags: packet.FlagNeedsCsum, GSOType: packet.GSOTCPv4, GSOSize: uint16(segment - 40), CsumStart: 20, CsumOffset: 16}
		if why := seg.Load(hdr, b, &info); why != packet.OK {
			t.Fatalf("%d: %v", segment, why)
		}
		if !seg.Next(&segs) || segs.Count != c.segments || segs.Size != segment || segs.Last != segment {
			t.Fatalf("%d: cut into %d of %d", segment, segs.Count, segs.Size)
		}
		for i := range c.segments {
			whole := bytes.Join(segs.Slice(i, i+1), nil)
			pseudo := []byte{0, packet.ProtoTCP, byte((segment - 20) >> 8), byte(segment - 20)}
			if packet.Sum(whole[20:], packet.Sum(pseudo, packet.Sum(whole[12:20], 0))) != 0xffff {
				t.Errorf("%d: segment %d has a wrong checksum", segment, i)
			}
			if _, ok := ReadTrial(whole); ok {
				t.Errorf("%d: segment %d is taken for a trial", segment, i)
			}
		}
	}
}

func TestReadTrialRefuses(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(b []byte) []byte
	}{
		{"empty", func(b []byte) []byte { return nil }},
		{"short", func(b []byte) []byte { return b[:len(b)-1] }},
		{"long", func(b []byte) []byte { return append(b, 0) }},
		{"no second segment", func(b []byte) []byte { b[3] = 60; return b[:60] }},
		{"IPv6", func(b []byte) []byte { b[0] = 0x65; return b }},
		{"options", func(b []byte) []byte { b[0] = 0x46; return b }},
		{"UDP", func(b []byte) []byte { b[9] = 17; return b }},
		{"total length", func(b []byte) []byte { b[3]--; return b }},
		{"first fragment", func(b []byte) []byte { b[6] |= 0x20; return b }},
		{"later fragment", func(b []byte) []byte { b[7] = 1; return b }},
		{"source port", func(b []byte) []byte { b[20] = 0; return b }},
		{"destination port", func(b []byte) []byte { b[23] = 0; return b }},
		{"TCP options", func(b []byte) []byte { b[32] = 0x60; return b }},
		{"SYN", func(b []byte) []byte { b[33] = 0x02; return b }},
		{"data", func(b []byte) []byte { b[33] = 0x10; return b }},
		{"magic", func(b []byte) []byte { b[40] = 'W'; return b }},
		{"version", func(b []byte) []byte { b[44] = 2; return b }},
		{"kind 0", func(b []byte) []byte { b[45] = 0; return b }},
		{"part of a longer one", func(b []byte) []byte { b[47]++; return b }},
		{"a reply", func(b []byte) []byte { b[45] = 2; return b }},
	} {
		if _, ok := ReadTrial(c.change(trialBytes(t))); ok {
			t.Errorf("%s: taken for a trial", c.name)
		}
	}
}

// Whatever is read is what BuildTrial would have made, but for the bytes that
// nothing depends on.
func FuzzReadTrial(f *testing.F) {
	f.Add(trialBytes(f))
	f.Add(trialBytes(f)[:60])
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		nonce, ok := ReadTrial(b)
		if !bytes.Equal(b, before) {
			t.Fatal("reading changes the packet")
		}
		if !ok {
			return
		}
		var info packet.Info
		if why := info.Parse(b); why != packet.OK || info.Fragment != packet.NotFragment || info.Protocol != packet.ProtoTCP {
			t.Fatalf("a trial that is no TCP packet: %+v, %v", info, why)
		}
		built := make([]byte, len(b))
		BuildTrial(built, info.Src, info.Dst, nonce)
		if !bytes.Equal(built[20:24], b[20:24]) || !bytes.Equal(built[32:34], b[32:34]) || !bytes.Equal(built[40:56], b[40:56]) {
			t.Fatalf("read %x, which would have been built %x", b, built)
		}
	})
}
