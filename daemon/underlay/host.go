package underlay

import (
	"cmp"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// host is what the choice is made from.
type host struct {
	ifaces   []*iface // by index
	defaults []route  // default routes, IPv4 first, then by metric

	// lookup finds the interface and source address of the route to an
	// address, as `ip route get` does.
	lookup func(netip.Addr) (index int, source netip.Addr, err error)
}

// route is a default route.
type route struct {
	is6    bool
	index  int // of the interface
	metric int
	source netip.Addr // preferred, or zero
}

type iface struct {
	name         string
	index        int
	mtu          int
	up, loopback bool
	addrs        []addr // in the order of preference, each family
}

type addr struct {
	netip.Prefix
	deprecated bool
	tentative  bool // duplicate address detection is not over, or has failed
	secondary  bool // IPv4: another address of the same prefix came first
	temporary  bool // IPv6: RFC 8981
	dynamic    bool // IPv6: by router advertisement or DHCP
}

func readHost(h *netlink.Handle) (*host, error) {
	links, err := consistent(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	host := &host{lookup: func(to netip.Addr) (int, netip.Addr, error) { return lookup(h, to) }}
	byIndex := make(map[int]*iface, len(links))
	for _, l := range links {
		a := l.Attrs()
		i := &iface{name: a.Name, index: a.Index, mtu: a.MTU, up: a.Flags&net.FlagUp != 0, loopback: a.Flags&net.FlagLoopback != 0}
		byIndex[i.index] = i
		host.ifaces = append(host.ifaces, i)
	}
	slices.SortFunc(host.ifaces, func(a, b *iface) int { return cmp.Compare(a.index, b.index) })
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		addrs, err := consistent(func() ([]netlink.Addr, error) { return h.AddrList(nil, family) })
		if err != nil {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
		if family == netlink.FAMILY_V6 {
			// The kernel lists the newest first; the oldest is preferred, so
			// that one that is added changes nothing.
			slices.Reverse(addrs)
		}
		for _, a := range addrs {
			if i := byIndex[a.LinkIndex]; i != nil && a.IPNet != nil {
				i.addrs = append(i.addrs, newAddr(a))
			}
		}
		if err := host.readDefaults(h, family); err != nil {
			return nil, fmt.Errorf("list routes: %w", err)
		}
	}
	for _, i := range host.ifaces {
		slices.SortStableFunc(i.addrs, func(a, b addr) int { return cmp.Compare(a.rank(), b.rank()) })
	}
	return host, nil
}

func newAddr(a netlink.Addr) addr {
	is := func(flag int) bool { return a.Flags&flag != 0 }
	is6 := a.IP.To4() == nil
	return addr{
		Prefix:     prefixOf(a.IPNet),
		deprecated: is(unix.IFA_F_DEPRECATED),
		tentative:  is(unix.IFA_F_TENTATIVE|unix.IFA_F_DADFAILED) && !is(unix.IFA_F_OPTIMISTIC),
		// The next two are one bit, with a meaning for each family.
		secondary: !is6 && is(unix.IFA_F_SECONDARY),
		temporary: is6 && is(unix.IFA_F_TEMPORARY),
		dynamic:   is6 && !is(unix.IFA_F_PERMANENT),
	}
}

// rank orders addresses by how well they identify a host, best first.
func (a addr) rank() int {
	switch {
	case a.Addr().IsLinkLocalUnicast():
		return 3
	case a.temporary, a.secondary:
		return 2
	case a.dynamic:
		return 1
	}
	return 0
}

// readDefaults adds the family's default routes, best first.
func (host *host) readDefaults(h *netlink.Handle, family int) error {
	var found []route
	err := h.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE, func(r netlink.Route) bool {
		if prefixOf(r.Dst).Bits() != 0 || r.Type != unix.RTN_UNICAST {
			return true
		}
		if len(r.MultiPath) > 0 {
			r.LinkIndex = r.MultiPath[0].LinkIndex
		}
		source, _ := netip.AddrFromSlice(r.Src)
		found = append(found, route{family == netlink.FAMILY_V6, r.LinkIndex, r.Priority, source.Unmap()})
		return true
	})
	if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
		return err
	}
	slices.SortStableFunc(found, func(a, b route) int { return cmp.Compare(a.metric, b.metric) })
	host.defaults = append(host.defaults, found...)
	return nil
}

func lookup(h *netlink.Handle, to netip.Addr) (int, netip.Addr, error) {
	routes, err := h.RouteGet(to.AsSlice())
	switch {
	case err != nil:
		return 0, netip.Addr{}, fmt.Errorf("no route to it: %w", err)
	case len(routes) == 0 || routes[0].LinkIndex == 0:
		return 0, netip.Addr{}, errors.New("no route to it")
	case routes[0].Type == unix.RTN_LOCAL:
		return 0, netip.Addr{}, errors.New("it is an address of this host; name another node's")
	}
	source, _ := netip.AddrFromSlice(routes[0].Src)
	return routes[0].LinkIndex, source.Unmap(), nil
}

// consistent repeats a dump that changes have interrupted; the last attempt is
// taken as it is, since the event of the change leads to another look.
func consistent[T any](dump func() ([]T, error)) (list []T, err error) {
	for range 5 {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return list, nil
}

// prefixOf converts; a nil or odd network becomes the zero Prefix, whose Bits
// are -1.
func prefixOf(n *net.IPNet) netip.Prefix {
	if n == nil {
		return netip.Prefix{}
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(ip.Unmap(), ones)
}
