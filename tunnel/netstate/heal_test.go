package netstate

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
)

// udpState is what the udp backend keeps, dual stack.
func udpState() State {
	pfx := netip.MustParsePrefix
	return State{
		Links: []Link{{Name: "flannel0", MTU: 1472, TxQueueLen: 500, Up: true, Exclusive: true}},
		Addrs: []Addr{{"flannel0", pfx("10.5.34.0/32")}, {"flannel0", pfx("fd00:5:22::/128")}},
		Routes: []Route{
			{Dst: pfx("10.5.0.0/16"), Link: "flannel0", Src: netip.MustParseAddr("10.5.34.0")},
			{Dst: pfx("10.5.0.0/16"), Type: Unreachable, Metric: LastMetric},
			{Dst: pfx("fd00:5::/32"), Link: "flannel0", Src: netip.MustParseAddr("fd00:5:22::")},
			{Dst: pfx("fd00:5::/32"), Type: Unreachable, Metric: LastMetric},
		},
		Sysctls: []Sysctl{{"net/ipv4/conf/flannel0/rp_filter", "2"}},
	}
}

const (
	udpRoutes = `10.5.0.0/16 dev flannel0 src 10.5.34.0
unreachable 10.5.0.0/16 metric 2147483647
fd00:5::/32 dev flannel0 src fd00:5:22:: metric 1024
unreachable fd00:5::/32 metric 2147483647`
	udpAddrs = "10.5.34.0/32 fd00:5:22::/128"
)

// link describes a device as far as a Link does.
func (h *host) link(name string) string {
	a := h.device(name).Attrs()
	return fmt.Sprintf("mtu %d qlen %d %v", a.MTU, a.TxQLen, strings.Split(a.Flags.String(), "|")[0])
}

func (h *host) sysctl(key string) (value string) {
	h.t.Helper()
	h.do(func() error {
		b, err := os.ReadFile("/proc/sys/" + key)
		value = strings.TrimSpace(string(b))
		return err
	})
	return value
}

func (h *host) wantUDPState() {
	h.t.Helper()
	h.want("link", func() string { return h.link("flannel0") }, "mtu 1472 qlen 500 up")
	h.want("addresses", func() string { return h.addrs("flannel0") }, udpAddrs)
	h.want("routes", func() string { return h.routes(RouteProtocol) }, udpRoutes)
	h.want("rp_filter", func() string { return h.sysctl("net/ipv4/conf/flannel0/rp_filter") }, "2")
	h.want("problems", func() string { return fmt.Sprint(h.Status()) }, "[]")
}

// Everything that another program changes is put back because of its netlink
// event: the timer is set to an hour.
func TestEventsHeal(t *testing.T) {
	pfx := netip.MustParsePrefix
	for _, c := range []struct {
		name   string
		change func(*host) error
		log    string // in exactly one line
	}{
		{"link down", func(h *host) error { return h.nl.LinkSetDown(h.device("flannel0")) },
			`object="link flannel0" was="was down"`},
		{"MTU", func(h *host) error { return h.nl.LinkSetMTU(h.device("flannel0"), 1400) },
			`object="link flannel0" was="MTU was 1400"`},
		{"queue", func(h *host) error { return h.nl.LinkSetTxQLen(h.device("flannel0"), 7) },
			`object="link flannel0" was="transmit queue was 7"`},
		{"IPv4 address", func(h *host) error {
			return h.nl.AddrDel(h.device("flannel0"), &netlink.Addr{IPNet: ipNet(pfx("10.5.34.0/32"))})
		}, `object="address 10.5.34.0/32 dev flannel0"`},
		{"IPv6 address", func(h *host) error {
			return h.nl.AddrDel(h.device("flannel0"), &netlink.Addr{IPNet: ipNet(pfx("fd00:5:22::/128"))})
		}, `object="address fd00:5:22::/128 dev flannel0"`},
		{"another address", func(h *host) error {
			return h.nl.AddrAdd(h.device("flannel0"), &netlink.Addr{IPNet: ipNet(pfx("10.5.99.0/32"))})
		}, `object="address 10.5.99.0/32 dev flannel0" was="should not be there"`},
		{"IPv4 route", func(h *host) error { return h.delRoute("10.5.0.0/16", 0) },
			`object="route 10.5.0.0/16 dev flannel0"`},
		{"IPv4 unreachable", func(h *host) error { return h.delRoute("10.5.0.0/16", LastMetric) },
			`object="route unreachable 10.5.0.0/16 metric 2147483647"`},
		{"IPv6 route", func(h *host) error { return h.delRoute("fd00:5::/32", 1024) },
			`object="route fd00:5::/32 dev flannel0"`},
		{"IPv6 unreachable", func(h *host) error { return h.delRoute("fd00:5::/32", LastMetric) },
			`object="route unreachable fd00:5::/32 metric 2147483647"`},
		{"a route in our name", func(h *host) error {
			return h.nl.RouteAdd(&netlink.Route{Dst: ipNet(pfx("10.6.0.0/16")), LinkIndex: h.device("flannel0").Attrs().Index,
				Scope: netlink.SCOPE_LINK, Protocol: RouteProtocol})
		}, `object="route 10.6.0.0/16" was="should not be there"`},
		{"our route changed", func(h *host) error {
			return h.nl.RouteReplace(&netlink.Route{Dst: ipNet(pfx("10.5.0.0/16")), LinkIndex: h.device("flannel0").Attrs().Index,
				Src: net.ParseIP("10.5.34.0"), Scope: netlink.SCOPE_LINK, Protocol: RouteProtocol, MTU: 1300})
		}, `object="route 10.5.0.0/16 dev flannel0" was="was different"`},
		{"a route in our name for one TOS", func(h *host) error {
			return h.nl.RouteAdd(&netlink.Route{Dst: ipNet(pfx("10.5.0.0/16")), LinkIndex: h.device("flannel0").Attrs().Index,
				Tos: 8, Scope: netlink.SCOPE_LINK, Protocol: RouteProtocol})
		}, `object="route 10.5.0.0/16" was="should not be there"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, time.Hour)
			h.apply(udpState())
			h.wantUDPState()
			if err := c.change(h); err != nil {
				t.Fatal(err)
			}
			h.wantUDPState()
			h.want("lines with "+c.log, func() string { return fmt.Sprint(h.log.count(c.log)) }, "1")
		})
	}
}

// The kernel announces no change of most parameters: the timer finds it. There
// is no link in the state, lest an event of it comes by chance.
func TestTimerHeals(t *testing.T) {
	h := newHost(t, 100*time.Millisecond)
	const key = "net/ipv4/ip_forward"
	h.apply(State{Sysctls: []Sysctl{{key, "1"}}})
	if err := h.ns.Sysctl(key, "0"); err != nil {
		t.Fatal(err)
	}
	h.want(key, func() string { return h.sysctl(key) }, "1")
	h.want("log", func() string { return fmt.Sprint(h.log.count(`object="sysctl net/ipv4/ip_forward" was="was 0"`)) }, "1")
}

// A device that goes is waited for, in one line, and everything on it comes
// back with it.
func TestDeviceGoneAndBack(t *testing.T) {
	h := newHost(t, time.Hour)
	h.apply(udpState())
	h.wantUDPState()
	if err := h.nl.LinkDel(h.device("flannel0")); err != nil {
		t.Fatal(err)
	}
	h.want("pending", func() string {
		pending := 0
		for _, p := range h.Status() {
			if p.Pending && !p.Since.IsZero() {
				pending++
			}
		}
		return fmt.Sprint(pending)
	}, "6") // the link, two addresses, two routes, the parameter
	h.want("routes", func() string { return h.routes(RouteProtocol) },
		"unreachable 10.5.0.0/16 metric 2147483647\nunreachable fd00:5::/32 metric 2147483647")
	if err := h.Apply(udpState()); err != nil {
		t.Errorf("Apply reports what is only pending: %v", err)
	}
	h.addDevice("flannel0")
	h.wantUDPState()
	if n := h.log.count(`msg=waits object="link flannel0" why="the link does not exist now"`); n != 1 {
		t.Errorf("the absent link is logged %d times", n)
	}
}

// Another program that changes the same thing over and over is named once, and
// after that weft changes it seldom, says so in Status, and gets there still.
func TestFightSlowsDown(t *testing.T) {
	h := newHost(t, time.Hour)
	h.apply(udpState())
	h.wantUDPState()
	mtu := func() string { return fmt.Sprint(h.device("flannel0").Attrs().MTU) }
	meddle := func() {
		if err := h.nl.LinkSetMTU(h.device("flannel0"), 1400); err != nil {
			t.Fatal(err)
		}
	}
	for range fightLimit + 1 {
		meddle()
		h.want("MTU", mtu, "1472")
	}
	// Once more, and the Status tells of it while it is so. Where this test is kept from
	// looking for as long as that takes, it is tried again: it takes twice as long then.
	h.want("MTU and problem", func() string {
		problem := ""
		if mtu() == "1472" && len(h.Status()) == 0 {
			meddle()
		}
		if s := h.Status(); len(s) == 1 {
			problem = s[0].Object + ": " + strings.Split(s[0].Err.Error(), ";")[0]
		}
		return mtu() + ", " + problem
	}, "1400, link flannel0: another program keeps changing it (MTU was 1400): find and stop that program")
	h.want("MTU", mtu, "1472")
	if n := h.log.count("level=WARN"); n != 1 {
		t.Errorf("%d warnings", n)
	}
	h.want("problems", func() string { return fmt.Sprint(h.Status()) }, "[]")
}
