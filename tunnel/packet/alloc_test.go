package packet

import (
	"slices"
	"testing"
)

// Nothing on the packet path allocates.
func TestNoAllocations(t *testing.T) {
	h, pkt := super(spec{tcpOptions: timestamps, payload: bytesOf(62000)}.build(), 1400, false)
	uh, upkt := super(spec{udp: true, payload: bytesOf(50000)}.build(), 1000, false)
	tcp4 := slowSegments(spec{tcpOptions: timestamps, payload: bytesOf(62000)}, 1400)
	udp6 := slowSegments(spec{src: "fd00::1", dst: "fd00::2", udp: true, payload: bytesOf(50000)}, 1000)
	mixed := slices.Concat(tcp4, udp6, [][]byte{spec{}.build()})

	plain := spec{payload: bytesOf(1400)}.build()
	ph, _ := super(plain, 0, false)
	ph.GSOType = GSONone

	s, c := NewSegmenter(128), NewCoalescer(256)
	c.Enable(true, true)
	var info Info
	var segs Segments
	var run Run
	var vnet VnetHdr
	icmp := make([]byte, MaxICMPError)
	singly := make([][]byte, 0, 256)
	for name, f := range map[string]func(){
		"parse":   func() { info.Parse(pkt) },
		"hash":    func() { FlowHash(pkt, &info) },
		"set TOS": func() { info.Parse(plain); SetTOS(plain, ECNEncap(info.TOS)); ECNDecap(3, info.TOS) },
		"segment": func() {
			for _, x := range []struct {
				h   VnetHdr
				pkt []byte
			}{{h, pkt}, {uh, upkt}, {ph, plain}} {
				info.Parse(x.pkt)
				if s.Load(x.h, x.pkt, &info) != OK {
					t.Error("refused")
				}
				for s.Next(&segs) {
					segs.Slice(0, segs.Count)
				}
			}
		},
		"coalesce": func() {
			c.Reset()
			for _, p := range mixed {
				if c.Continue(p) {
					continue
				}
				info.Parse(p)
				c.Add(p, &info)
			}
			for c.Next(&run) {
				vnet.Decode(run.Pieces[0])
				singly = c.AppendPackets(singly[:0])
			}
		},
		"coalesce, full of single packets": func() {
			c.Reset()
			info.Parse(plain)
			for c.Add(plain, &info) {
			}
			for c.Next(&run) {
			}
		},
		"ICMP error": func() { info.Parse(pkt); Unreachable(icmp, pkt, &info, tunnel4) },
	} {
		if n := testing.AllocsPerRun(100, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// Full of runs of two, the Coalescer needs the most scratch memory.
func TestCoalescerScratchIsEnough(t *testing.T) {
	c := NewCoalescer(255)
	c.Enable(true, true)
	options := slices.Concat(timestamps, timestamps, timestamps, []byte{1, 1, 1, 1}) // 40 bytes
	for i := range 255 {
		s := spec{src: "fd00::1", dst: "fd00::2", tcpOptions: options, payload: bytesOf(10)}
		s.sport = uint16(1 + i/2)
		s.seq = uint32(i % 2 * 10)
		addAll(t, c, s.build())
	}
	runs := takeAll(t, c)
	if len(runs) != 128 || cap(c.pieces) != 510 {
		t.Errorf("%d runs; pieces grew to %d", len(runs), cap(c.pieces))
	}
	for _, r := range runs {
		for _, p := range cut(t, NewSegmenter(2), r.vnet, r.pkt) {
			checkPacket(t, p)
		}
	}
}
