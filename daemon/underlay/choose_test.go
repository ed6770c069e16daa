package underlay

import (
	"errors"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/weftnet/weft/tunnel"
)

var network = tunnel.Network{IPv4: netip.MustParsePrefix("10.5.0.0/16"), IPv6: netip.MustParsePrefix("fd00:5::/32")}

// testHost has the addresses in the order in which readHost leaves them.
func testHost() *host {
	p := func(s string) addr { return addr{Prefix: netip.MustParsePrefix(s)} }
	return &host{
		ifaces: []*iface{
			{name: "lo", index: 1, mtu: 65536, up: true, loopback: true, addrs: []addr{p("127.0.0.1/8"), p("203.0.113.77/32"), p("::1/128")}},
			{name: "eth0", index: 2, mtu: 1500, up: true, addrs: []addr{
				{Prefix: netip.MustParsePrefix("192.0.2.9/24"), deprecated: true}, p("192.0.2.1/24"), p("192.0.2.2/24"),
				{Prefix: netip.MustParsePrefix("2001:db8::9/64"), tentative: true}, p("2001:db8::1/64"), p("fe80::1/64")}},
			{name: "eth1", index: 3, mtu: 9000, up: true, addrs: []addr{p("198.51.100.1/24"), p("198.51.100.2/24")}},
			{name: "eth2", index: 4, mtu: 1500, addrs: []addr{p("203.0.113.1/24")}},
			{name: "eth3", index: 5, mtu: 1500, up: true, addrs: []addr{p("fe80::3/64")}},
			{name: "eth4", index: 6, mtu: 1500, up: true},
			{name: "eth5", index: 7, mtu: 1500, up: true, addrs: []addr{p("10.5.9.9/24"), p("169.254.7.7/16")}},
			{name: "eth6", index: 8, mtu: 1500, up: true, addrs: []addr{p("10.5.8.8/24")}},
			{name: "eth7", index: 9, mtu: 1280, up: true, addrs: []addr{p("2001:db8:7::7/64")}},
			{name: "docker0", index: 10, mtu: 1500, up: true, addrs: []addr{p("172.17.0.1/16")}},
			{name: "flannel.1", index: 11, mtu: 1450, up: true, addrs: []addr{p("10.5.34.0/32")}},
		},
		defaults: []route{{index: 2, metric: 100}, {index: 3, metric: 200}, {is6: true, index: 9, metric: 1024}},
		lookup: func(to netip.Addr) (int, netip.Addr, error) {
			switch to.String() {
			case "198.51.100.7":
				return 3, netip.MustParseAddr("198.51.100.2"), nil
			case "10.5.9.1":
				return 7, netip.MustParseAddr("10.5.9.9"), nil
			}
			return 0, netip.Addr{}, errors.New("no route to it")
		},
	}
}

func TestChoose(t *testing.T) {
	res := func(list ...string) (all []*regexp.Regexp) {
		for _, s := range list {
			all = append(all, regexp.MustCompile(s))
		}
		return all
	}
	ip := netip.MustParseAddr
	for _, c := range []struct {
		name string
		o    Options
		want string // name, addresses, public addresses; or part of the error
	}{
		{"default route", Options{}, "eth0 192.0.2.1 2001:db8::1 192.0.2.1 2001:db8::1"},
		{"by name", Options{Ifaces: []string{"eth1"}}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"by IPv4 address", Options{Ifaces: []string{"192.0.2.2"}}, "eth0 192.0.2.2 2001:db8::1 192.0.2.2 2001:db8::1"},
		{"by IPv6 address", Options{Ifaces: []string{"2001:db8::1"}}, "eth0 192.0.2.1 2001:db8::1 192.0.2.1 2001:db8::1"},
		{"by deprecated address", Options{Ifaces: []string{"192.0.2.9"}}, "eth0 192.0.2.9 2001:db8::1 192.0.2.9 2001:db8::1"},
		{"by address in the network", Options{Ifaces: []string{"10.5.9.9"}}, "eth5 10.5.9.9 - 10.5.9.9 -"},
		{"by name of a container bridge", Options{Ifaces: []string{"docker0"}}, "docker0 172.17.0.1 - 172.17.0.1 -"},
		{"in order", Options{Ifaces: []string{"eth9", "eth1", "eth0"}}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"the down one is passed over", Options{Ifaces: []string{"eth2", "eth1"}}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"IPv4 link-local if there is nothing else", Options{Ifaces: []string{"eth5"}}, "eth5 169.254.7.7 - 169.254.7.7 -"},
		{"IPv6 only", Options{Ifaces: []string{"eth7"}}, "eth7 - 2001:db8:7::7 - 2001:db8:7::7"},

		{"regex of addresses", Options{IfaceRegexes: res(`\.2$`)}, "eth0 192.0.2.2 2001:db8::1 192.0.2.2 2001:db8::1"},
		{"regex of addresses before names", Options{IfaceRegexes: res(`^eth0$|^198`)}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"regex of IPv6 addresses", Options{IfaceRegexes: res(`^2001:db8:7:`)}, "eth7 - 2001:db8:7::7 - 2001:db8:7::7"},
		{"regex of names", Options{IfaceRegexes: res(`eth[1-3]`)}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"regexes in order", Options{IfaceRegexes: res(`^wlan`, `eth1`, `eth0`)}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"names before regexes", Options{Ifaces: []string{"eth1"}, IfaceRegexes: res(`eth0`), CanReach: ip("10.5.9.1")}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"regex skips what is for containers", Options{IfaceRegexes: res(`^172\.|^10\.5\.34|lo|docker|flannel|eth1`)}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"regexes after names", Options{Ifaces: []string{"eth9"}, IfaceRegexes: res(`eth1`)}, "eth1 198.51.100.1 - 198.51.100.1 -"},

		{"can reach", Options{CanReach: ip("198.51.100.7")}, "eth1 198.51.100.2 - 198.51.100.2 -"},
		{"can reach after regexes", Options{IfaceRegexes: res(`wlan`), CanReach: ip("198.51.100.7")}, "eth1 198.51.100.2 - 198.51.100.2 -"},

		{"public IP of an interface", Options{PublicIP: ip("198.51.100.2")}, "eth1 198.51.100.2 - 198.51.100.2 -"},
		{"public IPv6 of an interface", Options{PublicIPv6: ip("2001:db8:7::7")}, "eth7 - 2001:db8:7::7 - 2001:db8:7::7"},
		{"public IP behind NAT", Options{PublicIP: ip("8.8.8.8")}, "eth0 192.0.2.1 2001:db8::1 8.8.8.8 2001:db8::1"},
		{"public IPs behind NAT", Options{PublicIP: ip("8.8.8.8"), PublicIPv6: ip("2001:4860::8")}, "eth0 192.0.2.1 2001:db8::1 8.8.8.8 2001:4860::8"},
		{"public IP beside a name", Options{Ifaces: []string{"eth0"}, PublicIP: ip("198.51.100.2")}, "eth0 192.0.2.1 2001:db8::1 198.51.100.2 2001:db8::1"},

		{"unknown name", Options{Ifaces: []string{"eth9"}}, "--iface eth9: no interface has this name"},
		{"unknown address", Options{Ifaces: []string{"192.0.2.77"}}, "--iface 192.0.2.77: no interface has this address"},
		{"down", Options{Ifaces: []string{"eth2"}}, "--iface eth2: eth2 is down: bring it up (ip link set eth2 up)"},
		{"no address", Options{Ifaces: []string{"eth4"}}, "--iface eth4: eth4 has no address;"},
		{"link-local only", Options{Ifaces: []string{"eth3"}}, "eth3 has no address that can be used (fe80::3 is link-local)"},
		{"link-local named", Options{Ifaces: []string{"fe80::3"}}, "eth3 has no address that can be used (fe80::3 is link-local)"},
		{"in the network", Options{Ifaces: []string{"eth6"}}, "(10.5.8.8 lies in the cluster network 10.5.0.0/16)"},
		{"tentative", Options{Ifaces: []string{"2001:db8::9"}}, "(2001:db8::9 is still being checked for duplicates, or is one)"},
		{"two reasons", Options{Ifaces: []string{"eth2", "eth4"}}, "eth2 is down: bring it up (ip link set eth2 up); --iface eth4: eth4 has no address"},
		{"regex without match", Options{IfaceRegexes: res(`wlan`)}, "--iface-regex wlan: no address and no interface name matches"},
		{"regex of what is for containers", Options{IfaceRegexes: res(`docker`)}, "docker0 belongs to containers; if it is meant, name it with --iface"},
		{"loopback", Options{IfaceRegexes: res(`^lo$`)}, "lo is the loopback device; if it is meant, name it with --iface"},
		{"cannot reach", Options{CanReach: ip("203.0.113.9")}, "--iface-can-reach 203.0.113.9: no route to it"},
		{"reaches from the network", Options{CanReach: ip("10.5.9.1")}, "(10.5.9.9 lies in the cluster network 10.5.0.0/16)"},
		{"public IP without IPv4", Options{Ifaces: []string{"eth7"}, PublicIP: ip("8.8.8.8")}, "eth7 has no IPv4 address to go with --public-ip 8.8.8.8"},
		{"public IPv6 without IPv6", Options{Ifaces: []string{"eth1"}, PublicIPv6: ip("2001:4860::8")}, "eth1 has no IPv6 address to go with --public-ipv6 2001:4860::8"},
		{"what could be named", Options{Ifaces: []string{"eth9"}}, "interfaces with addresses: eth0 [192.0.2.9 192.0.2.1 192.0.2.2 2001:db8::9 2001:db8::1], eth1 [198.51.100.1 198.51.100.2], eth2"},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.o.Network = network
			u, candidates, err := testHost().choose(c.o)
			got := summary(u)
			if err != nil {
				if u != (tunnel.Underlay{}) {
					t.Errorf("%v beside an error", u)
				}
				if got = err.Error(); strings.Contains(got, c.want) {
					got = c.want
				}
			}
			if got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
			for _, cand := range candidates {
				if cand.Chosen != (err == nil && cand.Name == u.Name) || cand.Why == "" {
					t.Errorf("candidate %+v", cand)
				}
			}
		})
	}
}

func summary(u tunnel.Underlay) string {
	text := u.Name
	for _, a := range []netip.Addr{u.IPv4, u.IPv6, u.PublicIPv4, u.PublicIPv6} {
		if a.IsValid() {
			text += " " + a.String()
		} else {
			text += " -"
		}
	}
	return text
}

func TestDefaultRoutes(t *testing.T) {
	for _, c := range []struct {
		name     string
		defaults []route
		want     string
	}{
		{"none", nil, "there is no default route: say which interface with --iface, --iface-regex or --iface-can-reach"},
		{"the next if the best is down", []route{{index: 4}, {index: 3, metric: 9}}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"IPv6 without IPv4", []route{{is6: true, index: 9}}, "eth7 - 2001:db8:7::7 - 2001:db8:7::7"},
		{"no IPv6 in place of a bad IPv4", []route{{index: 4}, {is6: true, index: 9}}, "IPv4 default route: eth2 is down"},
		{"its source address", []route{{index: 2, source: netip.MustParseAddr("192.0.2.2")}}, "eth0 192.0.2.2 2001:db8::1 192.0.2.2 2001:db8::1"},
		{"a source address on the loopback device", []route{{index: 5, source: netip.MustParseAddr("203.0.113.77")}}, "eth3 203.0.113.77 - 203.0.113.77 -"},
		{"a source address that has gone meanwhile", []route{{index: 3, source: netip.MustParseAddr("203.0.113.78")}}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"interface gone meanwhile", []route{{index: 99}, {index: 3}}, "eth1 198.51.100.1 - 198.51.100.1 -"},
	} {
		h := testHost()
		h.defaults = c.defaults
		u, _, err := h.choose(Options{Network: network})
		got := summary(u)
		if err != nil {
			if got = err.Error(); strings.Contains(got, c.want) {
				got = c.want
			}
		}
		if got != c.want {
			t.Errorf("%s: got  %s\nwant %s", c.name, got, c.want)
		}
	}
}

func TestCandidatesSayWhy(t *testing.T) {
	_, candidates, err := testHost().choose(Options{Ifaces: []string{"eth2", "eth0"}, Network: network})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, c := range candidates[:3] {
		got = append(got, c.Name+": "+c.Why)
	}
	want := `eth0: --iface eth0: takes 192.0.2.1 and 2001:db8::1
eth1: nothing leads to it
eth2: --iface eth2, but is down: bring it up (ip link set eth2 up)`
	if s := strings.Join(got, "\n"); s != want {
		t.Errorf("got\n%s\nwant\n%s", s, want)
	}
}
