package assist

import (
	"encoding/binary"
	"fmt"
	"net"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel/packet"
)

// innerPacket leaves by the TUN: 8.0.1.129 to 10.5.2.129, UDP, 8 bytes.
//
// BPF_PROG_TEST_RUN takes the first 14 bytes for an Ethernet header, whose type
// must be IPv4's for what comes after the checks to succeed: so the node's subnet
// is one of 8.0.0.0/16.
const innerPacket = "45ba 0024 1234 4000 3f 11 16cd 08000181 0a050281" + "1388 1389 0010 0000 776566742d776566"

var (
	egressOwn   = pfx("8.0.1.0/24")
	egressPeers = []Peer{
		{Subnet: pfx("10.5.2.0/24"), Public: addr("192.0.2.202"), Limit: 1400},
		{Subnet: pfx("10.5.3.0/24"), Public: addr("192.0.2.203"), Limit: 35},
		{Subnet: pfx("10.5.4.0/24"), Limit: 1400}, // user space's
		{Subnet: pfx("10.5.5.0/24"), Public: addr("192.0.2.203"), Limit: 36},
		{Subnet: pfx("10.5.0.0/16"), Public: addr("192.0.2.202"), Limit: 1400},
	}
)

// egressHost is a namespace in which the egress program can be run: eth0 has
// 192.0.2.200, the neighbours 202 and 203 are known.
type egressHost struct {
	*lab.Namespace
	t testing.TB
	*Assist
}

func newEgressHost(t testing.TB) *egressHost {
	t.Helper()
	h := &egressHost{Namespace: labtest.Namespace(t, "host"), t: t}
	other := labtest.Namespace(t, "other")
	for _, device := range []string{"eth0", "eth1"} {
		check(t, lab.Veth(lab.End{In: h.Namespace, Device: device}, lab.End{In: other, Device: device}, 1500))
	}
	check(t, h.AddAddr("eth0", pfx("192.0.2.200/24")))
	check(t, h.Sysctl("net/ipv4/ip_forward", "1"))
	for _, neighbour := range []string{"192.0.2.202", "192.0.2.203", "fe80::203"} {
		h.ip("neigh", "add", neighbour, "lladdr", "02:00:00:00:00:ca", "dev", "eth0", "nud", "permanent")
	}
	check(t, h.Do(func() error {
		eth, err := net.InterfaceByName("eth0")
		h.Assist = newAssist(t, Config{TUN: 1, Underlay: eth.Index, Local: addr("192.0.2.200"), Port: testPort, Floods: MaxFloods}, egressOwn, egressPeers...)
		return err
	}))
	return h
}

func (h *egressHost) ip(args ...string) {
	h.t.Helper()
	_, err := h.Output("ip", args...)
	check(h.t, err)
}

// verdict runs the program in the namespace.
func (h *egressHost) verdict(pkt []byte, gsoSize uint32) (v int32) {
	h.t.Helper()
	check(h.t, h.Do(func() error { v = verdict(h.t, h.programs.egress, pkt, gsoSize); return nil }))
	return v
}

// forget makes all flows new ones.
func (h *egressHost) forget() { h.setFlows(func([]uint64) {}) }

// setFlows writes all flows' times, from zero.
func (h *egressHost) setFlows(set func([]uint64)) {
	h.t.Helper()
	all := make([]uint64, flowPlaces)
	set(all)
	check(h.t, h.programs.flows.Put(uint32(0), all))
}

// flows reads all flows' times.
func (h *egressHost) flows() []uint64 {
	h.t.Helper()
	all := make([]uint64, flowPlaces)
	check(h.t, h.programs.flows.Lookup(uint32(0), all))
	return all
}

// place is where a flow's time is.
func place(t testing.TB, pkt []byte) uint32 {
	t.Helper()
	var info packet.Info
	if why := info.Parse(pkt); why != packet.OK {
		t.Fatalf("%x: %v", pkt, why)
	}
	return packet.FlowHash(pkt, &info) % flowPlaces
}

func TestEgress(t *testing.T) {
	t.Parallel()
	h := newEgressHost(t)
	const kept = true // as is its flow
	for _, c := range []struct {
		name    string
		changes []change
		gsoSize uint32
		want    int32
		keep    bool
	}{
		{name: "to a peer", want: tcxRedirect},
		{name: "as long as the limit", changes: []change{{18, "05"}}, want: tcxRedirect},
		{name: "to the shorter prefix", changes: []change{{18, "06"}}, want: tcxRedirect},
		{name: "DF unset", changes: []change{{6, "00"}}, want: tcxRedirect},
		{name: "ICMP", changes: []change{{9, "01"}}, want: tcxRedirect},
		{name: "TCP", changes: []change{{9, "06"}}, want: tcxRedirect},
		{name: "some protocol", changes: []change{{9, "84"}}, want: tcxRedirect},

		{name: "IPv6", changes: []change{{0, "65"}}, want: tcxNext},
		{name: "options", changes: []change{{0, "46"}}, want: tcxNext},
		{name: "first fragment", changes: []change{{6, "2000"}}, want: tcxNext},
		{name: "last fragment", changes: []change{{6, "0001"}}, want: tcxNext},
		{name: "fragment far on", changes: []change{{6, "1000"}}, want: tcxNext},
		{name: "longer than its header says", changes: []change{{2, "0023"}}, want: tcxNext},
		{name: "shorter than its header says", changes: []change{{2, "0025"}}, want: tcxNext},
		{name: "source not in the own subnet", changes: []change{{14, "02"}}, want: tcxNext},
		{name: "to nobody", changes: []change{{16, "0b"}}, want: tcxNext},
		{name: "to user space's peer", changes: []change{{18, "04"}}, want: tcxNext},
		{name: "longer than the limit", changes: []change{{18, "03"}}, want: tcxNext, keep: kept},
		{name: "superpacket", gsoSize: 8, want: tcxNext, keep: kept},
	} {
		h.forget()
		pkt := changed(t, unhex(t, innerPacket), c.changes)
		before := now(t)
		if got := h.verdict(pkt, c.gsoSize); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, verdictNames[got], verdictNames[c.want])
		}
		for i, last := range h.flows() {
			switch want := c.keep && uint32(i) == place(t, pkt); {
			case want && (last < before || last > now(t)):
				t.Errorf("%s: its flow was last seen at %d, not now, %d", c.name, last, before)
			case !want && last != 0:
				t.Errorf("%s: a flow was noted at place %d", c.name, i)
			}
		}
	}
	if tx, _ := h.Traffic(pfx("10.5.5.0/24")); (tx != Count{Packets: 1, Bytes: 36}) {
		t.Errorf("sent to a peer: %v", tx)
	}
}

// now is what bpf_ktime_get_ns gives.
func now(t testing.TB) uint64 {
	t.Helper()
	var ts unix.Timespec
	check(t, unix.ClockGettime(unix.CLOCK_MONOTONIC, &ts))
	return uint64(ts.Nano())
}

// A flow that has sent a superpacket is user space's until it is silent.
func TestEgressFlows(t *testing.T) {
	t.Parallel()
	h := newEgressHost(t)
	pkt := unhex(t, innerPacket)
	last := func(at uint64) {
		h.setFlows(func(all []uint64) { all[place(t, pkt)] = at })
	}
	// Not silent for long, if this process is not kept waiting.
	for {
		start := now(t)
		last(start)
		got := h.verdict(pkt, 0)
		if got == tcxNext {
			break
		}
		if now(t)-start < uint64(flowSilence) {
			t.Fatalf("just after a superpacket: %s", verdictNames[got])
		}
	}
	last(now(t) + uint64(time.Hour)) // another CPU's clock is ahead
	if got := h.verdict(pkt, 0); got != tcxNext {
		t.Errorf("after a superpacket of the future: %s", verdictNames[got])
	}
	if at := h.flows()[place(t, pkt)]; at == 0 || at > now(t) {
		t.Error("a packet in time does not keep its flow in user space from now on")
	}
	last(now(t) - uint64(flowSilence))
	if got := h.verdict(pkt, 0); got != tcxRedirect {
		t.Errorf("after a silence: %s", verdictNames[got])
	}
	if at := h.flows()[place(t, pkt)]; at != 0 {
		t.Error("a silent flow is still noted")
	}
	// Others go on.
	last(now(t) + uint64(time.Hour))
	other := changed(t, pkt, []change{{21, "89"}})
	if got := h.verdict(other, 0); got != tcxRedirect {
		t.Errorf("another flow: %s", verdictNames[got])
	}
}

// The place of a flow shows its hash.
func TestEgressFlowHash(t *testing.T) {
	t.Parallel()
	h := newEgressHost(t)
	for i := range 200 {
		pkt := unhex(t, innerPacket)
		pkt[9] = []byte{packet.ProtoTCP, packet.ProtoUDP, 1, 47}[i%4]
		binary.BigEndian.PutUint32(pkt[20:], uint32(i)*0x9e3779b1)
		binary.BigEndian.PutUint32(pkt[16:], uint32(i)*0x85ebca6b)
		h.forget()
		h.verdict(pkt, 1)
		if flows := h.flows(); flows[place(t, pkt)] == 0 {
			t.Fatalf("%x: not at %d", pkt, place(t, pkt))
		}
	}
}

func TestEgressRoutes(t *testing.T) {
	t.Parallel()
	h := newEgressHost(t)
	check(t, h.AddAddr("eth1", pfx("198.51.100.200/24")))
	h.ip("neigh", "add", "198.51.100.202", "lladdr", "02:00:00:00:00:ca", "dev", "eth1", "nud", "permanent")
	for _, c := range []struct {
		name  string
		do    string // of the ip command
		undo  string
		want  int32
		keeps bool
	}{
		{name: "in the network", want: tcxRedirect},
		{"by a router", "route add 192.0.2.202 via 192.0.2.203", "route del 192.0.2.202", tcxRedirect, false},
		{"by another interface", "route add 192.0.2.202 via 198.51.100.202", "route del 192.0.2.202", tcxNext, true},
		{"unreachable", "route add unreachable 192.0.2.202", "route del unreachable 192.0.2.202", tcxNext, true},
		{"by an IPv6 router", "route add 192.0.2.202 via inet6 fe80::203 dev eth0", "route del 192.0.2.202", tcxNext, true},
		{"just fitting", "route add 192.0.2.202 dev eth0 mtu lock 64", "route del 192.0.2.202", tcxRedirect, false},
		{"too long for the path", "route add 192.0.2.202 dev eth0 mtu lock 63", "route del 192.0.2.202", tcxNext, true},
		{"unknown neighbour", "neigh del 192.0.2.202 dev eth0", "neigh add 192.0.2.202 lladdr 02:00:00:00:00:ca dev eth0 nud permanent", tcxNext, false},
		{"neighbour that cannot be found", "neigh change 192.0.2.202 dev eth0 nud failed", "neigh change 192.0.2.202 lladdr 02:00:00:00:00:ca dev eth0 nud permanent", tcxNext, false},
		{"rule by source", "rule add from 192.0.2.200 to 192.0.2.202 unreachable", "rule del from 192.0.2.200 to 192.0.2.202 unreachable", tcxNext, true},
		{"rule for local packets", "rule add iif lo to 192.0.2.202 unreachable", "rule del iif lo to 192.0.2.202 unreachable", tcxNext, true},
		{"rule by protocol and port", "rule add ipproto udp sport 8285 dport 8285 unreachable", "rule del ipproto udp sport 8285 dport 8285 unreachable", tcxNext, true},
		{"rule by another port", "rule add ipproto udp sport 8286 unreachable", "rule del ipproto udp sport 8286 unreachable", tcxRedirect, false},
	} {
		h.forget()
		h.run(c.do)
		pkt := unhex(t, innerPacket)
		if got := h.verdict(pkt, 0); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, verdictNames[got], verdictNames[c.want])
		}
		if kept := h.flows()[place(t, pkt)] != 0; kept != c.keeps {
			t.Errorf("%s: its flow stays with user space: %v, want %v", c.name, kept, c.keeps)
		}
		h.run(c.undo)
	}
	check(t, h.Sysctl("net/ipv4/ip_forward", "0"))
	if got := h.verdict(unhex(t, innerPacket), 0); got != tcxNext {
		t.Errorf("without forwarding: %s", verdictNames[got])
	}
}

// run runs an ip command, if it is one.
func (h *egressHost) run(words string) {
	h.t.Helper()
	if words == "" {
		return
	}
	_, err := h.Output("sh", "-c", fmt.Sprintf("ip %s", words))
	check(h.t, err)
}
