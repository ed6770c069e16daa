package assist

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel/packet"
)

// tcpDatagram is what the kernel of 192.0.2.202 sends: 10.5.2.129 to 10.5.1.129,
// TCP without options, 60 bytes of payload.
const tcpDatagram = "000000000000 0200000000ca 0800" + // Ethernet, at 0
	"4502 0080 0000 4000 40 11 b4d8 c00002ca c00002c8" + // outer IPv4, at 14
	"205d 205d 006c 0000" + // outer UDP, at 34
	"45ba 0064 1234 4000 3f 06 109b 0a050281 0a050181" + // inner IPv4, at 42
	"1388 1389 00000001 00000002 50 10 ffff 0000 0000" + // inner TCP, at 62
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b"

// What an entering program returns, besides verdicts: the packet would make the
// detour, as a trial or not.
const (
	detoured = 100
	tried    = 101
)

// ingressHost is a namespace in which the ingress program can be run, and somebody
// listens on the detour's port.
type ingressHost struct {
	*lab.Namespace
	t testing.TB
	*Assist
	port uint16
}

// newIngressHost has the program as it is.
func newIngressHost(t testing.TB) *ingressHost {
	t.Helper()
	h := &ingressHost{Namespace: labtest.Namespace(t, "host"), t: t}
	h.Assist = newAssist(t, ingressConfig, ingressOwn, ingressPeers...)
	check(t, h.AddAddr("lo", netip.PrefixFrom(ingressConfig.Local, 32)))
	check(t, h.Do(func() error {
		c, err := net.ListenUDP("udp4", net.UDPAddrFromAddrPort(netip.AddrPortFrom(ingressConfig.Local, 0)))
		if err == nil {
			t.Cleanup(func() { c.Close() })
			h.port = uint16(c.LocalAddr().(*net.UDPAddr).Port)
		}
		return err
	}))
	h.detour(h.port)
	return h
}

// newEntering has a program that changes nothing of what is to make the detour: no
// helper makes room in a superpacket of BPF_PROG_TEST_RUN.
func newEntering(t testing.TB) *ingressHost {
	t.Helper()
	h := newIngressHost(t)
	check(t, h.programs.ingress.Close())
	h.programs.ingress = loadTest(t, entering(h.cfg, h.programs.shared, asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, stackMark, asm.Word),
		asm.Mov.Imm(asm.R0, tried),
		asm.JEq.Imm32(asm.R1, int32(h.programs.trialMark()), labelAway),
		asm.Mov.Imm(asm.R0, detoured),
		asm.JEq.Imm32(asm.R1, int32(h.programs.mark), labelAway),
		asm.Mov.Imm(asm.R0, -100),
		asm.Return().WithSymbol(labelAway),
	}))
	return h
}

// detour tells the program where the detour begins, 0 for nowhere.
func (h *ingressHost) detour(port uint16) {
	store32(h.node, nodeDetourPort, uint32(wire16(port)))
}

func (h *ingressHost) verdict(frame []byte, gsoSize uint32) (v int32) {
	h.t.Helper()
	check(h.t, h.Do(func() error { v = verdict(h.t, h.programs.ingress, frame, gsoSize); return nil }))
	return v
}

// setTimes writes the time at which all flows have made the detour last.
func (h *ingressHost) setTimes(last uint64) {
	h.t.Helper()
	all := make([]uint64, flowPlaces)
	for i := range all {
		all[i] = last
	}
	check(h.t, h.programs.detours.Put(uint32(0), all))
}

// times are those of all flows that are not as setTimes has set them.
func (h *ingressHost) times(but uint64) map[uint32]uint64 {
	h.t.Helper()
	all := make([]uint64, flowPlaces)
	check(h.t, h.programs.detours.Lookup(uint32(0), all))
	others := map[uint32]uint64{}
	for i, last := range all {
		if last != but {
			others[uint32(i)] = last
		}
	}
	return others
}

var detourNames = map[int32]string{detoured: "detour", tried: "trial", tcxNext: "user space", tcxRedirect: "direct"}

func TestIngressSuperpackets(t *testing.T) {
	t.Parallel()
	h := newEntering(t)
	for _, c := range []struct {
		name    string
		changes []change
		length  int // of the inner packet, if not 0
		want    int32
	}{
		{name: "a peer's", want: detoured},
		{name: "outer CE", changes: []change{{15, "03"}}, want: detoured},
		{name: "outer ECT(1), inner ECT(0)", changes: []change{{15, "01"}}, want: detoured},
		{name: "limit 0 is for sending", changes: []change{{26, "c00002cb"}, {54, "0a050301"}}, want: detoured},
		{name: "most options", changes: []change{{74, "f0"}}, want: detoured},
		{name: "what is behind the header's length", changes: []change{{74, "5f"}}, want: detoured},
		{name: "one byte of payload", length: 41, want: detoured},
		{name: "no payload", length: 40, want: tcxNext},
		{name: "half a header", length: 39, want: tcxNext},
		{name: "one byte behind options", length: 61, changes: []change{{74, "a0"}}, want: detoured},
		{name: "nothing but options", length: 60, changes: []change{{74, "a0"}}, want: tcxNext},
		{name: "more options than bytes", length: 59, changes: []change{{74, "a0"}}, want: tcxNext},
		{name: "header too short", changes: []change{{74, "40"}}, want: tcxNext},
		{name: "UDP", changes: []change{{51, "11"}}, want: tcxNext},
		{name: "ICMP", changes: []change{{51, "01"}}, want: tcxNext},
		{name: "with a checksum", changes: []change{{40, "0001"}}, want: tcxNext},
		{name: "to another address", changes: []change{{33, "c9"}}, want: tcxNext},
		{name: "outer fragment", changes: []change{{20, "2000"}}, want: tcxNext},
		{name: "inner fragment", changes: []change{{48, "2000"}}, want: tcxNext},
		{name: "inner options", changes: []change{{42, "46"}}, want: tcxNext},
		{name: "inner length of one segment", changes: []change{{44, "0030"}}, want: tcxNext},
		{name: "UDP length of one segment", changes: []change{{38, "0030"}}, want: tcxNext},
		{name: "to no subnet", changes: []change{{58, "08080808"}}, want: tcxNext},
		{name: "source in no subnet", changes: []change{{54, "0a050901"}}, want: tcxNext},
		{name: "another peer's inner source", changes: []change{{54, "0a050301"}}, want: tcxNext},
		{name: "not from the peer's address", changes: []change{{26, "c00002cc"}}, want: tcxNext},

		{name: "trial", changes: []change{{58, "0a050100"}, {62, "205e205e"}}, want: tried},
		{name: "the probes' ports at another address", changes: []change{{62, "205e205e"}}, want: detoured},
		{name: "another source port", changes: []change{{58, "0a050100"}, {62, "205f205e"}}, want: detoured},
		{name: "another port", changes: []change{{58, "0a050100"}, {62, "205e205f"}}, want: detoured},
		{name: "to the tunnel address", changes: []change{{58, "0a050100"}}, want: detoured},
		{name: "a trial by UDP", changes: []change{{51, "11"}, {58, "0a050100"}, {62, "205e205e"}}, want: tcxNext},
	} {
		frame := unhex(t, tcpDatagram)
		if c.length > 0 {
			frame = frame[:innerIP+c.length]
			mend(frame, 7)
		}
		frame = changed(t, frame, c.changes)
		fillSum(frame, outerIP)
		if got := h.verdict(frame, 8); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, detourNames[got], detourNames[c.want])
		}
	}
	frame := unhex(t, tcpDatagram)
	if got := h.verdict(frame, 8); got != detoured {
		t.Errorf("the checksum of the test's datagram: %s", detourNames[got])
	}
	h.detour(0)
	if got := h.verdict(frame, 8); got != tcxNext {
		t.Errorf("there is no device: %s", detourNames[got])
	}
	if got := h.verdict(frame, 0); got != tcxNext {
		t.Errorf("there is no device: what follows a superpacket: %s", detourNames[got])
	}
	h.detour(h.port ^ 1)
	if got := h.verdict(frame, 8); got != tcxNext {
		t.Errorf("nobody listens: %s", detourNames[got])
	}
}

// A packet that is no superpacket makes the detour if its flow lately did, or is
// user space's if it cannot, as the flow's superpackets then are.
func TestIngressFlows(t *testing.T) {
	t.Parallel()
	h := newEntering(t)
	tcp := unhex(t, tcpDatagram)
	future := now(t) + uint64(time.Hour)
	mine := place(t, tcp[innerIP:])
	const keeps, forgets, notes = 0, 1, 2 // what becomes of the flow's time
	for _, c := range []struct {
		name    string
		frame   []byte
		gsoSize uint32
		last    uint64
		port    uint16
		want    int32
		time    int
	}{
		{"never", tcp, 0, 0, h.port, tcxRedirect, keeps},
		{"lately", tcp, 0, future, h.port, detoured, notes},
		{"some time ago", tcp, 0, now(t) - uint64(flowSilence), h.port, tcxRedirect, forgets},
		{"never, no device", tcp, 0, 0, 0, tcxRedirect, keeps},
		{"lately, but there is no device", tcp, 0, future, 0, tcxNext, notes},
		{"lately, but nobody listens", tcp, 0, future, h.port ^ 1, tcxNext, notes},
		{"some time ago, no device", tcp, 0, now(t) - uint64(flowSilence), 0, tcxRedirect, forgets},
		{"lately, UDP", unhex(t, datagram), 0, future, h.port, tcxRedirect, keeps},
		{"lately, outer CE", ce(tcp), 0, future, h.port, detoured, notes},
		{"never, outer CE", ce(tcp), 0, 0, h.port, tcxNext, keeps},
		{"some time ago, outer CE", ce(tcp), 0, now(t) - uint64(flowSilence), h.port, tcxNext, forgets},
		{"lately, without payload", short(tcp), 0, future, h.port, detoured, notes},
		{"a superpacket", tcp, 8, 0, h.port, detoured, notes},
		{"a superpacket, no device", tcp, 8, 0, 0, tcxNext, notes},
		{"a superpacket, nobody listens", tcp, 8, 0, h.port ^ 1, tcxNext, notes},
		{"a superpacket that is none", short(tcp), 8, 0, h.port, tcxNext, keeps},
		{"a superpacket that is UDP's", unhex(t, datagram), 8, 0, h.port, tcxNext, keeps},
	} {
		h.detour(c.port)
		h.setTimes(c.last)
		before := now(t)
		if got := h.verdict(c.frame, c.gsoSize); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, detourNames[got], detourNames[c.want])
		}
		got := h.times(c.last)
		at, changed := got[mine]
		var ok bool
		switch c.time {
		case keeps:
			ok = len(got) == 0
		case forgets:
			ok = len(got) == 1 && changed && at == 0
		case notes:
			ok = len(got) == 1 && at >= before && at <= now(t)
		}
		if !ok {
			t.Errorf("%s: changed times %v", c.name, got)
		}
	}
	// Just now, if this process is not kept waiting.
	h.detour(h.port)
	for {
		start := now(t)
		h.setTimes(start)
		got := h.verdict(tcp, 0)
		if got == detoured {
			break
		}
		if now(t)-start < uint64(flowSilence) {
			t.Fatalf("just after a superpacket: %s", detourNames[got])
		}
	}
}

// ce is a frame that met congestion.
func ce(frame []byte) []byte {
	frame = bytes.Clone(frame)
	frame[outerIP+ipTOS] |= 3
	fillSum(frame, outerIP)
	return frame
}

// short is the frame of an acknowledgement.
func short(frame []byte) []byte {
	frame = bytes.Clone(frame[:innerIP+ipLen+tcpLen])
	mend(frame, 15)
	return frame
}

// What makes the detour, byte for byte: as a VXLAN-GPE datagram from this host to
// itself.
func TestDetourFrame(t *testing.T) {
	t.Parallel()
	h := newIngressHost(t)
	flow := place(t, unhex(t, tcpDatagram)[innerIP:])
	for _, tos := range []byte{0x02, 0x00, 0xff} {
		h.setTimes(now(t) + uint64(time.Hour))
		frame := unhex(t, tcpDatagram)
		frame[outerIP+ipTOS] = tos
		fillSum(frame, outerIP)
		var after skb
		opts := ebpf.RunOptions{Data: frame, DataOut: make([]byte, 512), Context: skb{}, ContextOut: &after}
		before := now(t)
		check(t, h.Do(func() error {
			v, err := h.programs.ingress.Run(&opts)
			if v != tcxRedirect {
				t.Errorf("%s", detourNames[int32(v)])
			}
			return err
		}))
		want := unhex(t, "000000000000 000000000000 0800"+ // Ethernet
			"4500 0088 0000 4000 40 11 0000 c00002c8 c00002c8"+ // IPv4
			"0000 0000 0074 0000"+ // UDP
			"0c000001 00000000") // VXLAN-GPE
		want[15] = tos
		fillSum(want, outerIP)
		binary.BigEndian.PutUint16(want[34:], h.port)
		binary.BigEndian.PutUint16(want[36:], h.port)
		binary.BigEndian.PutUint32(want[46:], h.programs.vni<<8)
		want = append(want, frame[innerIP:]...)
		if !bytes.Equal(opts.DataOut, want) {
			t.Errorf("TOS %#x: \n%x, want\n%x", tos, opts.DataOut, want)
		}
		if packet.Sum(opts.DataOut[outerIP:outerUDP], 0) != 0xffff {
			t.Errorf("TOS %#x: wrong checksum", tos)
		}
		if after.Mark != h.programs.mark {
			t.Errorf("it has the mark %#x, want %#x", after.Mark, h.programs.mark)
		}
		if last := h.times(0)[flow]; last < before || last > now(t) {
			t.Errorf("its flow made the detour at %d, not now, %d", last, before)
		}
	}
	_, rx := h.Traffic(pfx("10.5.2.0/24"))
	if (rx != Count{Packets: 3, Bytes: 300}) || h.Drops() != 0 {
		t.Errorf("received %v, dropped %d", rx, h.Drops())
	}
}

// The device's program takes what has the mark, and nothing else.
func TestArrival(t *testing.T) {
	labtest.RequireRoot(t)
	a := newAssist(t, ingressConfig, ingressOwn, ingressPeers...)
	mark, trial := a.programs.mark, a.programs.trialMark()
	for _, c := range []struct{ mark, left, want uint32 }{
		{mark, 0, tcxRedirect},
		{trial, trial, tcxRedirect},
		{0, 0, tcxDrop},
		{1, 1, tcxDrop},
		{mark ^ 2, mark ^ 2, tcxDrop},
		{mark ^ 1<<31, mark ^ 1<<31, tcxDrop},
		{trial ^ 1<<31, trial ^ 1<<31, tcxDrop},
		{^uint32(0), ^uint32(0), tcxDrop},
	} {
		var after skb
		v, err := a.programs.arrival.Run(&ebpf.RunOptions{Data: unhex(t, tcpDatagram), Context: skb{Mark: c.mark}, ContextOut: &after})
		check(t, err)
		if v != c.want || after.Mark != c.left {
			t.Errorf("mark %#x: %s, then mark %#x; want %s and %#x", c.mark, verdictNames[int32(v)], after.Mark, verdictNames[int32(c.want)], c.left)
		}
	}
}
