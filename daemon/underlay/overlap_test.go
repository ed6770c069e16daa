package underlay

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

var own = subnet.Subnet{IPv4: netip.MustParsePrefix("10.5.34.0/24"), IPv6: netip.MustParsePrefix("fd00:5:22::/64")}

func (l *lan) checkOverlap(u tunnel.Underlay) (err error) {
	l.t.Helper()
	l.do(func() error { err = CheckOverlap(network, u, own, peers); return nil })
	return err
}

// port attaches a container to a bridge.
func (l *lan) port(bridge, name string) {
	l.t.Helper()
	container := labtest.Namespace(l.t, "container")
	if err := lab.Veth(lab.End{In: l.Namespace, Device: name}, lab.End{In: container, Device: "eth0"}, 1500); err != nil {
		l.t.Fatal(err)
	}
	if err := l.nl.LinkSetMaster(l.device(name), l.device(bridge)); err != nil {
		l.t.Fatal(err)
	}
}

var peers = []netip.Addr{netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")}

func TestCheckOverlap(t *testing.T) {
	const choose = ", or choose another network (weftd config set)"
	via := func(dst, gateway string) func(*lan) {
		return func(l *lan) { l.route(netlink.Route{Dst: ipNet(dst), Gw: net.ParseIP(gateway)}) }
	}
	dev := func(dst, device string, r netlink.Route) func(*lan) {
		return func(l *lan) {
			r.Dst, r.LinkIndex = ipNet(dst), l.device(device).Attrs().Index
			l.route(r)
		}
	}
	for _, c := range []struct {
		name     string
		setup    func(*lan)
		want     string // the start of the error; empty for none
		underlay string // eth0 if empty
	}{
		{"nothing special", func(*lan) {}, "", ""},
		{"the default route", via("0.0.0.0/0", "192.0.2.254"), "", ""},
		{"a less specific route", via("10.0.0.0/8", "192.0.2.254"), "", ""},
		{"a less specific IPv6 route", via("fd00::/8", "2001:db8::fe"), "", ""},
		{"a route beside", via("10.6.0.0/16", "192.0.2.254"), "", ""},
		{"our route", dev("10.5.0.0/16", "eth1", netlink.Route{Protocol: tunnel.RouteProtocol}), "", ""},
		{"flannel's device", func(l *lan) {
			l.bridge("flannel.1", "10.5.34.0/32")
			dev("10.5.7.0/24", "flannel.1", netlink.Route{})(l)
		}, "", ""},
		{"flannel's host-gw, to a peer", via("10.5.7.0/24", "192.0.2.7"), "", ""},
		{"flannel's host-gw, to an IPv6 peer", via("fd00:5:7::/64", "2001:db8::7"), "", ""},
		{"our bridge, in use", func(l *lan) { l.bridge("docker0", "10.5.34.1/24", "fd00:5:22::1/64"); l.port("docker0", "v1") }, "", ""},
		{"a container of ours without a bridge", dev("10.5.34.7/32", "eth1", netlink.Route{}), "", ""},
		{"an empty bridge of a former subnet", func(l *lan) { l.bridge("docker0", "10.5.99.1/24") }, "", ""},

		{"underlay in the network", func(l *lan) { l.addrs("eth0", "10.5.0.9/24") },
			"the cluster network 10.5.0.0/16 overlaps 10.5.0.9/24, the underlay's address on eth0: choose another network (weftd config set), or another interface (--iface)", "10.5.0.9"},
		{"underlay's prefix around the network", func(l *lan) { l.addrs("eth0", "10.200.0.9/8") },
			"the cluster network 10.5.0.0/16 overlaps 10.200.0.9/8, the underlay's address on eth0", "10.200.0.9"},
		{"IPv6 underlay in the network", func(l *lan) { l.addrs("eth0", "fd00:5:1::9/64") },
			"the cluster network fd00:5::/32 overlaps fd00:5:1::9/64, the underlay's address on eth0", "fd00:5:1::9"},
		{"a route to the network", via("10.5.0.0/16", "192.0.2.254"),
			"route 10.5.0.0/16 via 192.0.2.254 dev eth0 lies in the cluster network 10.5.0.0/16 and would take its packets: remove it (ip route del 10.5.0.0/16 via 192.0.2.254 dev eth0) and what makes it" + choose, ""},
		{"a route into the network", dev("10.5.7.0/24", "eth1", netlink.Route{Priority: 50}),
			"route 10.5.7.0/24 dev eth1 metric 50 lies in the cluster network 10.5.0.0/16 and would take its packets: remove it (ip route del 10.5.7.0/24 dev eth1 metric 50)", ""},
		{"an IPv6 route into the network", via("fd00:5:7::/64", "2001:db8::fe"),
			"route fd00:5:7::/64 via 2001:db8::fe dev eth0 metric 1024 lies in the cluster network fd00:5::/32", ""},
		{"a blackhole in the network", func(l *lan) { l.route(netlink.Route{Dst: ipNet("10.5.7.0/24"), Type: unix.RTN_BLACKHOLE}) },
			"route blackhole 10.5.7.0/24 lies in the cluster network", ""},
		{"another way into our subnet", via("10.5.34.0/26", "192.0.2.254"), "route 10.5.34.0/26 via 192.0.2.254 dev eth0 lies in the cluster network", ""},
		{"a prefix connected to another interface", func(l *lan) { l.addrs("eth1", "10.5.50.1/24") }, "route 10.5.50.0/24 dev eth1 lies in the cluster network", ""},
		{"a bridge with containers of a former subnet", func(l *lan) { l.bridge("docker0", "10.5.99.1/24"); l.port("docker0", "v1"); l.port("docker0", "v2") },
			"bridge docker0 has 10.5.99.0/24 and 2 attached devices; it lies in the cluster network 10.5.0.0/16, but not in this node's subnet (10.5.34.0/24 fd00:5:22::/64): restart what manages the bridge", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLAN(t)
			l.addrs("eth0", "192.0.2.1/24", "2001:db8::1/64")
			c.setup(l)
			underlay := "eth0"
			if c.underlay != "" {
				underlay = c.underlay
			}
			u, _, err := l.choose(Options{Ifaces: []string{underlay}})
			if err != nil {
				t.Fatal(err)
			}
			err = l.checkOverlap(u)
			switch {
			case c.want == "" && err != nil:
				t.Error(err)
			case c.want != "" && (err == nil || !strings.HasPrefix(err.Error(), c.want)):
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestCheckOverlapIPv4Only(t *testing.T) {
	l := newLAN(t)
	l.addrs("eth0", "192.0.2.1/24")
	l.route(netlink.Route{Dst: ipNet("fd00:5:7::/64"), LinkIndex: l.device("eth1").Attrs().Index})
	u, _, err := l.choose(Options{Ifaces: []string{"eth0"}})
	if err != nil {
		t.Fatal(err)
	}
	l.do(func() error {
		return CheckOverlap(tunnel.Network{IPv4: network.IPv4}, u, subnet.Subnet{IPv4: own.IPv4}, peers)
	})
	u.Index = 9999
	l.do(func() error {
		if err := CheckOverlap(network, u, own, peers); err == nil || !strings.Contains(err.Error(), "find underlay interface eth0") {
			t.Errorf("got %v", err)
		}
		return nil
	})
}

func TestContainersOn(t *testing.T) {
	l := newLAN(t)
	count := func() (text string) {
		l.do(func() error {
			c, err := ContainersOn(own)
			text = fmt.Sprint(c.Bridge, " ", len(c.MTUs))
			if c.Larger(1499) != len(c.MTUs) || c.Larger(1500) != 0 {
				t.Errorf("MTUs %v", c.MTUs)
			}
			return err
		})
		return text
	}
	want := func(want string) {
		t.Helper()
		if got := count(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	want(" 0")
	l.addrs("eth1", "10.5.34.9/24") // not a bridge
	l.bridge("cbr0", "172.17.0.1/16")
	l.port("cbr0", "v0")
	want(" 0")
	l.bridge("docker0", "10.5.34.1/24")
	want("docker0 0")
	l.port("docker0", "v1")
	l.port("docker0", "v2")
	want("docker0 2")
	// What counts is the container's end.
	if err := l.nl.LinkSetMTU(l.device("v1"), 1400); err != nil {
		t.Fatal(err)
	}
	want("docker0 2")
	l.bridge("cni0", "fd00:5:22::1/64")
	l.port("cni0", "v3")
	want("docker0 2")
	for _, v := range []string{"v1", "v2"} {
		if err := l.LinkDelete(v); err != nil {
			t.Fatal(err)
		}
	}
	want("cni0 1")
}
