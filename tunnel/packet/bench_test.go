package packet

import (
	"slices"
	"testing"
)

var shapes = []struct {
	name string
	spec spec
}{
	{"TCP4", spec{tcpOptions: timestamps, df: true}},
	{"TCP6", spec{src: "fd00::1", dst: "fd00::2", tcpOptions: timestamps}},
	{"UDP4", spec{udp: true, df: true}},
}

func BenchmarkParse(b *testing.B) {
	for _, s := range shapes {
		s.spec.payload = bytesOf(1400)
		p := s.spec.build()
		b.Run(s.name, func(b *testing.B) {
			b.ReportAllocs()
			var info Info
			for b.Loop() {
				info.Parse(p)
			}
		})
	}
}

func BenchmarkFlowHash(b *testing.B) {
	p := spec{payload: bytesOf(1400)}.build()
	info := mustParse(b, p)
	b.ReportAllocs()
	for b.Loop() {
		FlowHash(p, &info)
	}
}

// BenchmarkSegment cuts a superpacket of 45 times 1,400 bytes.
func BenchmarkSegment(b *testing.B) {
	for _, shape := range shapes {
		shape.spec.payload = bytesOf(45 * 1400)
		h, pkt := super(shape.spec.build(), 1400, false)
		b.Run(shape.name, func(b *testing.B) {
			s := NewSegmenter(128)
			var info Info
			var segs Segments
			b.SetBytes(int64(len(pkt)))
			b.ReportAllocs()
			for b.Loop() {
				info.Parse(pkt)
				s.Load(h, pkt, &info)
				for s.Next(&segs) {
				}
			}
		})
	}
}

// interleave takes packets of the flows in turn.
func interleave(flows ...[][]byte) [][]byte {
	var out [][]byte
	for i := range flows[0] {
		for _, f := range flows {
			out = append(out, f[i])
		}
	}
	return out
}

func BenchmarkCoalesce(b *testing.B) {
	bulk := func(s spec, n int) [][]byte { s.payload = bytesOf(n * 1400); return slowSegments(s, 1400) }
	var acks [][]byte
	for i := range 45 {
		acks = append(acks, spec{tcpOptions: timestamps, df: true, id: uint16(i), ack: uint32(i * 2800)}.build())
	}
	var small [][]byte
	for i := range 64 {
		small = append(small, spec{udp: true, df: true, id: uint16(i), payload: bytesOf(64)}.build())
	}
	cases := []struct {
		name string
		pkts [][]byte
	}{
		{"45x1400/TCP4", bulk(shapes[0].spec, 45)},
		{"45x1400/TCP6", bulk(shapes[1].spec, 45)},
		{"45x1400/UDP4", bulk(shapes[2].spec, 45)},
		{"4_flows_interleaved", nil},
		{"ACKs", acks},
		{"64x64/UDP4", small},
	}
	var flows [][][]byte
	for i := range 4 {
		flows = append(flows, bulk(spec{tcpOptions: timestamps, df: true, sport: uint16(1000 + i)}, 45))
	}
	cases[3].pkts = interleave(flows...)
	for _, bench := range cases {
		b.Run(bench.name, func(b *testing.B) {
			c := NewCoalescer(1024)
			c.Enable(true, true)
			var info Info
			var run Run
			b.SetBytes(int64(len(slices.Concat(bench.pkts...))))
			b.ReportAllocs()
			for b.Loop() {
				c.Reset()
				for _, p := range bench.pkts {
					if c.Continue(p) {
						continue
					}
					info.Parse(p)
					c.Add(p, &info)
				}
				for c.Next(&run) {
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(bench.pkts)), "ns/packet")
		})
	}
}
