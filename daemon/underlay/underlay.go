// Package underlay chooses the interface and the addresses that carry the
// encapsulated packets, tells when that choice changes, and finds what on this
// host collides with the cluster network.
//
// All of it works in the network namespace of the calling thread.
package underlay

import (
	"fmt"
	"net/netip"
	"regexp"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

// Options say which interface to choose, by flannel's flags. The first of
// Ifaces, IfaceRegexes and CanReach that leads to an interface which can be
// used wins, each list in its order. If any of them is given and none leads
// there, nothing else is tried. Without them it is the interface that has
// PublicIP or PublicIPv6, else that of the default route.
type Options struct {
	Ifaces       []string         // names or addresses
	IfaceRegexes []*regexp.Regexp // of addresses, then of names
	CanReach     netip.Addr       // the interface of the route to it; zero if not given

	// PublicIP and PublicIPv6 are where other nodes send to; zero: to the
	// interface's own addresses.
	PublicIP, PublicIPv6 netip.Addr

	// Network is the cluster network. Addresses in it are never chosen unless
	// one is in Ifaces.
	Network tunnel.Network
}

// Candidate is an interface that was looked at, for the log.
type Candidate struct {
	Name   string
	Addrs  []netip.Addr
	Chosen bool
	Why    string // it was chosen or not
}

// Select chooses. On an error there are candidates too, none of them chosen.
//
// Of several addresses on the interface the one that a flag names or matches
// is taken, with CanReach the route's source address, else the first that is
// global. IPv4 link-local addresses come last; IPv6 ones are never taken, for
// they mean nothing on other nodes. Deprecated and tentative addresses are
// taken only when named.
//
// Every error may pass with time, as interfaces come up and get addresses, but
// for one about a PublicIP of the wrong address family.
func Select(o Options) (tunnel.Underlay, []Candidate, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return tunnel.Underlay{}, nil, fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	return selectFrom(h, o)
}

func selectFrom(h *netlink.Handle, o Options) (tunnel.Underlay, []Candidate, error) {
	if o.PublicIP.IsValid() && !o.PublicIP.Is4() {
		return tunnel.Underlay{}, nil, fmt.Errorf("--public-ip %v is not an IPv4 address: use --public-ipv6", o.PublicIP)
	}
	if o.PublicIPv6.IsValid() && (!o.PublicIPv6.Is6() || o.PublicIPv6.Is4In6()) {
		return tunnel.Underlay{}, nil, fmt.Errorf("--public-ipv6 %v is not an IPv6 address: use --public-ip", o.PublicIPv6)
	}
	host, err := readHost(h)
	if err != nil {
		return tunnel.Underlay{}, nil, fmt.Errorf("read interfaces: %w", err)
	}
	return host.choose(o)
}
