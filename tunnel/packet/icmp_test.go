package packet

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

var (
	tunnel4 = netip.MustParseAddr("10.9.0.0")
	tunnel6 = netip.MustParseAddr("fd00:9::")
)

func v6spec(s spec) spec {
	s.src, s.dst = or(s.src, "fd00::1"), or(s.dst, "fd00::2")
	return s
}

func TestICMPErrors(t *testing.T) {
	unreachable := func(dst, orig []byte, info *Info, from netip.Addr) (int, bool) {
		return Unreachable(dst, orig, info, from)
	}
	tooBig := func(dst, orig []byte, info *Info, from netip.Addr) (int, bool) {
		return TooBig(dst, orig, info, from, 1472)
	}
	for name, c := range map[string]struct {
		build     func(dst, orig []byte, info *Info, from netip.Addr) (int, bool)
		orig      spec
		typ       icmp.Type
		code      int
		rest      uint32
		wantQuote int
	}{
		"IPv4 unreachable":             {unreachable, spec{payload: bytesOf(10)}, ipv4.ICMPTypeDestinationUnreachable, 0, 0, 50},
		"IPv4 too big":                 {tooBig, spec{df: true, payload: bytesOf(1460)}, ipv4.ICMPTypeDestinationUnreachable, 4, 1472, 548},
		"IPv4 too big, a superpacket":  {tooBig, spec{payload: bytesOf(65000)}, ipv4.ICMPTypeDestinationUnreachable, 4, 1472, 548},
		"IPv6 no route":                {unreachable, v6spec(spec{payload: bytesOf(10)}), ipv6.ICMPTypeDestinationUnreachable, 0, 0, 70},
		"IPv6 too big":                 {tooBig, v6spec(spec{payload: bytesOf(1441)}), ipv6.ICMPTypePacketTooBig, 0, 1472, 1232},
		"IPv6 too big, to a multicast": {tooBig, v6spec(spec{udp: true, dst: "ff02::1", payload: bytesOf(10)}), ipv6.ICMPTypePacketTooBig, 0, 1472, 58},
	} {
		t.Run(name, func(t *testing.T) {
			orig := c.orig.build()
			info := mustParse(t, orig)
			from, proto, tos := tunnel4, uint8(ProtoICMP), uint8(0xc0)
			if info.Version == 6 {
				from, proto, tos = tunnel6, ProtoICMPv6, 0
			}
			buf := bytes.Repeat([]byte{0xee}, MaxICMPError)
			n, ok := c.build(buf, orig, &info, from)
			if !ok {
				t.Fatal("no error was built")
			}
			p := buf[:n]
			got := mustParse(t, p)
			if got.Src != from || got.Dst != info.Src || got.Protocol != proto || got.TOS != tos {
				t.Errorf("%+v", got)
			}
			if info.Version == 4 && (slowSum(p[:20], 0) != 0xffff || slowSum(p[20:], 0) != 0xffff) ||
				info.Version == 6 && slowTransportSum(p, ProtoICMPv6, 40) != 0xffff {
				t.Error("checksum wrong")
			}
			m, err := icmp.ParseMessage(int(proto), p[got.Transport:])
			if err != nil {
				t.Fatal(err)
			}
			if m.Type != c.typ || m.Code != c.code {
				t.Errorf("type %v, code %d", m.Type, m.Code)
			}
			if rest := binary.BigEndian.Uint32(p[got.Transport+4:]); rest != c.rest {
				t.Errorf("second word %d, want %d", rest, c.rest)
			}
			if quote := p[got.Transport+8:]; !bytes.Equal(quote, orig[:c.wantQuote]) {
				t.Errorf("%d bytes quoted, want %d", len(quote), c.wantQuote)
			}
		})
	}
}

// asICMP turns a TCP packet into one of ICMP with the type given.
func asICMP(p []byte, typ uint8) []byte {
	p = slices.Clone(p)
	if p[0]>>4 == 4 {
		p[9], p[20] = ProtoICMP, typ
	} else {
		p[6], p[40] = ProtoICMPv6, typ
	}
	return p
}

func TestNoICMPError(t *testing.T) {
	v4, v6 := spec{payload: bytesOf(10)}.build(), v6spec(spec{payload: bytesOf(10)}).build()
	later := slices.Clone(v4)
	later[7] = 1
	first := slices.Clone(v4)
	first[6] = 0x20
	later6 := v6spec(spec{extFirst: 44, ext: []byte{17, 0, 0, 9, 0, 0, 0, 0}}).build()
	shortICMP := slices.Clone(v4[:20])
	shortICMP[3], shortICMP[9] = 20, ProtoICMP
	for name, c := range map[string]struct {
		orig                []byte
		unreachable, tooBig bool // are built
	}{
		"IPv4 TCP":                    {v4, true, true},
		"IPv4 echo request":           {asICMP(v4, 8), true, true},
		"IPv4 echo reply":             {asICMP(v4, 0), true, true},
		"IPv4 unreachable":            {asICMP(v4, 3), false, false},
		"IPv4 time exceeded":          {asICMP(v4, 11), false, false},
		"IPv4 redirect":               {asICMP(v4, 5), false, false},
		"IPv4 ICMP of unknown type":   {asICMP(v4, 200), false, false},
		"IPv4 ICMP without a type":    {shortICMP, false, false},
		"IPv4 first fragment":         {first, true, true},
		"IPv4 later fragment":         {later, false, false},
		"IPv4 from unspecified":       {spec{src: "0.0.0.0"}.build(), false, false},
		"IPv4 from the zero network":  {spec{src: "0.0.0.7"}.build(), false, false},
		"IPv4 from loopback":          {spec{src: "127.0.0.1"}.build(), false, false},
		"IPv4 from multicast":         {spec{src: "224.0.0.1"}.build(), false, false},
		"IPv4 from broadcast":         {spec{src: "255.255.255.255"}.build(), false, false},
		"IPv4 from class E":           {spec{src: "240.0.0.1"}.build(), false, false},
		"IPv4 to multicast":           {spec{dst: "224.0.0.1"}.build(), false, false},
		"IPv4 to broadcast":           {spec{dst: "255.255.255.255"}.build(), false, false},
		"IPv6 TCP":                    {v6, true, true},
		"IPv6 echo request":           {asICMP(v6, 128), true, true},
		"IPv6 too big":                {asICMP(v6, 2), false, false},
		"IPv6 error of unknown type":  {asICMP(v6, 100), false, false},
		"IPv6 redirect":               {asICMP(v6, 137), false, false},
		"IPv6 later fragment":         {later6, false, false},
		"IPv6 from unspecified":       {v6spec(spec{src: "::"}).build(), false, false},
		"IPv6 from loopback":          {v6spec(spec{src: "::1"}).build(), false, false},
		"IPv6 from multicast":         {v6spec(spec{src: "ff02::1"}).build(), false, false},
		"IPv6 to multicast":           {v6spec(spec{dst: "ff02::1"}).build(), false, true},
		"IPv6 behind extension, TCP":  {v6spec(spec{extFirst: 60, ext: []byte{6, 0, 1, 4, 0, 0, 0, 0}}).build(), true, true},
		"IPv6 behind extension, echo": {v6spec(spec{extFirst: 60, ext: []byte{58, 0, 1, 4, 0, 0, 0, 0}, sport: 0x8000}).build(), true, true},
		"IPv6 behind extension, err":  {v6spec(spec{extFirst: 60, ext: []byte{58, 0, 1, 4, 0, 0, 0, 0}, sport: 0x0100}).build(), false, false},
	} {
		t.Run(name, func(t *testing.T) {
			info := mustParse(t, c.orig)
			from, other := tunnel4, tunnel6
			if info.Version == 6 {
				from, other = tunnel6, tunnel4
			}
			buf := make([]byte, MaxICMPError)
			if _, ok := Unreachable(buf, c.orig, &info, from); ok != c.unreachable {
				t.Errorf("unreachable: %v", ok)
			}
			if _, ok := TooBig(buf, c.orig, &info, from, 1400); ok != c.tooBig {
				t.Errorf("too big: %v", ok)
			}
			if _, ok := Unreachable(buf, c.orig, &info, other); ok {
				t.Error("from an address of the other family")
			}
			if _, ok := TooBig(buf[:500], c.orig, &info, from, 1400); ok {
				t.Error("into a buffer too small")
			}
		})
	}
}

func FuzzICMP(f *testing.F) {
	f.Add(spec{payload: bytesOf(10)}.build(), 1400)
	f.Add(asICMP(v6spec(spec{payload: bytesOf(10)}).build(), 128), 1280)
	buf := make([]byte, MaxICMPError)
	f.Fuzz(func(t *testing.T, orig []byte, mtu int) {
		orig = withLength(orig)
		var info Info
		if len(orig) > 9000 || info.Parse(orig) != OK {
			return
		}
		from, most := tunnel4, 576
		if info.Version == 6 {
			from, most = tunnel6, 1280
		}
		check := func(n int, ok bool) {
			if !ok {
				return
			}
			if n > most {
				t.Fatalf("%d bytes", n)
			}
			p := slices.Clone(buf[:n])
			got := mustParse(t, p)
			if got.Dst != info.Src || !got.Dst.IsValid() || got.Dst.IsMulticast() || got.Dst.IsUnspecified() {
				t.Fatalf("to %v about %+v", got.Dst, info)
			}
			if info.Version == 4 && (slowSum(p[:20], 0) != 0xffff || slowSum(p[20:], 0) != 0xffff) ||
				info.Version == 6 && slowTransportSum(p, ProtoICMPv6, 40) != 0xffff {
				t.Fatal("checksum wrong")
			}
			if n, ok := Unreachable(buf, p, &got, from); ok {
				t.Fatalf("an error of %d bytes about an error", n)
			}
		}
		check(Unreachable(buf, orig, &info, from))
		check(TooBig(buf, orig, &info, from, mtu))
	})
}
