package assist

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// BPF_PROG_TEST_RUN makes superpackets, but none of TCP: no helper makes room in
// them. So these tests run the programs up to where they begin to change packets.

// tcpPacket leaves by the TUN: 8.0.1.129 to 10.5.2.129, TCP without options, 60
// bytes of payload, of which some may become options.
const tcpPacket = "45ba 0064 1234 4000 3f 06 1698 08000181 0a050281" +
	"1388 1389 00000001 00000002 50 10 ffff 0000 0000" +
	"000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f202122232425262728292a2b2c2d2e2f303132333435363738393a3b"

// carried is what a program returns that would carry a packet.
const carried = 100

// loadTest has the kernel take a program.
func loadTest(t testing.TB, code asm.Instructions) *ebpf.Program {
	t.Helper()
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: code})
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

// newLeaving makes an egressHost whose program changes nothing, and returns carried
// instead.
func newLeaving(t testing.TB) *egressHost {
	t.Helper()
	h := newEgressHost(t)
	h.replace(leaving(h.cfg, h.programs.shared, carry()))
	return h
}

func carry() asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R0, carried), asm.Return()}
}

// replace has the host run another program on the way out.
func (h *egressHost) replace(code asm.Instructions) {
	h.t.Helper()
	check(h.t, h.programs.egress.Close())
	h.programs.egress = loadTest(h.t, code)
}

func TestEgressSuperpackets(t *testing.T) {
	t.Parallel()
	h := newLeaving(t)
	h.SetSuperpackets(pfx("10.5.2.0/24"), true)
	h.SetSuperpackets(pfx("10.5.3.0/24"), true)
	mark, trial := h.programs.mark, h.programs.trialMark()
	const kept = true
	for _, c := range []struct {
		name    string
		changes []change
		length  int // of the packet, if not 0
		gsoSize uint32
		mark    uint32
		want    int32
		keep    bool
	}{
		{name: "no superpacket", want: carried},
		{name: "no superpacket, marked", mark: mark, want: carried},
		{name: "no superpacket, to a peer that takes none", changes: []change{{18, "06"}}, want: carried},
		{name: "segments as long as the limit", gsoSize: 1360, want: carried},
		{name: "segments too long", gsoSize: 1361, want: tcxNext, keep: kept},
		{name: "segments as long as can be", gsoSize: 65535, want: tcxNext, keep: kept},
		{name: "options, segments as long as the limit", changes: []change{{32, "60"}}, gsoSize: 1356, want: carried},
		{name: "options, segments too long", changes: []change{{32, "60"}}, gsoSize: 1357, want: tcxNext, keep: kept},
		{name: "most options", changes: []change{{32, "f0"}}, gsoSize: 1320, want: carried},
		{name: "most options, segments too long", changes: []change{{32, "f0"}}, gsoSize: 1321, want: tcxNext, keep: kept},
		{name: "what is behind the header's length", changes: []change{{32, "5f"}}, gsoSize: 1360, want: carried},
		{name: "segments of one byte", gsoSize: 1, want: carried},
		{name: "header too short", changes: []change{{32, "40"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "no header", changes: []change{{32, "00"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "one byte of payload", length: 41, gsoSize: 100, want: carried},
		{name: "no payload", length: 40, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "half a header", length: 39, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "nothing but options", length: 60, changes: []change{{32, "a0"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "one byte behind options", length: 61, changes: []change{{32, "a0"}}, gsoSize: 100, want: carried},
		{name: "more options than bytes", length: 59, changes: []change{{32, "a0"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "UDP", changes: []change{{9, "11"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "ICMP", changes: []change{{9, "01"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "UDP, marked", changes: []change{{9, "11"}}, gsoSize: 100, mark: mark, want: tcxNext, keep: kept},

		{name: "to a peer that takes none", changes: []change{{18, "06"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "a trial, to such a one", changes: []change{{18, "06"}}, gsoSize: 100, mark: mark, want: carried},
		{name: "another mark, to such a one", changes: []change{{18, "06"}}, gsoSize: 100, mark: mark ^ 1<<31, want: tcxNext, keep: kept},
		{name: "a trial, to a peer that takes them", gsoSize: 100, mark: mark, want: carried},
		{name: "a trial with too long segments", gsoSize: 1361, mark: mark, want: tcxNext, keep: kept},
		{name: "a small limit", changes: []change{{18, "03"}}, gsoSize: 1, want: tcxNext, keep: kept},

		{name: "to user space's peer", changes: []change{{18, "04"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "to nobody", changes: []change{{16, "0b"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "source not in the own subnet", changes: []change{{14, "02"}}, gsoSize: 100, want: tcxNext, keep: kept},
		{name: "a trial that has arrived", changes: []change{{14, "02"}}, gsoSize: 100, mark: trial, want: tcxNext},
		{name: "fragment", changes: []change{{6, "2000"}}, gsoSize: 100, want: tcxNext},
		{name: "longer than its header says", changes: []change{{2, "0063"}}, gsoSize: 100, want: tcxNext},
	} {
		pkt := unhex(t, tcpPacket)
		if c.length > 0 {
			pkt = pkt[:c.length]
			binary.BigEndian.PutUint16(pkt[ipLength:], uint16(c.length))
		}
		pkt = changed(t, pkt, c.changes)
		h.forget()
		if got := h.marked(pkt, c.gsoSize, c.mark); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		for i, last := range h.flows() {
			if want := c.keep && uint32(i) == place(t, pkt); want != (last != 0) {
				t.Errorf("%s: the flow at place %d stays with user space: %v, want %v", c.name, i, !want, want)
			}
		}
	}
}

// marked runs the program on a packet with a mark.
func (h *egressHost) marked(pkt []byte, gsoSize, mark uint32) (v int32) {
	h.t.Helper()
	check(h.t, h.Do(func() error {
		got, err := h.programs.egress.Run(&ebpf.RunOptions{Data: pkt, Context: skb{GSOSize: gsoSize, Mark: mark}})
		v = int32(got)
		return err
	}))
	return v
}

// A superpacket goes by the kernel only if none of its flow is in user space; a
// trial is no part of any flow.
func TestEgressSuperpacketFlows(t *testing.T) {
	t.Parallel()
	h := newLeaving(t)
	h.SetSuperpackets(pfx("10.5.2.0/24"), true)
	pkt := unhex(t, tcpPacket)
	at := place(t, pkt)
	future := now(t) + uint64(time.Hour)
	last := func(v uint64) { h.setFlows(func(all []uint64) { all[at] = v }) }

	last(future)
	if got := h.marked(pkt, 100, 0); got != tcxNext {
		t.Errorf("its flow is in user space: %d", got)
	}
	if got := h.flows()[at]; got == 0 || got > now(t) {
		t.Error("it does not keep its flow there from now on")
	}
	last(future)
	if got := h.marked(pkt, 100, h.programs.mark); got != carried || h.flows()[at] != future {
		t.Errorf("a trial in the place of a flow in user space: %d, and the flow's time is %d, was %d", got, h.flows()[at], future)
	}
	last(now(t) - uint64(flowSilence))
	if got := h.marked(pkt, 100, 0); got != carried || h.flows()[at] != 0 {
		t.Errorf("after a silence: %d, and the flow's time is %d", got, h.flows()[at])
	}
}

// The path is asked for the length of the segments, not for that of all.
func TestEgressSuperpacketRoutes(t *testing.T) {
	t.Parallel()
	h := newLeaving(t)
	h.SetSuperpackets(pfx("10.5.2.0/24"), true)
	pkt := append(unhex(t, tcpPacket), bytes.Repeat([]byte{1}, 2000)...)
	binary.BigEndian.PutUint16(pkt[ipLength:], uint16(len(pkt)))
	for _, c := range []struct {
		name, do, undo string // commands of ip
		want           int32
	}{
		{"the device's MTU", "", "", carried},
		{"segments just fitting", "route add 192.0.2.202 dev eth0 mtu lock 1168", "route del 192.0.2.202", carried},
		{"segments too long for the path", "route add 192.0.2.202 dev eth0 mtu lock 1167", "route del 192.0.2.202", tcxNext},
		{"unknown neighbour", "neigh del 192.0.2.202 dev eth0", "neigh add 192.0.2.202 lladdr 02:00:00:00:00:ca dev eth0 nud permanent", tcxNext},
		{"unreachable", "route add unreachable 192.0.2.202", "route del unreachable 192.0.2.202", tcxNext},
	} {
		h.forget()
		h.run(c.do)
		if got := h.marked(pkt, 1100, 0); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		if kept := h.flows()[place(t, pkt)] != 0; kept != (c.want == tcxNext) {
			t.Errorf("%s: its flow stays with user space: %v", c.name, kept)
		}
		h.run(c.undo)
	}
}

// No mark is one of kube-proxy's or kubelet's, or that of an arrived trial.
func TestMarks(t *testing.T) {
	seen := map[uint32]bool{}
	for range 32 {
		m, err := newShared(Config{})
		check(t, err)
		if m.mark == 0 || m.mark&0xc001 != 0 || m.trialMark() != m.mark+1 || m.vni>>24 != 0 {
			t.Errorf("mark %#x, of trials %#x, VNI %#x", m.mark, m.trialMark(), m.vni)
		}
		seen[m.mark], seen[m.vni] = true, true
		check(t, m.close())
	}
	if len(seen) < 60 {
		t.Errorf("%d of 64 numbers are different ones", len(seen))
	}
}
