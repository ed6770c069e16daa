package assist

import (
	"net/netip"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// The node of these tests is 192.0.2.200 with 10.5.1.0/24: as a number, half of
// its addresses' bytes have the top bit set. The interface lo, whose address is
// zero, stands for the TUN and is what frames arrive by.
var (
	ingressConfig = Config{TUN: 1, Underlay: 1, Local: addr("192.0.2.200"), Port: 8285}
	ingressOwn    = pfx("10.5.1.0/24")
	ingressPeers  = []Peer{
		{Subnet: pfx("10.5.2.0/24"), Public: addr("192.0.2.202"), Limit: 1400},
		{Subnet: pfx("10.5.3.0/24"), Public: addr("192.0.2.203")},
		{Subnet: pfx("10.5.4.0/24")}, // user space's
	}
)

// datagram is what the kernel of 192.0.2.202 sends: 10.5.2.129 to 10.5.1.129,
// UDP, 4 bytes.
const datagram = "000000000000 0200000000ca 0800" + // Ethernet, at 0
	"4502 003c 0000 4000 40 11 b51c c00002ca c00002c8" + // outer IPv4, at 14
	"205d 205d 0028 0000" + // outer UDP, at 34
	"45ba 0020 1234 4000 3f 11 10d4 0a050281 0a050181" + // inner IPv4, at 42
	"1388 1389 000c 0000 77656674" // inner UDP, at 62

func TestIngress(t *testing.T) {
	labtest.RequireRoot(t)
	a := newAssist(t, ingressConfig, ingressOwn, ingressPeers...)
	for _, c := range []struct {
		name    string
		changes []change
		gsoSize uint32
		want    int32
	}{
		{name: "a peer's datagram", want: tcxRedirect},
		{name: "limit 0 is for sending", changes: []change{{26, "c00002cb"}, {54, "0a050301"}}, want: tcxRedirect},
		{name: "any source port", changes: []change{{34, "0001"}}, want: tcxRedirect},
		{name: "both CE", changes: []change{{15, "03"}, {43, "03"}}, want: tcxRedirect},
		{name: "DSCP outside", changes: []change{{15, "fe"}}, want: tcxRedirect},
		{name: "DF unset", changes: []change{{20, "0000"}}, want: tcxRedirect},
		{name: "TCP to the probes' port", changes: []change{{51, "06"}, {58, "0a050100"}, {64, "205e"}}, want: tcxRedirect},
		{name: "UDP to the tunnel address", changes: []change{{58, "0a050100"}}, want: tcxRedirect},
		{name: "the probes' port at another address", changes: []change{{64, "205e"}}, want: tcxRedirect},
		{name: "inner checksum of nothing", changes: []change{{52, "ffff"}}, want: tcxRedirect},

		{name: "IPv6's type", changes: []change{{12, "86dd"}, {16, "0050"}, {38, "003c"}, {44, "0034"}, {-1, "0000000000000000000000000000000000000000"}}, want: tcxNext},
		{name: "the same, IPv4's type", changes: []change{{16, "0050"}, {38, "003c"}, {44, "0034"}, {-1, "0000000000000000000000000000000000000000"}}, want: tcxRedirect},
		{name: "VLAN tag", changes: []change{{12, "8100"}}, want: tcxNext},
		{name: "another host's frame", changes: []change{{5, "01"}}, want: tcxNext},
		{name: "broadcast", changes: []change{{0, "ffffffffffff"}}, want: tcxNext},
		{name: "outer version", changes: []change{{14, "65"}}, want: tcxNext},
		{name: "outer options", changes: []change{{14, "46"}}, want: tcxNext},
		{name: "outer first fragment", changes: []change{{20, "2000"}}, want: tcxNext},
		{name: "outer last fragment", changes: []change{{20, "0001"}}, want: tcxNext},
		{name: "outer fragment far on", changes: []change{{20, "1000"}}, want: tcxNext},
		{name: "TCP", changes: []change{{23, "06"}}, want: tcxNext},
		{name: "to another address", changes: []change{{33, "c9"}}, want: tcxNext},
		{name: "to another port", changes: []change{{37, "5e"}}, want: tcxNext},
		{name: "with a checksum", changes: []change{{40, "0001"}}, want: tcxNext},
		{name: "with a checksum, other byte", changes: []change{{40, "0100"}}, want: tcxNext},
		{name: "superpacket", gsoSize: 100, want: tcxNext},
		{name: "outer CE", changes: []change{{15, "03"}}, want: tcxNext},
		{name: "outer ECT(1), inner ECT(0)", changes: []change{{15, "01"}}, want: tcxNext},
		{name: "frame longer than the packet", changes: []change{{-1, "00"}}, want: tcxNext},
		{name: "frame shorter than the packet", changes: []change{{16, "003d"}, {38, "0029"}, {44, "0021"}}, want: tcxNext},
		{name: "UDP shorter than the packet", changes: []change{{38, "0027"}, {44, "001f"}}, want: tcxNext},
		{name: "UDP of length 0", changes: []change{{38, "0000"}}, want: tcxNext},
		{name: "inner packet shorter than the datagram", changes: []change{{44, "001f"}}, want: tcxNext},
		{name: "inner packet longer than the datagram", changes: []change{{44, "0120"}}, want: tcxNext},
		{name: "inner IPv6", changes: []change{{42, "65"}}, want: tcxNext},
		{name: "inner options", changes: []change{{42, "46"}}, want: tcxNext},
		{name: "inner header too short", changes: []change{{42, "44"}}, want: tcxNext},
		{name: "inner fragment", changes: []change{{48, "2000"}}, want: tcxNext},
		{name: "probe", changes: []change{{58, "0a050100"}, {64, "205e"}}, want: tcxNext},
		{name: "to another node's subnet", changes: []change{{58, "0a050201"}}, want: tcxNext},
		{name: "to no subnet", changes: []change{{58, "08080808"}}, want: tcxNext},
		{name: "source in no subnet", changes: []change{{54, "0a050901"}}, want: tcxNext},
		{name: "source in the own subnet", changes: []change{{54, "0a050101"}}, want: tcxNext},
		{name: "another peer's inner source", changes: []change{{54, "0a050301"}}, want: tcxNext},
		{name: "not from the peer's address", changes: []change{{26, "c00002cc"}}, want: tcxNext},
		{name: "from user space's peer", changes: []change{{26, "c00002cc"}, {54, "0a050401"}}, want: tcxNext},
		{name: "from 0.0.0.0, for user space's peer", changes: []change{{26, "00000000"}, {54, "0a050401"}}, want: tcxNext},
	} {
		frame := changed(t, unhex(t, datagram), c.changes)
		fillSum(frame, outerIP)
		if got := verdict(t, a.programs.ingress, frame, c.gsoSize); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, verdictNames[got], verdictNames[c.want])
		}
	}
	frame := unhex(t, datagram)
	if got := verdict(t, a.programs.ingress, frame, 0); got != tcxRedirect {
		t.Errorf("the checksum of the test's datagram: %s", verdictNames[got])
	}
	frame[24]++
	if got := verdict(t, a.programs.ingress, frame, 0); got != tcxNext {
		t.Errorf("wrong outer checksum: %s", verdictNames[got])
	}
	for n := etherLen + ipLen; n < len(frame); n++ { // with less the kernel makes no packet
		if got := verdict(t, a.programs.ingress, unhex(t, datagram)[:n], 0); got != tcxNext {
			t.Errorf("the first %d bytes: %s", n, verdictNames[got])
		}
	}
}

// What the program makes of a datagram is the inner packet, with an Ethernet
// header before it still.
func TestIngressTakesHeaders(t *testing.T) {
	labtest.RequireRoot(t)
	a := newAssist(t, ingressConfig, ingressOwn, ingressPeers...)
	frame := unhex(t, datagram)
	if got, want := ran(t, a.programs.ingress, frame), string(frame[:etherLen])+string(frame[innerIP:]); got != want {
		t.Errorf("%x, want %x", got, want)
	}
	tx, rx := a.Traffic(pfx("10.5.2.0/24"))
	if (tx != Count{}) || (rx != Count{Packets: 1, Bytes: 32}) {
		t.Errorf("sent %v, received %v; want none and 1 of 32 bytes", tx, rx)
	}
}

// No packet is carried before there is a subnet, or after it is gone.
func TestIngressOwnSubnet(t *testing.T) {
	labtest.RequireRoot(t)
	a := newAssist(t, ingressConfig, netip.Prefix{}, ingressPeers...)
	for _, c := range []struct {
		own  netip.Prefix
		want int32
	}{
		{netip.Prefix{}, tcxNext},
		{ingressOwn, tcxRedirect},
		{pfx("10.5.1.99/24"), tcxRedirect},
		{pfx("10.5.1.128/25"), tcxRedirect},
		{pfx("10.5.1.0/25"), tcxNext},
		{pfx("10.5.1.129/32"), tcxRedirect},
		{pfx("0.0.0.0/0"), tcxRedirect},
		{netip.Prefix{}, tcxNext},
	} {
		check(t, a.Set(c.own, ingressPeers))
		if got := verdict(t, a.programs.ingress, unhex(t, datagram), 0); got != c.want {
			t.Errorf("own subnet %v: %s, want %s", c.own, verdictNames[got], verdictNames[c.want])
		}
	}
}
