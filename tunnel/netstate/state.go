// Package netstate keeps links, addresses, routes and kernel parameters the
// way a backend wants them. The backend hands over the whole desired state;
// netstate compares it with the kernel's, writes only what differs, and goes
// on comparing: at every netlink event that could matter and, since events can
// be lost and kernel parameters have none, every few seconds. A missed event, a
// restart and a route deleted by hand heal in the same way.
//
// It changes nothing that is not weft's: what it may remove are routes of its
// own protocol number in the main table, addresses on links that the state
// calls exclusive, and permanent neighbours and FDB entries on VXLAN links. The
// only devices that it makes are these.
package netstate

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"strings"
)

// RouteProtocol is the number (rtnetlink rtm_protocol) on every route that
// weft makes, by which it knows its own again.
const RouteProtocol = 87

// LastMetric is the worst metric that a Route can have: any route that another
// program makes for the same prefix wins over it. It is 2³¹-1 and not the
// kernel's 2³²-1, which netlink.Route cannot hold on 32-bit machines.
const LastMetric = math.MaxInt32

// State is all that one Reconciler keeps. The zero State keeps nothing, and
// applying it removes every route of RouteProtocol.
//
// What disappears from one State to the next: routes, neighbours and FDB
// entries are removed, addresses only on exclusive links, links and sysctls
// stay as they are.
type State struct {
	Links   []Link
	Addrs   []Addr
	Neighs  []Neigh
	FDB     []FDB
	Routes  []Route
	Sysctls []Sysctl

	// Partial says that more Routes, Neighs and FDB entries are to come:
	// those of ours that the kernel holds beyond this State, left by a former
	// process, stay as they are. A daemon that starts while packets flow
	// applies such a State until it knows its peers.
	Partial bool
}

// Link is a device that exists already or will appear, known by its name: a
// device that is deleted and made again is the same Link.
type Link struct {
	Name string

	VXLAN *VXLAN // makes the device; nil: somebody else does

	MTU        int    // bytes; 0 leaves it as it is
	TxQueueLen int    // packets; 0 leaves it as it is
	MAC        MAC    // the zero MAC leaves it as it is
	TxChecksum Switch // checksum offload for what is sent through it
	Up         bool   // with neither Up nor Down it is left as it is
	Down       bool

	// Exclusive removes the link's addresses that are not among State.Addrs,
	// such as the tunnel address of a former lease. The link-local IPv6
	// addresses that the kernel makes are left.
	Exclusive bool
}

// Addr is an address on a link, with its prefix length (10.5.34.0/32). An IPv6
// address is added without duplicate address detection, so that it is usable
// at once.
type Addr struct {
	Link   string
	Prefix netip.Prefix
}

// RouteType tells what happens to packets for a Route.
type RouteType uint8

const (
	Unicast     RouteType = iota // sent through Link
	Unreachable                  // refused with an ICMP error
	Blackhole                    // dropped silently
)

// Route is a route in the main table. Dst and Metric identify it: there is one
// route at most for each pair, whatever the type.
type Route struct {
	Dst    netip.Prefix // masked
	Metric int          // 0 to LastMetric; IPv6 reads 0 as 1024, as the kernel does
	Type   RouteType

	// The rest is for Unicast only.

	Link   string     // required
	Via    netip.Addr // the next hop; zero if Dst is on the link itself
	OnLink bool       // Via is on Link even though no prefix there covers it
	IfNear bool       // left out, as a pending Problem, while no prefix on Link covers Via
	Src    netip.Addr // preferred source; it must be an address of this host
	MTU    int        // bytes; 0 is the link's
}

// Sysctl is a kernel parameter below /proc/sys, named with slashes since
// device names may have dots: "net/ipv4/conf/flannel.1/rp_filter". It is
// written only when it reads differently, white space at the ends aside.
type Sysctl struct {
	Key   string
	Value string
}

// The String methods name an object in logs, errors and Problem.Object, in the
// words of the ip command.

func (l Link) String() string   { return "link " + l.Name }
func (a Addr) String() string   { return "address " + a.Prefix.String() + " dev " + a.Link }
func (s Sysctl) String() string { return "sysctl " + s.Key }

func (r Route) String() string {
	var b strings.Builder
	b.WriteString("route ")
	if r.Type != Unicast {
		b.WriteString(r.Type.String() + " ")
	}
	b.WriteString(r.Dst.String())
	if r.Via.IsValid() {
		b.WriteString(" via " + r.Via.String())
	}
	if r.Link != "" {
		b.WriteString(" dev " + r.Link)
	}
	if r.Metric != 0 {
		fmt.Fprintf(&b, " metric %d", r.Metric)
	}
	return b.String()
}

func (t RouteType) String() string {
	switch t {
	case Unicast:
		return "unicast"
	case Unreachable:
		return "unreachable"
	case Blackhole:
		return "blackhole"
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// clone makes a State that its maker can no longer change.
func (s State) clone() State {
	s.Links, s.Addrs = slices.Clone(s.Links), slices.Clone(s.Addrs)
	for i, l := range s.Links {
		if l.VXLAN != nil {
			v := *l.VXLAN
			s.Links[i].VXLAN = &v
		}
	}
	s.Neighs, s.FDB = slices.Clone(s.Neighs), slices.Clone(s.FDB)
	s.Routes, s.Sysctls = slices.Clone(s.Routes), slices.Clone(s.Sysctls)
	return s
}

// validate refuses a State that the kernel could not hold or that would never
// settle, before anything is written.
func (s State) validate() error {
	links := make(map[string]bool, len(s.Links))
	for _, l := range s.Links {
		switch {
		case l.Name == "":
			return errors.New("link without a name")
		case links[l.Name]:
			return fmt.Errorf("%v is given twice", l)
		case l.MTU < 0 || l.TxQueueLen < 0:
			return fmt.Errorf("%v: negative MTU or queue length", l)
		case l.Up && l.Down:
			return fmt.Errorf("%v is to be both up and down", l)
		case l.MAC.multicast():
			return fmt.Errorf("%v: MAC %v is a multicast address", l, l.MAC)
		case l.TxChecksum > Off:
			return fmt.Errorf("%v: unknown setting of checksum offload", l)
		case l.VXLAN != nil:
			if err := l.VXLAN.validate(); err != nil {
				return fmt.Errorf("%v: %w", l, err)
			}
		}
		links[l.Name] = true
	}
	for _, a := range s.Addrs {
		if a.Link == "" || !a.Prefix.IsValid() || a.Prefix.Addr().Is4In6() {
			return fmt.Errorf("%v: needs a link and a valid prefix", a)
		}
	}
	if err := s.validateNeighs(); err != nil {
		return err
	}
	routes := make(map[routeKey]bool, len(s.Routes))
	for _, r := range s.Routes {
		if err := r.validate(); err != nil {
			return fmt.Errorf("%v: %w", r, err)
		}
		if routes[r.key()] {
			return fmt.Errorf("%v: another route has the same destination and metric", r)
		}
		routes[r.key()] = true
	}
	for _, c := range s.Sysctls {
		if c.Key == "" || strings.HasPrefix(c.Key, "/") || strings.Contains(c.Key, "..") {
			return fmt.Errorf("%v: not a path below /proc/sys", c)
		}
	}
	return nil
}

func (r Route) validate() error {
	switch {
	case !r.Dst.IsValid() || r.Dst != r.Dst.Masked() || r.Dst.Addr().Is4In6():
		return errors.New("destination is not a masked prefix")
	case r.Metric < 0 || r.Metric > LastMetric:
		return fmt.Errorf("metric is not within 0 and %d", LastMetric)
	case r.Type > Blackhole:
		return errors.New("unknown type")
	case r.Type != Unicast && r != (Route{Dst: r.Dst, Metric: r.Metric, Type: r.Type}):
		return fmt.Errorf("an %v route has a destination and a metric only", r.Type)
	case r.Type == Unicast && r.Link == "":
		return errors.New("no link")
	case r.OnLink && !r.Via.IsValid():
		return errors.New("onlink without a next hop")
	case r.IfNear && (r.OnLink || !r.Via.IsValid()):
		return errors.New("a next hop that must be near, but there is none or it is called onlink")
	case r.MTU < 0:
		return errors.New("negative MTU")
	}
	for _, a := range []netip.Addr{r.Via, r.Src} {
		if a.IsValid() && a.Is4() != r.Dst.Addr().Is4() {
			return fmt.Errorf("%v is not of the destination's address family", a)
		}
	}
	return nil
}

// routeKey is what the kernel allows one route of, in one table.
type routeKey struct {
	dst    netip.Prefix
	metric int
}

func (r Route) key() routeKey {
	k := routeKey{r.Dst, r.Metric}
	if k.metric == 0 && r.Dst.Addr().Is6() {
		k.metric = 1024 // IP6_RT_PRIO_USER
	}
	return k
}
