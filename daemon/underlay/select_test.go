package underlay

import (
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The kernel's own lists lead to the choice that the tables of TestChoose
// describe.
func TestSelect(t *testing.T) {
	l := newLAN(t)
	l.addrs("eth0", "192.0.2.1/24", "192.0.2.2/24", "2001:db8::1/64", "2001:db8::2/64")
	l.addrs("eth1", "198.51.100.1/24")
	l.bridge("docker0", "172.17.0.1/16")
	l.defaultVia("192.0.2.254", 100)
	l.defaultVia("198.51.100.254", 50)
	l.defaultVia("2001:db8::fe", 0)

	ip := netip.MustParseAddr
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"default route with the best metric", Options{}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"name", Options{Ifaces: []string{"eth0"}}, "eth0 192.0.2.1 2001:db8::1 192.0.2.1 2001:db8::1"},
		{"secondary address", Options{Ifaces: []string{"192.0.2.2"}}, "eth0 192.0.2.2 2001:db8::1 192.0.2.2 2001:db8::1"},
		{"regex", Options{IfaceRegexes: []*regexp.Regexp{regexp.MustCompile(`^2001:.*::2$`)}}, "eth0 192.0.2.1 2001:db8::2 192.0.2.1 2001:db8::2"},
		{"can reach a neighbour", Options{CanReach: ip("192.0.2.77")}, "eth0 192.0.2.1 2001:db8::1 192.0.2.1 2001:db8::1"},
		{"can reach the world", Options{CanReach: ip("8.8.8.8")}, "eth1 198.51.100.1 - 198.51.100.1 -"},
		{"can reach by IPv6, with the kernel's source", Options{CanReach: ip("2001:db8::77")}, "eth0 192.0.2.1 2001:db8::2 192.0.2.1 2001:db8::2"},
		{"public IP", Options{PublicIP: ip("192.0.2.2")}, "eth0 192.0.2.2 2001:db8::1 192.0.2.2 2001:db8::1"},
	} {
		u, candidates, err := l.choose(c.o)
		if got := summary(u); err != nil || got != c.want {
			t.Errorf("%s: got %s, %v; want %s", c.name, got, err, c.want)
		}
		if u.MTU != 1500 || u.Index != l.device(u.Name).Attrs().Index {
			t.Errorf("%s: MTU %d, index %d", c.name, u.MTU, u.Index)
		}
		if len(candidates) != 3 {
			t.Errorf("%s: candidates %v", c.name, candidates)
		}
	}
	for to, want := range map[string]string{
		"192.0.2.1": "--iface-can-reach 192.0.2.1: it is an address of this host; name another node's",
		"2001::1":   "", // by the default route
	} {
		if _, _, err := l.choose(Options{CanReach: ip(to)}); (want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("reaching %s: %v", to, err)
		}
	}
}

func TestSelectWithoutDefaultRoute(t *testing.T) {
	l := newLAN(t)
	l.addrs("eth0", "192.0.2.1/24")
	_, candidates, err := l.choose(Options{})
	want := "no interface for the underlay: there is no default route: say which interface with --iface, --iface-regex or --iface-can-reach; interfaces with addresses: eth0 [192.0.2.1]"
	if err == nil || err.Error() != want {
		t.Errorf("got %v\nwant %s", err, want)
	}
	if len(candidates) != 1 || candidates[0].Chosen {
		t.Errorf("candidates %v", candidates)
	}
	if _, _, err := l.choose(Options{CanReach: netip.MustParseAddr("8.8.8.8")}); err == nil || !strings.Contains(err.Error(), "no route to it: network is unreachable") {
		t.Errorf("got %v", err)
	}

	l.addrs("eth1", "2001:db8::1/64")
	l.defaultVia("2001:db8::fe", 0)
	if u, _, err := l.choose(Options{}); err != nil || summary(u) != "eth1 - 2001:db8::1 - 2001:db8::1" {
		t.Errorf("with an IPv6 default route: %v, %v", u, err)
	}
}

func TestSelectPassesOverWhatCannotBeUsed(t *testing.T) {
	l := newLAN(t)
	l.addrs("eth0", "10.5.1.1/24", "192.0.2.1/24")
	l.addrs("eth1", "198.51.100.1/24")
	if err := l.nl.AddrAdd(l.device("eth0"), &netlink.Addr{IPNet: ipNet("2001:db8::1/64"), Flags: unix.IFA_F_NODAD, ValidLft: 1000, PreferedLft: 0}); err != nil {
		t.Fatal(err) // deprecated: valid, but not preferred
	}
	// An address with nobody to answer is tentative for a second.
	if err := l.nl.AddrAdd(l.device("eth0"), &netlink.Addr{IPNet: ipNet("2001:db8::2/64")}); err != nil {
		t.Fatal(err)
	}
	u, _, err := l.choose(Options{Ifaces: []string{"eth0"}})
	if err != nil || summary(u) != "eth0 192.0.2.1 - 192.0.2.1 -" {
		t.Errorf("got %v, %v", summary(u), err)
	}
	if err := l.LinkDown("eth1"); err != nil {
		t.Fatal(err)
	}
	if _, _, err := l.choose(Options{Ifaces: []string{"eth1"}}); err == nil || !strings.Contains(err.Error(), "eth1 is down: bring it up (ip link set eth1 up)") {
		t.Errorf("got %v", err)
	}
	waitFor(t, "the end of duplicate address detection", func() bool {
		u, _, err = l.choose(Options{Ifaces: []string{"eth0"}})
		return err == nil && summary(u) == "eth0 192.0.2.1 2001:db8::2 192.0.2.1 2001:db8::2"
	})
}

func TestSelectRefusesPublicIPsOfTheOtherFamily(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{PublicIP: netip.MustParseAddr("2001:db8::1")}, "--public-ip 2001:db8::1 is not an IPv4 address: use --public-ipv6"},
		{Options{PublicIPv6: netip.MustParseAddr("192.0.2.1")}, "--public-ipv6 192.0.2.1 is not an IPv6 address: use --public-ip"},
	} {
		if _, _, err := Select(c.o); err == nil || err.Error() != c.want {
			t.Errorf("got %v, want %s", err, c.want)
		}
	}
}
