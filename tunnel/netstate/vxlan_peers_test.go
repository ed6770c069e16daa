package netstate

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// A process that starts anew disturbs nothing: what it does not know yet stays
// until it does.
func TestPartialStateRemovesNothing(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	h.apply(vxlanState())
	device := h.device("flannel.1").Attrs().Index
	partial := vxlanState()
	partial.Neighs, partial.FDB, partial.Routes, partial.Partial = nil, nil, nil, true
	h.apply(partial)
	h.wantVXLANState()
	if h.device("flannel.1").Attrs().Index != device {
		t.Error("the device was made anew")
	}
	partial.Partial = false
	h.apply(partial)
	if got := h.routes(RouteProtocol) + h.entries(netlink.FAMILY_V4) + h.entries(unix.AF_BRIDGE); got != "" {
		t.Errorf("left: %s", got)
	}
}

// A thousand peers, of which half are exchanged.
func TestManyPeers(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	with := func(from, to int) State {
		s := vxlanState()
		for i := from; i < to; i++ {
			subnet := netip.AddrFrom4([4]byte{10, 64 + byte(i>>8), byte(i), 0})
			mac := MAC{0x02, 1, 0, 0, byte(i >> 8), byte(i)}
			s.Neighs = append(s.Neighs, Neigh{"flannel.1", subnet, mac})
			s.FDB = append(s.FDB, FDB{"flannel.1", mac, netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)})})
			s.Routes = append(s.Routes, Route{Dst: netip.PrefixFrom(subnet, 24), Link: "flannel.1", Via: subnet, OnLink: true})
		}
		return s
	}
	count := func(s string) int { return len(strings.Split(s, "\n")) }
	for _, s := range []State{with(0, 1000), with(500, 1500), with(500, 1500)} {
		h.apply(s)
		for what, n := range map[string]int{
			"routes": count(h.routes(RouteProtocol)), "neighbours": count(h.entries(netlink.FAMILY_V4)), "FDB": count(h.entries(unix.AF_BRIDGE)),
		} {
			if n != 1001 {
				t.Errorf("%d %s", n, what)
			}
		}
	}
	// The device is deleted, and all that was on it is back by itself.
	if err := h.nl.LinkDel(h.device("flannel.1")); err != nil {
		t.Fatal(err)
	}
	h.want("routes", func() string { return fmt.Sprint(count(h.routes(RouteProtocol))) }, "1001")
}

// A direct route stands while its next hop is on the link, and only then; the
// other one, at a worse metric, always.
func TestRouteIfNear(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	addr, pfx := netip.MustParseAddr, netip.MustParsePrefix
	s := vxlanState()
	s.Routes[0].Metric = 200
	direct := Route{Dst: pfx("10.5.7.0/24"), Link: "eth0", Via: addr("198.51.100.7"), Src: addr("10.5.34.0"), IfNear: true}
	s.Routes = append(s.Routes, direct)
	if err := h.ns.AddRoute(pfx("0.0.0.0/0"), addr("192.0.2.254")); err != nil { // a way, but not on the link
		t.Fatal(err)
	}
	const tunnel = "10.5.7.0/24 via 10.5.7.0 dev flannel.1 src 10.5.34.0 metric 200 onlink"
	const both = "10.5.7.0/24 via 198.51.100.7 dev eth0 src 10.5.34.0\n" + tunnel
	h.apply(s)
	h.want("routes", func() string { return h.routes(RouteProtocol) }, tunnel)
	if p := h.Status(); len(p) != 1 || !p[0].Pending || p[0].Object != direct.String() || p[0].Err.Error() != "198.51.100.7 is not on the link eth0" {
		t.Errorf("problems: %v", p)
	}
	if err := h.ns.AddAddr("eth0", pfx("198.51.100.1/24")); err != nil {
		t.Fatal(err)
	}
	h.want("routes", func() string { return h.routes(RouteProtocol) }, both)
	h.want("problems", func() string { return fmt.Sprint(h.Status()) }, "[]")
	// The peer moves to where it is not near: the direct route must not stay.
	s.Routes[1].Via = addr("203.0.113.7")
	h.apply(s)
	h.want("routes", func() string { return h.routes(RouteProtocol) }, tunnel)
	s.Routes[1].Via = addr("198.51.100.7")
	h.apply(s)
	h.want("routes", func() string { return h.routes(RouteProtocol) }, both)
	// A flapped underlay takes direct routes with it.
	for _, set := range []func(netlink.Link) error{h.nl.LinkSetDown, h.nl.LinkSetUp} {
		if err := set(h.device("eth0")); err != nil {
			t.Fatal(err)
		}
	}
	h.want("routes", func() string { return h.routes(RouteProtocol) }, both)
}

// Routes that a flanneld left, which lead the same way, become ours; another
// program's stay.
func TestTakeOverRoutes(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	h.apply(vxlanState())
	device := h.device("flannel.1").Attrs().Index
	add := func(via string, protocol netlink.RouteProtocol) {
		t.Helper()
		h.delRoute("10.5.7.0/24", 0)
		err := h.nl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.5.7.0/24")), LinkIndex: device,
			Gw: net.ParseIP(via), Flags: int(netlink.FLAG_ONLINK), Protocol: protocol})
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, via string
		protocol  netlink.RouteProtocol
		taken     bool
	}{
		{"flannel's", "10.5.7.0", unix.RTPROT_BOOT, true},
		{"another next hop", "10.5.8.0", unix.RTPROT_BOOT, false},
		{"another program's", "10.5.7.0", unix.RTPROT_BIRD, false},
	} {
		add(c.via, c.protocol)
		h.do(func() (err error) { h.Reconciler, err = newReconciler(h.Reconciler.log, time.Hour); return })
		err := h.Apply(vxlanState())
		if c.taken != (err == nil) || c.taken != (h.routes(RouteProtocol) == vxlanRoutes) || !c.taken && !strings.Contains(err.Error(), "in the way") {
			t.Errorf("%s: %v; routes %s", c.name, err, h.routes(RouteProtocol))
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestTxChecksum(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	offload := func() string {
		out, err := h.ns.Output("ethtool", "-k", "flannel.1")
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(out, "tx-checksumming: ")
		return strings.Fields(after)[0]
	}
	labtest.Program(t, "ethtool", "ethtool")
	s := vxlanState()
	for _, c := range []struct {
		set  Switch
		want string
	}{{Leave, "on"}, {Off, "off"}, {Leave, "off"}, {On, "on"}} {
		s.Links[0].TxChecksum = c.set
		h.apply(s)
		if got := offload(); got != c.want {
			t.Errorf("setting %d: offload is %s", c.set, got)
		}
	}
	if _, err := h.ns.Output("ethtool", "-K", "flannel.1", "tx-checksum-ip-generic", "off"); err != nil {
		t.Fatal(err)
	}
	h.want("offload", offload, "on")
}

func TestLinkDown(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	h.apply(vxlanState())
	s := vxlanState()
	s.Links[0].Up, s.Links[0].Down = false, true
	s.Neighs, s.FDB, s.Routes = nil, nil, nil
	h.apply(s)
	h.want("device", h.vxlan, strings.TrimSuffix(vxlanDevice, " up"))
	if err := h.nl.LinkSetUp(h.device("flannel.1")); err != nil {
		t.Fatal(err)
	}
	h.want("device", h.vxlan, strings.TrimSuffix(vxlanDevice, " up"))
	h.apply(vxlanState())
	h.wantVXLANState()
}

func TestRemoveOwnVXLAN(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	h.apply(vxlanState())
	err := h.nl.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.2"}, VxlanId: 2, Port: 8472})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.do(func() error { return RemoveVXLANs(h.Reconciler.log, "flannel.0", "flannel.1") })
	h.device("flannel.1")
	h.do(func() error { return RemoveOwn(h.Reconciler.log) })
	if _, err := h.nl.LinkByName("flannel.1"); err == nil {
		t.Error("flannel.1 is still there")
	}
	h.device("flannel.2") // another program's
}
