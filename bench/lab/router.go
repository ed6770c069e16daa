package lab

import (
	"fmt"
	"net/netip"
)

// The networks to which MoveBehindRouter moves hosts.
var (
	FarIPv4 = netip.MustParsePrefix("198.51.100.0/24")
	FarIPv6 = netip.MustParsePrefix("2001:db8:58::/64")
)

// MoveBehindRouter gives hosts addresses of another underlay network instead of
// those they have, in each family of theirs, and makes the switch the router
// between the two. It is for hosts on which nothing runs yet, and which are not
// plugged in again later.
func (c *Cluster) MoveBehindRouter(hosts ...*Host) error {
	keys := map[string]string{
		"net/ipv4/ip_forward":          "1",
		"net/ipv6/conf/all/forwarding": "1",
	}
	// Both networks are on one wire, which the router must not tell.
	for _, device := range []string{"all", "default", "br0"} {
		keys["net/ipv4/conf/"+device+"/send_redirects"] = "0"
	}
	for key, value := range keys {
		if err := c.Switch.Sysctl(key, value); err != nil {
			return err
		}
	}
	for _, network := range c.networks() {
		far := FarIPv4
		if network.Addr().Is6() {
			far = FarIPv6
			// The kernel has no switch for ICMPv6 redirects; the hosts do.
			for _, h := range c.Hosts {
				if err := h.Sysctl("net/ipv6/conf/all/accept_redirects", "0"); err != nil {
					return err
				}
				if err := h.Sysctl("net/ipv6/conf/eth0/accept_redirects", "0"); err != nil {
					return err
				}
			}
		}
		if err := c.Switch.AddAddr("br0", nthAddr(far, switchNumber)); err != nil {
			return err
		}
		for _, h := range hosts {
			if err := h.move(network, far); err != nil {
				return fmt.Errorf("move host %d behind the router: %w", h.Number, err)
			}
		}
	}
	return nil
}

// move gives the host an address of another network, and its default route.
func (h *Host) move(from, to netip.Prefix) error {
	addr := nthAddr(to, h.Number)
	anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if to.Addr().Is6() {
		anywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		h.IPv6 = addr.Addr()
	} else {
		h.IPv4 = addr.Addr()
	}
	if err := h.DelRoute(anywhere, nthAddr(from, switchNumber).Addr()); err != nil {
		return err
	}
	if err := h.AddAddr("eth0", addr); err != nil {
		return err
	}
	if err := h.DelAddr("eth0", nthAddr(from, h.Number)); err != nil {
		return err
	}
	return h.AddRoute(anywhere, nthAddr(to, switchNumber).Addr())
}
