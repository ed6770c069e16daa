package packet

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"testing"
)

// flowKey names what a packet's order counts within: addresses, protocol and
// ports. A fragment, which belongs to no flow for sure, has no key.
func flowKey(p []byte) (hosts, key string) {
	var info Info
	if r := info.Parse(p); r != OK {
		panic(r)
	}
	hosts = fmt.Sprint(info.Src, info.Dst)
	switch {
	case info.Fragment != NotFragment:
		return hosts, ""
	case hasPorts(info.Protocol) && len(p) >= info.Transport+4:
		return hosts, fmt.Sprint(hosts, info.Protocol, p[info.Transport:info.Transport+4])
	}
	return hosts, fmt.Sprint(hosts, info.Protocol)
}

// normal is the packet as a string, without what may change on the way: an IPv4
// ID that DF makes meaningless, for a run of equal IDs comes apart with IDs that
// count up; and right checksums, for 0 and 0xffff may stand for each other.
func normal(p []byte) string {
	var info Info
	info.Parse(p)
	p = slices.Clone(p)
	if info.Version == 4 && slowSum(p[:info.Transport], 0) == 0xffff {
		p[10], p[11] = 0, 0
		if info.DF {
			p[4], p[5] = 0, 0
		}
	}
	at := info.Transport + map[uint8]int{ProtoTCP: tcpChecksum, ProtoUDP: udpChecksum}[info.Protocol]
	if at > info.Transport && at+2 <= len(p) && slowTransportSum(p, info.Protocol, info.Transport) == 0xffff {
		p[at], p[at+1] = 0, 0
	}
	return string(p)
}

// perFlow sorts packets by flow. A fragment appears in each flow between its
// hosts.
func perFlow(pkts [][]byte) map[string][]string {
	flows := map[string][]string{}
	between := map[string]map[string]bool{} // flows by hosts
	for _, p := range pkts {
		hosts, key := flowKey(p)
		if between[hosts] == nil {
			between[hosts] = map[string]bool{}
		}
		if key != "" {
			between[hosts][key] = true
		}
	}
	for _, p := range pkts {
		hosts, key := flowKey(p)
		if key != "" {
			flows[key] = append(flows[key], normal(p))
			continue
		}
		for k := range between[hosts] {
			flows[k] = append(flows[k], normal(p))
		}
	}
	return flows
}

// checkRoundTrip coalesces packets, cuts what came out up again, and fails
// unless each flow's packets are the same, in the same order.
func checkRoundTrip(t testing.TB, c *Coalescer, pkts [][]byte) (runs int) {
	t.Helper()
	c.Reset()
	addQuickly(t, c, pkts...)
	quickly := takeAll(t, c)
	c.Reset()
	addAll(t, c, pkts...)
	seg := NewSegmenter(64)
	var out [][]byte
	all := takeAll(t, c)
	if !reflect.DeepEqual(quickly, all) {
		t.Fatalf("Continue makes other runs than Add: %d, %d", len(quickly), len(all))
	}
	for _, r := range all {
		runs++
		if r.packets == 1 {
			out = append(out, r.pkt)
			continue
		}
		again := cut(t, seg, r.vnet, r.pkt)
		if len(again) != r.packets {
			t.Fatalf("a run of %d packets comes apart into %d", r.packets, len(again))
		}
		for _, p := range again {
			checkPacket(t, p)
		}
		out = append(out, again...)
	}
	if len(out) != len(pkts) {
		t.Fatalf("%d packets out of %d", len(out), len(pkts))
	}
	got := perFlow(out)
	for key, want := range perFlow(pkts) {
		if !slices.Equal(got[key], want) {
			t.Fatalf("flow %q: packets or their order changed (%d, want %d)", key, len(got[key]), len(want))
		}
	}
	return runs
}

// script makes packets of a few flows out of bytes, three bytes a packet, the
// more interesting ones included: gaps, repetitions, flags, wrong checksums,
// fragments.
func script(steps []byte) [][]byte {
	bases := []spec{
		{df: true}, {sport: 7, tcpOptions: timestamps}, {udp: true}, {udp: true, df: true, sport: 9},
		{src: "fd00::1", dst: "fd00::2"}, {src: "fd00::1", dst: "fd00::2", udp: true}, {src: "10.1.0.3"}, {udp: true, src: "10.1.0.3"},
	}
	var out [][]byte
	for ; len(steps) >= 3 && len(out) < 512; steps = steps[3:] {
		b := &bases[steps[0]&7]
		s := *b
		s.payload = bytesOf([]int{100, 100, 100, 100, 100, 60, 1, 0}[steps[0]>>3&7])
		corrupt, fragment := false, false
		switch steps[1] & 31 {
		case 1:
			s.flags = tcpACK | tcpPSH
		case 2:
			s.flags = tcpACK | tcpFIN
		case 3:
			s.flags = tcpACK | tcpCWR
		case 4:
			s.flags = steps[2]
		case 5:
			s.tos = steps[2]
		case 6:
			s.ttl = steps[2]
		case 7:
			s.id = b.id - 1
		case 8:
			b.id += 7
		case 9:
			s.seq += uint32(steps[2])
		case 10:
			b.seq = s.seq - 100
		case 11:
			corrupt = true
		case 12:
			fragment = true
		case 13:
			s.noChecksum = true
		case 14:
			s.window = uint16(steps[2])
		case 15:
			s.ack = uint32(steps[2])
		case 16:
			s.urgent = uint16(steps[2])
		case 17:
			s.payload = bytesOf(int(steps[2]))
		case 18:
			s.ipOptions = []byte{1, 1, 1, 0}
		case 19:
			s.flowLabel = uint32(steps[2])
		}
		p := s.build()
		if corrupt {
			p[(int(steps[2])|8)%len(p)] ^= 1 << (steps[1] >> 5)
		}
		if fragment && p[0]>>4 == 4 {
			binary.BigEndian.PutUint16(p[6:], ipv4MF|uint16(steps[2]))
			putIPv4Checksum(p[:int(p[0]&15)*4])
		}
		if new(Info).Parse(p) != OK {
			continue // a corrupted length
		}
		out = append(out, p)
		b.seq += uint32(len(s.payload))
		if !b.udp || !b.df {
			b.id++
		}
	}
	return out
}

func TestRoundTrip(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	c := coalescer()
	packets, runs := 0, 0
	for range 400 {
		steps := make([]byte, 3*(1+rnd.IntN(300)))
		for i := range steps {
			steps[i] = byte(rnd.Uint32())
		}
		if rnd.IntN(2) == 0 { // mostly good packets, of fewer flows
			for i := 0; i < len(steps); i += 3 {
				steps[i] &= 0x23
				if rnd.IntN(16) != 0 {
					steps[i+1] = 0
				}
			}
		}
		pkts := script(steps)
		packets += len(pkts)
		runs += checkRoundTrip(t, c, pkts)
	}
	if packets < 2*runs {
		t.Errorf("%d packets made %d runs: hardly anything was joined", packets, runs)
	}
}

// Superpackets of every kind go through both directions, with losses,
// repetitions and swaps in between.
func TestRoundTripOfSuperpackets(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for name, s := range superpackets {
		t.Run(name, func(t *testing.T) {
			h, pkt := super(s.spec.build(), s.mss, or(s.spec.flags, tcpACK)&tcpCWR != 0)
			pkts := cut(t, NewSegmenter(128), h, pkt)
			checkRoundTrip(t, coalescer(), pkts)
			for range 20 {
				i, j := rnd.IntN(len(pkts)), rnd.IntN(len(pkts))
				changed := slices.Delete(slices.Clone(pkts), i, i+1)
				checkRoundTrip(t, coalescer(), changed)
				changed = slices.Insert(slices.Clone(pkts), i, pkts[j])
				checkRoundTrip(t, coalescer(), changed)
				changed = slices.Clone(pkts)
				changed[i], changed[j] = changed[j], changed[i]
				checkRoundTrip(t, coalescer(), changed)
			}
		})
	}
}

func FuzzCoalesce(f *testing.F) {
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 1, 0, 2, 0, 0, 2, 0, 0})
	f.Add([]byte{4, 0, 0, 4, 0, 0, 4, 11, 3, 4, 0, 0, 0, 12, 0, 0, 0, 0})
	c := coalescer() // making one costs more than a round trip
	f.Fuzz(func(t *testing.T, steps []byte) {
		checkRoundTrip(t, c, script(steps))
	})
}

// FuzzCoalesceRaw adds arbitrary packets: two of them, in turn.
func FuzzCoalesceRaw(f *testing.F) {
	pkts := flow(spec{}, 2)
	f.Add(pkts[0], pkts[1])
	pkts = flow(spec{udp: true, src: "fd00::1", dst: "fd00::2"}, 2)
	f.Add(pkts[0], pkts[1])
	c := coalescer()
	f.Fuzz(func(t *testing.T, a, b []byte) {
		a, b = withLength(a), withLength(b)
		var info Info
		if info.Parse(a) != OK || info.Parse(b) != OK {
			return
		}
		checkRoundTrip(t, c, [][]byte{a, b, a, a, b, b})
	})
}
