package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"
)

// addAll adds packets and fails if one is refused.
func addAll(t testing.TB, c *Coalescer, pkts ...[]byte) {
	t.Helper()
	for i, p := range pkts {
		info := mustParse(t, p)
		if !c.Add(p, &info) {
			t.Fatalf("packet %d refused", i)
		}
	}
}

// addQuickly adds packets as the receiver does, and returns how many of them
// Continue took.
func addQuickly(t testing.TB, c *Coalescer, pkts ...[]byte) (continued int) {
	t.Helper()
	for _, p := range pkts {
		if c.Continue(p) {
			continued++
			continue
		}
		addAll(t, c, p)
	}
	return continued
}

// taken is a run as written to the TUN.
type taken struct {
	vnet    VnetHdr
	pkt     []byte
	packets int
}

// takeAll takes all runs out and checks what holds for every one.
func takeAll(t testing.TB, c *Coalescer) []taken {
	t.Helper()
	var out []taken
	var r Run
	for c.Next(&r) {
		whole := slices.Concat(r.Pieces...)
		var x taken
		if !x.vnet.Decode(whole) {
			t.Fatalf("%d bytes", len(whole))
		}
		x.pkt, x.packets = whole[VnetHdrLen:], r.Packets
		originals := c.AppendPackets(nil)
		if len(originals) != r.Packets || len(slices.Concat(originals...)) != r.Bytes {
			t.Fatalf("%d packets, %d bytes; AppendPackets gives %d", r.Packets, r.Bytes, len(originals))
		}
		if r.Packets == 1 && (x.vnet != VnetHdr{} || !bytes.Equal(x.pkt, originals[0])) {
			t.Fatalf("a single packet was changed: %+v", x.vnet)
		}
		out = append(out, x)
	}
	if c.Next(&r) {
		t.Fatal("a run after the last")
	}
	return out
}

func coalescer() *Coalescer {
	c := NewCoalescer(4096)
	c.Enable(true, true)
	return c
}

// What is joined has the headers of the superpacket that the kernel would have
// given out, and comes apart into the same packets.
func TestCoalesceMakesTheSuperpacketAgain(t *testing.T) {
	for name, s := range superpackets {
		if s.spec.ext != nil || s.spec.ipOptions != nil || or(s.spec.flags, tcpACK)&(tcpCWR|tcpURG) != 0 || len(s.spec.payload) > s.mss*maxRunUDP {
			continue // see TestCoalesceLeavesAlone and TestRunLimits
		}
		t.Run(name, func(t *testing.T) {
			wantHdr, want := super(s.spec.build(), s.mss, false)
			wantHdr.HdrLen = uint16(len(want) - len(s.spec.payload))
			c := coalescer()
			addAll(t, c, slowSegments(s.spec, s.mss)...)
			runs := takeAll(t, c)
			if len(runs) != 1 {
				t.Fatalf("%d runs", len(runs))
			}
			if runs[0].vnet != wantHdr {
				t.Errorf("vnet header %+v, want %+v", runs[0].vnet, wantHdr)
			}
			comparePackets(t, [][]byte{runs[0].pkt}, [][]byte{want})
		})
	}
}

func TestCoalesceDoesNotCopyOrChange(t *testing.T) {
	pkts := slowSegments(spec{flags: tcpACK | tcpPSH, payload: bytesOf(4000)}, 1400)
	before := slices.Clone(slices.Concat(pkts...))
	c := coalescer()
	addAll(t, c, pkts...)
	var r Run
	if !c.Next(&r) || len(r.Pieces) != 4 {
		t.Fatalf("%d pieces", len(r.Pieces))
	}
	for i, p := range r.Pieces[1:] {
		if &p[0] != &pkts[i][40] {
			t.Errorf("payload %d was copied", i)
		}
	}
	if !bytes.Equal(slices.Concat(pkts...), before) {
		t.Error("the packets were changed")
	}
}

// flow returns n packets of 100 bytes payload that would all join.
func flow(s spec, n int) [][]byte {
	s.payload = bytesOf(100 * n)
	return slowSegments(s, 100)
}

func sizes(runs []taken) []int {
	var out []int
	for _, r := range runs {
		out = append(out, r.packets)
	}
	return out
}

func TestCoalesceSeveralFlowsInterleaved(t *testing.T) {
	flows := [][][]byte{
		flow(spec{sport: 1}, 5),
		flow(spec{sport: 2, tcpOptions: timestamps}, 5),
		flow(spec{sport: 1, udp: true}, 5),
		flow(spec{sport: 1, src: "fd00::1", dst: "fd00::2"}, 5),
		flow(spec{sport: 1, src: "fd00::1", dst: "fd00::2", udp: true}, 5),
		flow(spec{sport: 1, src: "10.1.0.3"}, 5),
	}
	c := coalescer()
	for i := range 5 {
		for _, f := range flows {
			addAll(t, c, f[i])
		}
	}
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{5, 5, 5, 5, 5, 5}) {
		t.Errorf("runs of %v packets", got)
	}
}

// More flows than can be open at a time cost joins, not order.
func TestCoalesceManyFlows(t *testing.T) {
	c := coalescer()
	for i := range 3 {
		for port := range uint16(maxOpen + 1) {
			addAll(t, c, flow(spec{udp: true, sport: 1000 + port}, 3)[i])
		}
	}
	ids := map[uint16]int{}
	for _, r := range takeAll(t, c) {
		port := binary.BigEndian.Uint16(r.pkt[20:])
		if got := int(binary.BigEndian.Uint16(r.pkt[4:])); got != ids[port] {
			t.Errorf("port %d: packet %d where %d should be", port, got, ids[port])
		}
		ids[port] += r.packets
	}
	for port, n := range ids {
		if n != 3 {
			t.Errorf("port %d: %d packets", port, n)
		}
	}
}

// A run may be opened by one receive and go on with the next.
func TestCoalesceAcrossReceives(t *testing.T) {
	pkts := flow(spec{}, 6)
	c := coalescer()
	addAll(t, c, pkts[:2]...)
	addAll(t, c, pkts[2:]...)
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{6}) {
		t.Errorf("runs of %v packets", got)
	}
	c.Reset()
	if got := takeAll(t, c); len(got) != 0 {
		t.Errorf("%d runs after Reset", len(got))
	}
	addAll(t, c, pkts[:1]...)
	c.Reset()
	addAll(t, c, pkts[1:3]...)
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{2}) {
		t.Errorf("runs of %v packets after Reset", got)
	}
}

func TestCoalescerFull(t *testing.T) {
	pkts := flow(spec{}, 4)
	c := NewCoalescer(3)
	c.Enable(true, true)
	addAll(t, c, pkts[:3]...)
	info := mustParse(t, pkts[3])
	if c.Add(pkts[3], &info) {
		t.Error("a fourth packet was taken")
	}
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{3}) {
		t.Errorf("runs of %v packets", got)
	}
}

func TestEnable(t *testing.T) {
	for _, c := range []struct {
		tcp, udp bool
		want     []int
	}{
		{false, false, []int{1, 1, 1, 1}}, {true, false, []int{2, 1, 1}}, {false, true, []int{1, 1, 2}}, {true, true, []int{2, 2}},
	} {
		co := NewCoalescer(4)
		co.Enable(c.tcp, c.udp)
		addAll(t, co, flow(spec{}, 2)...)
		addAll(t, co, flow(spec{udp: true}, 2)...)
		if got := sizes(takeAll(t, co)); !slices.Equal(got, c.want) {
			t.Errorf("tcp %v, udp %v: runs of %v packets, want %v", c.tcp, c.udp, got, c.want)
		}
	}
	// Switched off and on again in between: no packet may overtake.
	c, pkts := coalescer(), flow(spec{udp: true, df: true}, 1)
	addAll(t, c, pkts[0])
	c.Enable(true, false)
	addAll(t, c, pkts[0])
	c.Enable(true, true)
	addAll(t, c, pkts[0])
	if got := sizes(takeAll(t, c)); !slices.Equal(got, []int{1, 1, 1}) {
		t.Errorf("runs of %v packets", got)
	}
}

func TestRunLimits(t *testing.T) {
	tcp4 := func(payload, n int) [][]byte { return slowSegments(spec{payload: bytesOf(payload * n)}, payload) }
	tcp6 := func(payload, n int) [][]byte {
		return slowSegments(spec{src: "fd00::1", dst: "fd00::2", payload: bytesOf(payload * n)}, payload)
	}
	for name, c := range map[string]struct {
		pkts [][]byte
		want []int
	}{
		"TCP packets": {tcp4(10, maxRunTCP+2), []int{maxRunTCP, 2}},
		"UDP packets": {flow(spec{udp: true}, maxRunUDP+2), []int{maxRunUDP, 2}},
		// 45 * 1,455 + 20 bytes of payload and 40 of headers are 65,535.
		"IPv4, 65,535 bytes": {append(tcp4(1455, 45), spec{seq: 65475, id: 45, payload: bytesOf(20)}.build()), []int{46}},
		"IPv4, 65,536 bytes": {append(tcp4(1455, 45), spec{seq: 65475, id: 45, payload: bytesOf(21)}.build()), []int{45, 1}},
		// 15 * 4,365 bytes of payload and 60 of headers are 65,535.
		"IPv6, 65,535 bytes": {tcp6(4365, 15), []int{15}},
		"IPv6, 65,536 bytes": {append(tcp6(4365, 14), spec{src: "fd00::1", dst: "fd00::2", seq: 14 * 4365, payload: bytesOf(4366)}.build()), []int{14, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			co := coalescer()
			addAll(t, co, c.pkts...)
			if got := sizes(takeAll(t, co)); !slices.Equal(got, c.want) {
				t.Errorf("runs of %v packets, want %v", got, c.want)
			}
		})
	}
}
