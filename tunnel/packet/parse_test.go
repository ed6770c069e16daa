package packet

import (
	"encoding/hex"
	"net/netip"
	"strings"
	"testing"
)

var readable = strings.NewReplacer(" ", "", "|", "")

// unhex turns "45 00 | 00 1c" into bytes; the bars are for the reader.
func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(readable.Replace(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

const (
	// Headers of 10.1.0.2 to 10.2.0.3 and of fd00::1 to fd00::2, from the
	// protocol on.
	v4Rest  = " 66 cf 0a 01 00 02 0a 02 00 03 "
	v6Addrs = " fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 | fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 02 "
)

func TestParse(t *testing.T) {
	src4, dst4 := netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.2.0.3")
	src6, dst6 := netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2")
	for name, c := range map[string]struct {
		in   string
		want Info
	}{
		"udp, DF, ECT(0), DSCP EF": {
			"45 ba 00 1c 00 01 40 00 40 11" + v4Rest + "| 00 01 00 02 00 08 00 00",
			Info{Src: src4, Dst: dst4, Version: 4, TOS: 0xba, Protocol: 17, DF: true, Transport: 20, Len: 28},
		},
		"header only": {
			"45 00 00 14 00 00 00 00 40 06" + v4Rest,
			Info{Src: src4, Dst: dst4, Version: 4, Protocol: 6, Transport: 20, Len: 20},
		},
		"options": {
			"46 00 00 19 00 00 00 00 40 01" + v4Rest + "01 01 01 00 | ff",
			Info{Src: src4, Dst: dst4, Version: 4, Protocol: 1, Transport: 24, Len: 25},
		},
		"first fragment": {
			"45 00 00 1c 00 07 20 00 40 11" + v4Rest + "00 01 00 02 00 10 00 00",
			Info{Src: src4, Dst: dst4, Version: 4, Protocol: 17, Fragment: FirstFragment, Transport: 20, Len: 28},
		},
		"last fragment": {
			"45 00 00 15 00 07 00 01 40 11" + v4Rest + "ff",
			Info{Src: src4, Dst: dst4, Version: 4, Protocol: 17, Fragment: LaterFragment, Transport: 20, Len: 21},
		},
		"IPv6 tcp, class b9, flow label": {
			"6b 9a bc de 00 01 06 40" + v6Addrs + "| ff",
			Info{Src: src6, Dst: dst6, Version: 6, TOS: 0xb9, Protocol: 6, DF: true, Transport: 40, Len: 41},
		},
		"IPv6 without next header": {
			"60 00 00 00 00 00 3b 40" + v6Addrs,
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 59, DF: true, Transport: 40, Len: 40},
		},
		"IPv6 hop-by-hop, destination options of 16 bytes, udp": {
			"60 00 00 00 00 20 00 40" + v6Addrs +
				"3c 00 01 04 00 00 00 00 | 11 01 01 0c 00 00 00 00 00 00 00 00 00 00 00 00 | 00 01 00 02 00 08 00 00",
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 17, DF: true, Transport: 64, Len: 72},
		},
		"IPv6 authentication header of 12 bytes": {
			"60 00 00 00 00 0d 33 40" + v6Addrs + "06 01 00 00 00 00 00 01 00 00 00 01 | ff",
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 6, DF: true, Transport: 52, Len: 53},
		},
		"IPv6 first fragment": {
			"60 00 00 00 00 10 2c 40" + v6Addrs + "11 00 00 01 00 00 00 05 | 00 01 00 02 00 10 00 00",
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 17, DF: true, Fragment: FirstFragment, Transport: 48, Len: 56},
		},
		"IPv6 atomic fragment": {
			"60 00 00 00 00 10 2c 40" + v6Addrs + "11 00 00 00 00 00 00 05 | 00 01 00 02 00 08 00 00",
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 17, DF: true, Fragment: FirstFragment, Transport: 48, Len: 56},
		},
		"IPv6 later fragment, its data looks like an extension": {
			"60 00 00 00 00 10 2c 40" + v6Addrs + "00 00 00 09 00 00 00 05 | ff ff ff ff ff ff ff ff",
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 0, DF: true, Fragment: LaterFragment, Transport: 48, Len: 56},
		},
		"IPv6 with nine extension headers: the ninth is not walked": {
			"60 00 00 00 00 48 3c 40" + v6Addrs +
				"3c 00 00 00 00 00 00 00  3c 00 00 00 00 00 00 00  3c 00 00 00 00 00 00 00" +
				"3c 00 00 00 00 00 00 00  3c 00 00 00 00 00 00 00  3c 00 00 00 00 00 00 00" +
				"3c 00 00 00 00 00 00 00  3c 00 00 00 00 00 00 00  06 00 00 00 00 00 00 00",
			Info{Src: src6, Dst: dst6, Version: 6, Protocol: 60, DF: true, Transport: 104, Len: 112},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var got Info
			if r := got.Parse(unhex(t, c.in)); r != OK {
				t.Fatalf("refused: %v", r)
			}
			if got != c.want {
				t.Errorf("got  %+v\nwant %+v", got, c.want)
			}
		})
	}
}

func TestParseRefuses(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		want Reason
	}{
		"empty":                     {"", Truncated},
		"IPv4 of 19 bytes":          {"45 00 00 13 00 00 00 00 40 11 66 cf 0a 01 00 02 0a 02 00", Truncated},
		"IPv4 cut short":            {"45 00 00 1d 00 00 00 00 40 11" + v4Rest + "00 01 00 02 00 08 00 00", Truncated},
		"IPv4 with a pad":           {"45 00 00 1b 00 00 00 00 40 11" + v4Rest + "00 01 00 02 00 08 00 00", Trailing},
		"IPv4 header of 16 bytes":   {"44 00 00 14 00 00 00 00 40 11" + v4Rest, BadHeader},
		"IPv4 header beyond packet": {"4f 00 00 14 00 00 00 00 40 11" + v4Rest, BadHeader},
		"IPv4 length 0":             {"45 00 00 00 00 00 00 00 40 11" + v4Rest, BadHeader},
		"version 0":                 {"05 00 00 14 00 00 00 00 40 11" + v4Rest, BadVersion},
		"version 5":                 {"55", BadVersion},
		"IPv6 of 39 bytes":          {"60 00 00 00 00 00 3b 40 fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00 01 fd 00 00 00 00 00 00 00 00 00 00 00 00 00 00", Truncated},
		"IPv6 cut short":            {"60 00 00 00 00 02 06 40" + v6Addrs + "ff", Truncated},
		"IPv6 with a pad":           {"60 00 00 00 00 00 06 40" + v6Addrs + "ff", Trailing},
		"IPv6 extension cut short":  {"60 00 00 00 00 04 3c 40" + v6Addrs + "06 00 00 00", BadHeader},
		"IPv6 extension too long":   {"60 00 00 00 00 08 3c 40" + v6Addrs + "06 01 00 00 00 00 00 00", BadHeader},
		"IPv6 AH too long":          {"60 00 00 00 00 08 33 40" + v6Addrs + "06 01 00 00 00 00 00 00", BadHeader},
		"IPv6 fragment cut short":   {"60 00 00 00 00 04 2c 40" + v6Addrs + "06 00 00 00", BadHeader},
	} {
		t.Run(name, func(t *testing.T) {
			var info Info
			if r := info.Parse(unhex(t, c.in)); r != c.want {
				t.Errorf("got %v, want %v", r, c.want)
			}
		})
	}
}

func FuzzParse(f *testing.F) {
	f.Add(spec{payload: bytesOf(10)}.build())
	f.Add(spec{src: "fd00::1", dst: "fd00::2", udp: true, extFirst: 60, ext: []byte{17, 0, 0, 0, 0, 0, 0, 0}}.build())
	f.Add(spec{ipOptions: []byte{1, 1, 1, 0}}.build())
	f.Fuzz(func(t *testing.T, b []byte) {
		var info Info
		r := info.Parse(b)
		if r >= NumReasons {
			t.Fatalf("reason %d", r)
		}
		if r != OK {
			return
		}
		if info.Len != len(b) || info.Transport > len(b) || info.Transport < 20 {
			t.Fatalf("%d bytes: %+v", len(b), info)
		}
		if (info.Version == 4) != info.Src.Is4() || info.Src.BitLen() != info.Dst.BitLen() {
			t.Fatalf("families: %+v", info)
		}
		again := append([]byte(nil), b...)
		SetTOS(again, 0x5a)
		var info2 Info
		if r := info2.Parse(again); r != OK || info2.TOS != 0x5a {
			t.Fatalf("after SetTOS: %v, %+v", r, info2)
		}
		SetTOS(again, info.TOS)
		info2.Parse(again)
		if info2 != info || FlowHash(again, &info2) != FlowHash(b, &info) {
			t.Fatalf("after SetTOS and back: %+v, was %+v", info2, info)
		}
	})
}
