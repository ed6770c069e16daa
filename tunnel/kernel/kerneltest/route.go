package kerneltest

import (
	"net/netip"
	"testing"
)

// Route moves a host to a network of its own, 198.51.100.0/24, and makes a
// router of the lab's switch. The node's Underlay is the caller's to change.
func Route(t *testing.T, l *Lab, n *Node, to netip.Addr) {
	t.Helper()
	network := netip.PrefixFrom(to, 24)
	router := netip.MustParseAddr("198.51.100.254")
	for key, value := range map[string]string{
		"net/ipv4/ip_forward": "1",
		// Both networks are on one wire, which the router must not tell.
		"net/ipv4/conf/all/send_redirects":     "0",
		"net/ipv4/conf/default/send_redirects": "0",
		"net/ipv4/conf/br0/send_redirects":     "0",
	} {
		Check(t, l.Switch.Sysctl(key, value))
	}
	Check(t, l.Switch.AddAddr("br0", netip.PrefixFrom(router, 24)))
	Check(t, n.DelDefaultRoutes())
	Check(t, n.AddAddr("eth0", network))
	n.IP(t, "addr", "del", netip.PrefixFrom(n.IPv4, 24).String(), "dev", "eth0")
	Check(t, n.AddRoute(netip.MustParsePrefix("0.0.0.0/0"), router))
}
