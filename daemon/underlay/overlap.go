package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// CheckOverlap returns an error, which says what to do, if this host already
// uses a part of the cluster network for something else, so that packets would
// take another way than the overlay: the underlay's addresses and the prefixes
// they connect, and every route in the main table to the network or a part of
// it. Less specific routes are no harm, nor are weft's own, those of flannel
// devices or via one of peers (flannel's host-gw), those of own, this node's
// subnet, and those of bridges that nothing is attached to.
func CheckOverlap(network tunnel.Network, u tunnel.Underlay, own subnet.Subnet, peers []netip.Addr) error {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	c := check{h: h, network: network, own: own, peers: peers}
	if err := c.underlay(u); err != nil {
		return err
	}
	var former *FormerBridgeError
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		if err := c.routes(family); err != nil && !errors.As(err, &former) {
			return err
		}
	}
	if former != nil {
		return former
	}
	return nil
}

// FormerBridgeError says that containers are attached to a bridge with a
// subnet that is not this node's any more. They are not reached until their
// bridge has the new one; all else works. CheckOverlap returns it only if
// there is no other error.
type FormerBridgeError struct{ text string }

func (e *FormerBridgeError) Error() string { return e.text }

type check struct {
	h       *netlink.Handle
	network tunnel.Network
	own     subnet.Subnet
	peers   []netip.Addr // public IPs of other nodes
}

// overlapped returns the cluster network of the prefix's family if the two
// share addresses.
func (c check) overlapped(p netip.Prefix) (netip.Prefix, bool) {
	n := c.network.IPv4
	if p.Addr().Is6() {
		n = c.network.IPv6
	}
	return n, n.IsValid() && p.IsValid() && n.Overlaps(p)
}

func (c check) underlay(u tunnel.Underlay) error {
	l, err := c.h.LinkByIndex(u.Index)
	if err != nil {
		return fmt.Errorf("find underlay interface %s: %w", u.Name, err)
	}
	addrs, err := consistent(func() ([]netlink.Addr, error) { return c.h.AddrList(l, netlink.FAMILY_ALL) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", u.Name, err)
	}
	for _, a := range addrs {
		p := prefixOf(a.IPNet)
		if p.Addr() != u.IPv4 && p.Addr() != u.IPv6 {
			continue
		}
		if n, ok := c.overlapped(p.Masked()); ok {
			return fmt.Errorf("the cluster network %v overlaps %v, the underlay's address on %s: choose another network (weftd config set), or another interface (--iface)",
				n, p, u.Name)
		}
	}
	return nil
}

func (c check) routes(family int) error {
	var inside []netlink.Route
	err := c.h.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		dst := prefixOf(r.Dst)
		if n, ok := c.overlapped(dst); ok && dst.Bits() >= n.Bits() && r.Protocol != tunnel.RouteProtocol {
			inside = append(inside, r)
		}
		return true
	})
	if err != nil && !errors.Is(err, unix.ENOENT) { // no route, no table
		return fmt.Errorf("list routes: %w", err)
	}
	var former *FormerBridgeError
	for _, r := range inside {
		if err := c.route(r); err != nil && !errors.As(err, &former) {
			return err
		}
	}
	if former != nil {
		return former
	}
	return nil
}

// route judges a route to the network or a part of it.
func (c check) route(r netlink.Route) error {
	dst := prefixOf(r.Dst)
	n, _ := c.overlapped(dst)
	if len(r.MultiPath) > 0 {
		r.LinkIndex = r.MultiPath[0].LinkIndex
	}
	device, isBridge := "", false
	if l, err := c.h.LinkByIndex(r.LinkIndex); err == nil {
		device, isBridge = l.Attrs().Name, l.Type() == "bridge"
	}
	if strings.HasPrefix(device, "flannel") {
		return nil
	}
	if via, ok := netip.AddrFromSlice(r.Gw); ok && slices.Contains(c.peers, via.Unmap()) {
		return nil
	}
	if connected := r.Gw == nil && r.Via == nil && r.MultiPath == nil && r.Type == unix.RTN_UNICAST; connected {
		if inSubnet(c.own, dst) {
			return nil
		}
		if isBridge {
			// The bridge of a former subnet: what manages it gets to know the
			// new one only when the overlay is up.
			ports, err := portsOf(c.h, r.LinkIndex)
			if err != nil {
				return err
			}
			if len(ports) == 0 {
				return nil
			}
			return &FormerBridgeError{fmt.Sprintf("bridge %s has %v and %d attached devices; it lies in the cluster network %v, but not in this node's subnet (%v): "+
				"restart what manages the bridge with the subnet of this node (for docker0 that is Docker), or choose another network (weftd config set)",
				device, dst, len(ports), n, c.own)}
		}
	}
	text := routeText(r, dst, device)
	return fmt.Errorf("route %s lies in the cluster network %v and would take its packets: remove it (ip route del %s) and what makes it, or choose another network (weftd config set)",
		text, n, text)
}

func inSubnet(s subnet.Subnet, dst netip.Prefix) bool {
	for _, p := range []netip.Prefix{s.IPv4, s.IPv6} {
		if p.IsValid() && p.Overlaps(dst) && p.Bits() <= dst.Bits() {
			return true
		}
	}
	return false
}

// routeText says a route in the words of the ip command, so that it can be
// pasted.
func routeText(r netlink.Route, dst netip.Prefix, device string) string {
	text := dst.String()
	switch r.Type {
	case unix.RTN_UNREACHABLE:
		return "unreachable " + text
	case unix.RTN_BLACKHOLE:
		return "blackhole " + text
	case unix.RTN_PROHIBIT:
		return "prohibit " + text
	}
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		text += " via " + via.Unmap().String()
	}
	if device != "" && len(r.MultiPath) == 0 {
		text += " dev " + device
	}
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	return text
}
