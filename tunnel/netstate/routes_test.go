package netstate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Applying a state again, or with other programs' routes around, changes
// nothing: neither is anything written nor does the kernel announce anything.
func TestApplyTwiceWritesNothing(t *testing.T) {
	h := newHost(t, time.Hour)
	s := udpState()
	s.Routes = append(s.Routes,
		Route{Dst: netip.MustParsePrefix("10.5.7.0/24"), Link: "flannel0", Via: netip.MustParseAddr("10.5.7.0"), OnLink: true, Metric: 200, MTU: 1400},
		Route{Dst: netip.MustParsePrefix("fd00:5:7::/64"), Link: "flannel0", Via: netip.MustParseAddr("fd00:5:7::"), OnLink: true, Metric: 200, MTU: 1400},
		Route{Dst: netip.MustParsePrefix("10.5.8.0/24"), Type: Blackhole},
		Route{Dst: netip.MustParsePrefix("fd00:5:8::/64"), Type: Blackhole},
	)
	h.apply(s)

	announced := 0
	done, events := make(chan struct{}), make(chan netlink.RouteUpdate, 100)
	h.do(func() error { return netlink.RouteSubscribe(events, done) })
	h.do(func() error {
		p := &pass{kernel: h.kernel, want: s, heals: make(heals), healing: true, now: time.Now()}
		p.run()
		for _, c := range p.healed {
			t.Errorf("written again: %s: %s", c.object, c.was)
		}
		for _, problem := range p.problems {
			t.Errorf("problem: %s: %v", problem.Object, problem.Err)
		}
		return nil
	})
	h.apply(s)
	h.addRoute("192.0.2.0/24", "flannel0", 0) // the end of what is announced
	for e := range events {
		if e.Dst.String() == "192.0.2.0/24" {
			break
		}
		if e.Protocol == RouteProtocol {
			announced++
		}
	}
	close(done)
	for range events { // until the subscription has ended
	}
	if announced != 0 {
		t.Errorf("%d route changes announced", announced)
	}
}

func TestRoutesThatAreNoLongerWantedGo(t *testing.T) {
	h := newHost(t, time.Hour)
	s := udpState()
	h.apply(s)
	s.Routes = s.Routes[1:3]
	h.apply(s)
	h.want("routes", func() string { return h.routes(RouteProtocol) },
		"unreachable 10.5.0.0/16 metric 2147483647\nfd00:5::/32 dev flannel0 src fd00:5:22:: metric 1024")
	h.apply(State{})
	h.want("routes", func() string { return h.routes(RouteProtocol) }, "")
	h.want("addresses are left, the link is not exclusive any more", func() string { return h.addrs("flannel0") }, udpAddrs)
}

// A renumbered node: the address, and the source address of every route. Other
// programs' routes on the device, which the kernel drops with the last address,
// live on.
func TestRenumber(t *testing.T) {
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	h := newHost(t, time.Hour)
	s := udpState()
	h.apply(s)
	h.addRoute("10.9.0.0/16", "flannel0", 0)
	defer func() {
		if got := h.routes(unix.RTPROT_STATIC); got != "10.9.0.0/16 dev flannel0" {
			t.Errorf("the other route: %q", got)
		}
	}()
	s.Addrs = []Addr{{"flannel0", pfx("10.5.99.0/32")}, {"flannel0", pfx("fd00:5:63::/128")}}
	s.Routes[0].Src, s.Routes[2].Src = addr("10.5.99.0"), addr("fd00:5:63::")
	h.apply(s)
	h.want("addresses", func() string { return h.addrs("flannel0") }, "10.5.99.0/32 fd00:5:63::/128")
	h.want("routes", func() string { return h.routes(RouteProtocol) },
		strings.NewReplacer("10.5.34.0", "10.5.99.0", "fd00:5:22::", "fd00:5:63::").Replace(udpRoutes))

	// An address that was there with another length gives way.
	s.Addrs = []Addr{{"flannel0", pfx("10.5.99.0/24")}, {"flannel0", pfx("fd00:5:63::/64")}}
	h.apply(s)
	h.want("addresses", func() string { return h.addrs("flannel0") }, "10.5.99.0/24 fd00:5:63::/64")
	h.want("routes", func() string { return h.routes(RouteProtocol) },
		strings.NewReplacer("10.5.34.0", "10.5.99.0", "fd00:5:22::", "fd00:5:63::").Replace(udpRoutes))
	if s := h.Status(); len(s) != 0 {
		t.Error(s)
	}
}

func TestOtherRoutesAreLeftAlone(t *testing.T) {
	h := newHost(t, 50*time.Millisecond)
	h.addDevice("eth0")
	if err := h.nl.LinkSetUp(h.device("eth0")); err != nil {
		t.Fatal(err)
	}
	// More and less specific ones than ours, and the same with another metric.
	for _, dst := range []string{"10.5.7.0/24", "10.0.0.0/8", "fd00:5:7::/64"} {
		h.addRoute(dst, "eth0", 0)
	}
	h.addRoute("10.5.0.0/16", "eth0", 50)
	h.addRoute("fd00:5::/32", "eth0", 50)
	err := h.nl.RouteAdd(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.9.0.0/16")), LinkIndex: h.device("eth0").Attrs().Index,
		Scope: netlink.SCOPE_LINK, Protocol: RouteProtocol, Table: 100}) // our number, but not our table
	if err != nil {
		t.Fatal(err)
	}
	before := h.routes(unix.RTPROT_STATIC)
	if strings.Count(before, "\n") != 4 {
		t.Fatal(before)
	}
	check := func() {
		t.Helper()
		if after := h.routes(unix.RTPROT_STATIC); after != before {
			t.Errorf("got\n%s\nwant\n%s", after, before)
		}
		list, err := h.nl.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Table: 100}, netlink.RT_FILTER_TABLE)
		if err != nil || len(list) != 1 {
			t.Errorf("table 100: %v, %v", list, err)
		}
	}
	h.apply(udpState())
	h.wantUDPState()
	check()
	if err := h.delRoute("10.5.0.0/16", 0); err != nil {
		t.Fatal(err)
	}
	h.wantUDPState()
	h.apply(State{})
	check()
}

// A route of another program that has our destination and metric is neither
// replaced nor joined: it is named, and ours comes when it has gone.
func TestRouteInTheWay(t *testing.T) {
	for _, c := range []struct {
		dst    string
		metric int
		err    string
	}{
		{"10.5.0.0/16", 0, "route 10.5.0.0/16 dev flannel0: another program's route is in the way: remove it (ip route del 10.5.0.0/16 dev eth0 proto static)"},
		{"fd00:5::/32", 1024, "route fd00:5::/32 dev flannel0: another program's route is in the way: remove it (ip route del fd00:5::/32 dev eth0 metric 1024 proto static)"},
		{"10.5.0.0/16", LastMetric, "route unreachable 10.5.0.0/16 metric 2147483647: another program's route is in the way: remove it (ip route del 10.5.0.0/16 dev eth0 metric 2147483647 proto static)"},
	} {
		t.Run(fmt.Sprint(c.dst, c.metric), func(t *testing.T) {
			h := newHost(t, time.Hour)
			h.addDevice("eth0")
			if err := h.nl.LinkSetUp(h.device("eth0")); err != nil {
				t.Fatal(err)
			}
			h.addRoute(c.dst, "eth0", c.metric)
			other := h.routes(unix.RTPROT_STATIC)

			err := h.Apply(udpState())
			if err == nil || !strings.HasPrefix(err.Error(), c.err) {
				t.Fatalf("got %v\nwant %s", err, c.err)
			}
			if got := h.routes(unix.RTPROT_STATIC); got != other {
				t.Errorf("the other route: got %q, want %q", got, other)
			}
			if n := strings.Count(h.routes(RouteProtocol), "\n"); n != 2 {
				t.Errorf("the others of our routes:\n%s", h.routes(RouteProtocol))
			}
			if s := h.Status(); len(s) != 1 || s[0].Pending {
				t.Errorf("status: %v", s)
			}
			if err := h.delRoute(c.dst, c.metric); err != nil {
				t.Fatal(err)
			}
			h.wantUDPState()
		})
	}
}

// `ip route replace` by another program takes our route away without a word
// about it being gone.
func TestRouteReplacedByAnother(t *testing.T) {
	h := newHost(t, time.Hour)
	h.addDevice("eth0")
	if err := h.nl.LinkSetUp(h.device("eth0")); err != nil {
		t.Fatal(err)
	}
	h.apply(udpState())
	err := h.nl.RouteReplace(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.5.0.0/16")), LinkIndex: h.device("eth0").Attrs().Index,
		Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC})
	if err != nil {
		t.Fatal(err)
	}
	h.want("problem", func() string {
		if s := h.Status(); len(s) == 1 {
			return s[0].Object
		}
		return ""
	}, "route 10.5.0.0/16 dev flannel0")
	h.want("warning", func() string {
		return fmt.Sprint(h.log.count(`msg="cannot be put right now, is retried" object="route 10.5.0.0/16 dev flannel0"`))
	}, "1")
	if err := h.delRoute("10.5.0.0/16", 0); err != nil {
		t.Fatal(err)
	}
	h.wantUDPState()
}

// Should both be there, ours is not replaced either: the kernel would replace
// the first one.
func TestRouteBesideAnother(t *testing.T) {
	h := newHost(t, time.Hour)
	h.addDevice("eth0")
	for _, name := range []string{"eth0", "flannel0"} {
		if err := h.nl.LinkSetUp(h.device(name)); err != nil {
			t.Fatal(err)
		}
	}
	h.addRoute("10.5.0.0/16", "eth0", 0)
	err := h.nl.RouteAppend(&netlink.Route{Dst: ipNet(netip.MustParsePrefix("10.5.0.0/16")), LinkIndex: h.device("flannel0").Attrs().Index,
		Scope: netlink.SCOPE_LINK, Protocol: RouteProtocol})
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Apply(udpState()); err == nil || !strings.Contains(err.Error(), "another program's route is in the way") {
		t.Errorf("got %v", err)
	}
	if got := h.routes(unix.RTPROT_STATIC); got != "10.5.0.0/16 dev eth0" {
		t.Errorf("the other route: %q", got)
	}
	if err := h.delRoute("10.5.0.0/16", 0); err != nil { // the first
		t.Fatal(err)
	}
	h.wantUDPState()
}

// A route that moves to another device, with a next hop in its own destination:
// IPv6 finds that behind the former route, and refuses it as long as that is
// there.
func TestGatewayBehindFormerRoute(t *testing.T) {
	h := newHost(t, time.Hour)
	h.addDevice("eth0")
	h.addDevice("flannel-v6.1")
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	s := State{
		Links: []Link{{Name: "eth0", Up: true}, {Name: "flannel-v6.1", Up: true}},
		Addrs: []Addr{{"eth0", pfx("2001:db8::1/64")}},
		Routes: []Route{
			{Dst: pfx("fd00:5::/32"), Type: Unreachable, Metric: LastMetric},
			{Dst: pfx("fd00:5:7::/64"), Link: "eth0", Via: addr("2001:db8::7"), IfNear: true},
		},
	}
	h.apply(s)
	h.want("routes", func() string { return h.routes(RouteProtocol) },
		"fd00:5:7::/64 via 2001:db8::7 dev eth0 metric 1024\nunreachable fd00:5::/32 metric 2147483647")
	s.Routes[1] = Route{Dst: pfx("fd00:5:7::/64"), Link: "flannel-v6.1", Via: addr("fd00:5:7::"), OnLink: true}
	h.apply(s)
	h.want("routes", func() string { return h.routes(RouteProtocol) },
		"fd00:5:7::/64 via fd00:5:7:: dev flannel-v6.1 metric 1024 onlink\nunreachable fd00:5::/32 metric 2147483647")

	// So it does behind a route of another program, which stays.
	h.apply(State{})
	h.addRoute("fd00:5:7::/64", "eth0", 50)
	const find = "another program's route leads elsewhere than to flannel-v6.1: find it with `ip route get fd00:5:7::`"
	if err := h.Apply(s); err == nil || !strings.Contains(err.Error(), find) {
		t.Errorf("%v, want %s", err, find)
	}
	if err := h.delRoute("fd00:5:7::/64", 50); err != nil {
		t.Fatal(err)
	}
	h.apply(s)
}
