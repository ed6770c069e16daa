package netstate

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// routes compares the main table: every desired route, and every route of our
// protocol.
func (p *pass) routes() {
	list, err := ownRoutes(p.kernel.Handle)
	if err != nil {
		p.fail("routes", err)
		return
	}
	own := make(map[routeKey][]netlink.Route, len(list))
	for _, r := range list {
		own[keyOf(r)] = append(own[keyOf(r)], r)
	}
	for _, r := range p.want.Routes {
		p.route(r, own[r.key()])
		delete(own, r.key())
	}
	if p.want.Partial {
		return
	}
	for _, stale := range own {
		for _, r := range stale {
			p.removeRoute(r)
		}
	}
}

// route compares one route with those of our protocol that have its key.
func (p *pass) route(r Route, have []netlink.Route) {
	want := netlink.Route{
		Dst: ipNet(r.Dst), Priority: r.key().metric, Table: unix.RT_TABLE_MAIN, Protocol: RouteProtocol,
		Type: kernelType[r.Type], MTU: r.MTU,
	}
	if r.Type == Unicast {
		l := p.upLink(r, r.Link)
		if l == nil {
			return
		}
		want.LinkIndex = l.Attrs().Index
		want.Gw, want.Src = r.Via.AsSlice(), r.Src.AsSlice()
		if r.OnLink {
			want.Flags = int(netlink.FLAG_ONLINK)
		}
		if r.Dst.Addr().Is4() && !r.Via.IsValid() {
			want.Scope = netlink.SCOPE_LINK // as the ip command sets it
		}
	}

	for i, h := range have {
		if sameRoute(h, want) {
			for j, double := range have {
				if j != i {
					p.removeRoute(double)
				}
			}
			return
		}
	}
	if len(have) == 0 {
		p.fix(r, "was missing", func() error {
			err := p.kernel.RouteAdd(&want)
			if errors.Is(err, unix.EEXIST) {
				// Hardly ever in place of another program's route.
				if o := p.occupant(r); o == nil || !takeOver(*o, want) {
					return p.conflict(r)
				}
				err = p.kernel.RouteReplace(&want)
			}
			return explainRoute("add", r, tooFar(r, err))
		})
		return
	}
	p.fix(r, "was different", func() error {
		// The kernel replaces the first route of this key, ours or not.
		if p.occupant(r) != nil {
			return p.conflict(r)
		}
		err := tooFar(r, p.kernel.RouteReplace(&want))
		if behind := behindItself(r, err); behind || errors.Is(err, errNotNear) {
			for _, old := range have {
				p.removeRoute(old)
			}
			if behind {
				err = p.kernel.RouteAdd(&want)
			}
		}
		return explainRoute("replace", r, err)
	})
}

// tooFar makes a refusal of a next hop that must be near a reason to wait.
func tooFar(r Route, err error) error {
	if r.IfNear && isFar(err) {
		return fmt.Errorf("%v is %w %s", r.Via, errNotNear, r.Link)
	}
	return err
}

// isFar: the kernel refuses a next hop that it reaches by another link, by
// another next hop, or not at all (fib_check_nh_v4_gw in net/ipv4, where no
// scope fits; ip6_validate_gw in net/ipv6).
func isFar(err error) bool {
	return errors.Is(err, unix.ENETUNREACH) || errors.Is(err, unix.EHOSTUNREACH)
}

// behindItself: the kernel refuses a next hop within the destination, for it
// finds that behind another device (ip6_route_check_nh_onlink in net/ipv6): most
// likely that of the former route, which is in the way of its own replacement.
func behindItself(r Route, err error) bool {
	return errors.Is(err, unix.EINVAL) && r.OnLink && r.Dst.Addr().Is6() && r.Dst.Contains(r.Via)
}

// takeOver tells whether another program's route may become ours: it leads the
// same way, and names no owner but the default one, as flannel's routes do.
func takeOver(have, want netlink.Route) bool {
	want.Src = have.Src
	return have.Protocol == unix.RTPROT_BOOT && have.Table == want.Table && sameRoute(have, want)
}

func (p *pass) removeRoute(r netlink.Route) {
	name := Route{Dst: prefixOf(r.Dst), Metric: r.Priority}
	p.fix(name, "should not be there", func() error {
		return explain("remove", ignoreGone(p.kernel.RouteDel(&r)))
	})
}

var kernelType = [...]int{Unicast: unix.RTN_UNICAST, Unreachable: unix.RTN_UNREACHABLE, Blackhole: unix.RTN_BLACKHOLE}

func keyOf(r netlink.Route) routeKey { return routeKey{prefixOf(r.Dst), r.Priority} }

// sameRoute compares what a Route can say. The kernel adds things of its own,
// such as lo as the link of an IPv6 unreachable route.
func sameRoute(have, want netlink.Route) bool {
	switch {
	case have.Type != want.Type, have.Tos != 0, have.MTU != want.MTU, len(have.MultiPath) > 0, have.Encap != nil, have.Via != nil:
		return false
	case want.Type != unix.RTN_UNICAST:
		return true
	}
	const onlink = int(netlink.FLAG_ONLINK)
	return have.LinkIndex == want.LinkIndex && have.Gw.Equal(want.Gw) && have.Src.Equal(want.Src) &&
		have.Flags&onlink == want.Flags&onlink
}

func explainRoute(verb string, r Route, err error) error {
	switch {
	case errors.Is(err, errNotNear):
		return err
	case isFar(err):
		return fmt.Errorf("%s: %w: no address on the link covers the next hop; give the link one", verb, err)
	case behindItself(r, err):
		return fmt.Errorf("%s: %w: another program's route leads elsewhere than to %s: find it with `ip route get %v`, and remove it", verb, err, r.Link, r.Via)
	}
	return explain(verb, err)
}

// conflict is the error about the other program's route that is in the way.
func (p *pass) conflict(r Route) error {
	other := p.occupant(r)
	if other == nil {
		return fmt.Errorf("another program's route is in the way: look for %v in `ip route` and remove it", r.Dst)
	}
	return fmt.Errorf("another program's route is in the way: remove it (ip route del %s), stop what makes it, or choose another network",
		describe(p.kernel.Handle, *other))
}

// occupant finds another program's route that has the key of a desired one;
// nil if there is none. The table may be long, so it is read only when a route
// seems to be in the way, and once per pass.
func (p *pass) occupant(r Route) *netlink.Route {
	if p.others == nil {
		p.others = make(map[routeKey]netlink.Route)
		wanted := make(map[routeKey]bool, len(p.want.Routes))
		for _, w := range p.want.Routes {
			wanted[w.key()] = true
		}
		for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
			// An incomplete list makes a message less precise, no more: the
			// next pass reads again.
			_ = p.kernel.RouteListFilteredIter(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE,
				func(o netlink.Route) bool {
					if wanted[keyOf(o)] && o.Protocol != RouteProtocol && o.Tos == 0 {
						p.others[keyOf(o)] = o
					}
					return true
				})
		}
	}
	if o, ok := p.others[r.key()]; ok {
		return &o
	}
	return nil
}

// describe names a kernel route in the words of the ip command.
func describe(h *netlink.Handle, r netlink.Route) string {
	text := prefixOf(r.Dst).String()
	if via, ok := netip.AddrFromSlice(r.Gw); ok {
		text += " via " + via.String()
	}
	if l, err := h.LinkByIndex(r.LinkIndex); err == nil {
		text += " dev " + l.Attrs().Name
	}
	if r.Priority != 0 {
		text += fmt.Sprintf(" metric %d", r.Priority)
	}
	return text + " proto " + r.Protocol.String()
}
