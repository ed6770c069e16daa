package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// join3 adds packets A, B, C of one flow, B changed, and returns the number of
// packets of each run.
func join3(t *testing.T, base spec, changeB func(*spec)) []int {
	t.Helper()
	c := coalescer()
	for i := range 3 {
		s := base
		s.payload = bytesOf(100)
		s.seq, s.id = uint32(i*100), uint16(i)
		if i == 1 {
			changeB(&s)
		}
		addAll(t, c, s.build())
	}
	return sizes(takeAll(t, c))
}

func TestJoining(t *testing.T) {
	tcp, udp := spec{df: true}, spec{udp: true}
	tcp6 := spec{src: "fd00::1", dst: "fd00::2"}
	apart := []int{1, 1, 1}
	for name, c := range map[string]struct {
		base    spec
		changeB func(b *spec)
		want    []int
	}{
		"TCP as it should be":    {tcp, func(b *spec) {}, []int{3}},
		"PSH ends a run":         {tcp, func(b *spec) { b.flags = tcpACK | tcpPSH }, []int{2, 1}},
		"FIN ends a run":         {tcp, func(b *spec) { b.flags = tcpACK | tcpFIN }, []int{2, 1}},
		"SYN":                    {tcp, func(b *spec) { b.flags = tcpACK | tcpSYN }, apart},
		"RST":                    {tcp, func(b *spec) { b.flags = tcpACK | tcpRST }, apart},
		"URG":                    {tcp, func(b *spec) { b.flags = tcpACK | tcpURG }, apart},
		"CWR":                    {tcp, func(b *spec) { b.flags = tcpACK | tcpCWR }, apart},
		"ECE":                    {tcp, func(b *spec) { b.flags = tcpACK | 0x40 }, apart},
		"sequence gap":           {tcp, func(b *spec) { b.seq++ }, apart},
		"sequence again":         {tcp, func(b *spec) { b.seq -= 100 }, apart},
		"acknowledgement":        {tcp, func(b *spec) { b.ack++ }, apart},
		"window":                 {tcp, func(b *spec) { b.window = 777 }, apart},
		"urgent pointer":         {tcp, func(b *spec) { b.urgent = 1 }, apart},
		"TCP options, length":    {tcp, func(b *spec) { b.tcpOptions = []byte{1, 1, 1, 1} }, apart},
		"shorter ends a run":     {tcp, func(b *spec) { b.payload = b.payload[:99] }, []int{2, 1}},
		"longer":                 {tcp, func(b *spec) { b.payload = bytesOf(101) }, apart},
		"no payload":             {tcp, func(b *spec) { b.payload = nil }, apart},
		"TOS":                    {tcp, func(b *spec) { b.tos = 0x10 }, apart},
		"ECN":                    {tcp, func(b *spec) { b.tos = CE }, apart},
		"TTL":                    {tcp, func(b *spec) { b.ttl = 63 }, apart},
		"DF":                     {tcp, func(b *spec) { b.df = false }, apart},
		"ID":                     {tcp, func(b *spec) { b.id += 3 }, apart},
		"IP options":             {tcp, func(b *spec) { b.ipOptions = []byte{1, 1, 1, 0} }, apart},
		"another port":           {tcp, func(b *spec) { b.dport = 1 }, apart},
		"another source":         {tcp, func(b *spec) { b.src = "10.1.0.9" }, apart},
		"TCP6 as it should be":   {tcp6, func(b *spec) {}, []int{3}},
		"traffic class":          {tcp6, func(b *spec) { b.tos = 1 }, apart},
		"flow label":             {tcp6, func(b *spec) { b.flowLabel = 1 }, apart},
		"hop limit":              {tcp6, func(b *spec) { b.ttl = 1 }, apart},
		"IPv6 extension header":  {tcp6, func(b *spec) { b.ext, b.extFirst = []byte{6, 0, 1, 4, 0, 0, 0, 0}, 60 }, apart},
		"UDP as it should be":    {udp, func(b *spec) {}, []int{3}},
		"UDP shorter":            {udp, func(b *spec) { b.payload = b.payload[:99] }, []int{2, 1}},
		"UDP longer begins anew": {udp, func(b *spec) { b.payload = bytesOf(101) }, []int{1, 2}},
		"UDP without checksum":   {udp, func(b *spec) { b.noChecksum = true }, apart},
		"UDP empty":              {udp, func(b *spec) { b.payload = nil }, apart},
		"UDP ID":                 {udp, func(b *spec) { b.id = 9 }, apart},
		"TCP among UDP":          {udp, func(b *spec) { b.udp = false }, apart},
	} {
		t.Run(name, func(t *testing.T) {
			if got := join3(t, c.base, c.changeB); !slices.Equal(got, c.want) {
				t.Errorf("runs of %v packets, want %v", got, c.want)
			}
		})
	}
}

func TestJoiningTimestampsDiffer(t *testing.T) {
	got := join3(t, spec{tcpOptions: timestamps}, func(b *spec) {
		b.tcpOptions = slices.Clone(timestamps)
		b.tcpOptions[7]++
	})
	if !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("runs of %v packets", got)
	}
}

// A run of one that ends at once: nothing follows PSH, FIN or what the kernel
// does not join.
func TestNothingJoinsAfter(t *testing.T) {
	for _, flags := range []uint8{tcpPSH, tcpFIN, tcpSYN, tcpRST, tcpURG, tcpCWR} {
		first := spec{flags: tcpACK | flags, payload: bytesOf(100)}.build()
		for _, secondFlags := range []uint8{0, flags} {
			second := spec{seq: 100, id: 1, flags: tcpACK | secondFlags, payload: bytesOf(100)}.build()
			c := coalescer()
			addAll(t, c, first, second)
			if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{1, 1}) {
				t.Errorf("flags %#02x, then %#02x: runs of %v packets", flags, secondFlags, got)
			}
		}
	}
}

func TestIdentification(t *testing.T) {
	for _, c := range []struct {
		df   bool
		ids  []uint16
		want []int
	}{
		{true, []uint16{5, 6, 7}, []int{3}},
		{false, []uint16{5, 6, 7}, []int{3}},
		{true, []uint16{65535, 0, 1}, []int{3}},
		{true, []uint16{0, 0, 0}, []int{3}}, // an unconnected UDP socket of Linux
		{false, []uint16{0, 0, 0}, []int{1, 1, 1}},
		{true, []uint16{5, 5, 6}, []int{2, 1}},
		{true, []uint16{5, 6, 6}, []int{2, 1}},
		{true, []uint16{5, 6, 5}, []int{2, 1}},
		{true, []uint16{5, 7, 9}, []int{1, 1, 1}},
		{true, []uint16{5, 4, 3}, []int{1, 1, 1}},
	} {
		co := coalescer()
		for _, id := range c.ids {
			addAll(t, co, spec{udp: true, df: c.df, id: id, payload: bytesOf(10)}.build())
		}
		if got := sizes(takeAll(t, co)); !slices.Equal(got, c.want) {
			t.Errorf("DF %v, IDs %v: runs of %v packets, want %v", c.df, c.ids, got, c.want)
		}
	}
}

// A wrong checksum is never made right: the packet goes through as it is.
func TestWrongChecksumsStayAlone(t *testing.T) {
	for name, base := range map[string]spec{
		"TCP4": {}, "UDP4": {udp: true},
		"TCP6": {src: "fd00::1", dst: "fd00::2"}, "UDP6": {src: "fd00::1", dst: "fd00::2", udp: true},
	} {
		for _, which := range []int{0, 1, 2} {
			pkts := flow(base, 3)
			last := len(pkts[which]) - 1
			pkts[which][last] ^= 0x10
			bad := slices.Clone(pkts[which])
			c := coalescer()
			addAll(t, c, pkts...)
			runs := takeAll(t, c)
			want := [][]int{{1, 2}, {1, 1, 1}, {2, 1}}[which]
			if !slices.Equal(sizes(runs), want) {
				t.Fatalf("%s, packet %d: runs of %v packets, want %v", name, which, sizes(runs), want)
			}
			if at := min(which, len(runs)-1); !bytes.Equal(runs[at].pkt, bad) {
				t.Errorf("%s: packet %d was changed", name, which)
			}
		}
	}
	pkts := flow(spec{}, 3)
	pkts[1][10] ^= 1
	c := coalescer()
	addAll(t, c, pkts...)
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("IPv4 header checksum: runs of %v packets", got)
	}
}

// A checksum of 0 means none, also where 0 would be right: cut out of a
// superpacket, the datagram would come with 0xffff.
func TestUDPWithoutChecksumStaysAlone(t *testing.T) {
	s := spec{udp: true, df: true, payload: make([]byte, 100)}
	copy(s.payload, s.build()[26:28]) // the checksum of the rest
	p := s.build()
	if binary.BigEndian.Uint16(p[26:]) != 0xffff {
		t.Fatalf("checksum % x", p[26:28])
	}
	p[26], p[27] = 0, 0
	c := coalescer()
	addAll(t, c, p, p, p)
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("runs of %v packets", got)
	}
}

// A fragment keeps its place among the packets between the same hosts, and
// does not disturb others.
func TestFragmentsKeepTheirPlace(t *testing.T) {
	for _, field := range []uint16{ipv4MF, ipv4MF | 5, 5} {
		pkts, other := flow(spec{udp: true}, 3), flow(spec{udp: true, src: "10.1.0.3"}, 2)
		fragment := spec{udp: true, payload: bytesOf(40)}.build()
		binary.BigEndian.PutUint16(fragment[6:], field)
		putIPv4Checksum(fragment[:20])
		c := coalescer()
		addAll(t, c, other[0], pkts[0], pkts[1], fragment, pkts[2], other[1])
		if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{2, 2, 1, 1}) {
			t.Errorf("fragment %#04x: runs of %v packets", field, got)
		}
	}
	fragment6 := func() []byte {
		p := spec{src: "fd00::1", dst: "fd00::2", udp: true, extFirst: 44, ext: []byte{17, 0, 0, 1, 0, 0, 0, 1}, payload: bytesOf(40)}
		return p.build()
	}()
	pkts := flow(spec{src: "fd00::1", dst: "fd00::2", udp: true}, 2)
	c := coalescer()
	addAll(t, c, pkts[0], fragment6, pkts[1])
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("IPv6 fragment: runs of %v packets", got)
	}
}

// TCP and UDP cut short, UDP whose length is not the packet's, and the like go
// through, though their checksums are right.
func TestOddHeaders(t *testing.T) {
	for name, c := range map[string]struct {
		base   spec
		change func(p []byte) []byte
	}{
		"UDP cut short":        {spec{udp: true}, func(p []byte) []byte { return p[:27] }},
		"UDP length too small": {spec{udp: true}, func(p []byte) []byte { p[25]--; return p }},
		"TCP cut short":        {spec{}, func(p []byte) []byte { return p[:39] }},
		"TCP header too small": {spec{}, func(p []byte) []byte { p[32] = 4 << 4; return p }},
		"TCP header too long":  {spec{}, func(p []byte) []byte { p[32] = 15 << 4; return p[:79] }},
		"reserved IPv4 flag":   {spec{}, func(p []byte) []byte { p[6] = 0x80; return p }},
	} {
		co := coalescer()
		for _, p := range flow(c.base, 2) {
			p = c.change(p)
			resum(p)
			addAll(t, co, p)
		}
		if got := sizes(takeAll(t, co)); !slices.Equal(got, []int{1, 1}) {
			t.Errorf("%s: runs of %v packets", name, got)
		}
	}
}
