package underlay

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/weftnet/weft/tunnel"
)

// match is an interface that a flag or the default route leads to.
type match struct {
	*iface
	how   string     // "--iface eth0"
	named bool       // by --iface, which overrules what is avoided otherwise
	addr  netip.Addr // the address that led here or goes with it, or zero
	extra []addr     // addr, if it is on another interface
}

// choose takes the first match that can be used.
func (h *host) choose(o Options) (tunnel.Underlay, []Candidate, error) {
	why := make(map[*iface]string)
	var failures []string
	for _, find := range h.ways(o) {
		matches, err := find()
		if err != nil {
			failures = append(failures, err.Error())
		}
		for _, m := range matches {
			u, err := m.use(o)
			if err == nil {
				why[m.iface] = m.how + ": takes " + addrsOf(u)
				return u, h.candidates(m.iface, why), nil
			}
			why[m.iface] = fmt.Sprintf("%s, but %v", m.how, err)
			failures = append(failures, fmt.Sprintf("%s: %s %v", m.how, m.name, err))
		}
	}
	return tunnel.Underlay{}, h.candidates(nil, why), fmt.Errorf("no interface for the underlay: %s; interfaces with addresses: %s",
		strings.Join(failures, "; "), h.describe())
}

func addrsOf(u tunnel.Underlay) string {
	switch {
	case !u.IPv6.IsValid():
		return u.IPv4.String()
	case !u.IPv4.IsValid():
		return u.IPv6.String()
	}
	return u.IPv4.String() + " and " + u.IPv6.String()
}

// ways are where to look, in order.
func (h *host) ways(o Options) []func() ([]match, error) {
	var ways []func() ([]match, error)
	for _, s := range o.Ifaces {
		ways = append(ways, func() ([]match, error) { return h.byName(s) })
	}
	for _, r := range o.IfaceRegexes {
		ways = append(ways, func() ([]match, error) { return h.byRegex(r) })
	}
	if o.CanReach.IsValid() {
		ways = append(ways, func() ([]match, error) { return h.byReach(o.CanReach) })
	}
	if ways == nil {
		ways = append(ways, func() ([]match, error) { return h.byPublicIP(o), nil }, h.byDefaultRoute)
	}
	return ways
}

// byName finds what --iface names: an address, or else an interface.
func (h *host) byName(s string) ([]match, error) {
	how := "--iface " + s
	ip, err := netip.ParseAddr(s)
	if err != nil {
		for _, i := range h.ifaces {
			if i.name == s {
				return []match{{iface: i, how: how, named: true}}, nil
			}
		}
		return nil, fmt.Errorf("%s: no interface has this name", how)
	}
	if i := h.withAddr(ip); i != nil {
		return []match{{iface: i, how: how, named: true, addr: ip}}, nil
	}
	return nil, fmt.Errorf("%s: no interface has this address", how)
}

// byRegex finds all that match, by address first, and then by name.
func (h *host) byRegex(r *regexp.Regexp) ([]match, error) {
	how := "--iface-regex " + r.String()
	var matches []match
	for _, i := range h.ifaces {
		for _, a := range i.addrs {
			if r.MatchString(a.Addr().String()) {
				matches = append(matches, match{iface: i, how: how, addr: a.Addr()})
			}
		}
	}
	for _, i := range h.ifaces {
		if r.MatchString(i.name) {
			matches = append(matches, match{iface: i, how: how})
		}
	}
	if matches == nil {
		return nil, fmt.Errorf("%s: no address and no interface name matches", how)
	}
	return matches, nil
}

func (h *host) byReach(to netip.Addr) ([]match, error) {
	how := "--iface-can-reach " + to.String()
	index, source, err := h.lookup(to)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", how, err)
	}
	i := h.withIndex(index)
	if i == nil {
		return nil, fmt.Errorf("%s: the interface of the route has just gone", how)
	}
	return []match{h.byRoute(i, source, how)}, nil
}

// byPublicIP finds the interface that has the public address; behind NAT there
// is none, and that is no error.
func (h *host) byPublicIP(o Options) (matches []match) {
	for _, p := range []struct {
		flag string
		ip   netip.Addr
	}{{"--public-ip", o.PublicIP}, {"--public-ipv6", o.PublicIPv6}} {
		if i := h.withAddr(p.ip); i != nil {
			matches = append(matches, match{iface: i, how: p.flag + " " + p.ip.String(), addr: p.ip})
		}
	}
	return matches
}

// byDefaultRoute finds the interfaces of the IPv4 default routes, or of the
// IPv6 ones if there is no IPv4 default route.
func (h *host) byDefaultRoute() (matches []match, err error) {
	for _, r := range h.defaults {
		i := h.withIndex(r.index)
		if i == nil {
			continue // gone since the interfaces were listed
		}
		how := "IPv4 default route"
		if r.is6 {
			if matches != nil && !strings.HasPrefix(matches[0].how, "IPv6") {
				break
			}
			how = "IPv6 default route"
		}
		matches = append(matches, h.byRoute(i, r.source, how))
	}
	if matches == nil {
		return nil, errors.New("there is no default route: say which interface with --iface, --iface-regex or --iface-can-reach")
	}
	return matches, nil
}

// byRoute is the match of a route with a preferred source address, or the zero
// Addr. That may be on another interface: hosts that speak BGP have their
// address on a loopback device, and none that others know on the links.
func (h *host) byRoute(i *iface, source netip.Addr, how string) match {
	m := match{iface: i, how: how, addr: source}
	switch j := h.withAddr(source); {
	case j == nil:
		m.addr = netip.Addr{}
	case j != i:
		m.extra = slices.DeleteFunc(slices.Clone(j.addrs), func(a addr) bool { return a.Addr() != source })
	}
	return m
}

func (h *host) withIndex(index int) *iface {
	for _, i := range h.ifaces {
		if i.index == index {
			return i
		}
	}
	return nil
}

func (h *host) withAddr(ip netip.Addr) *iface {
	for _, i := range h.ifaces {
		if slices.ContainsFunc(i.addrs, func(a addr) bool { return a.Addr() == ip }) {
			return i
		}
	}
	return nil
}

// use makes the underlay of a match, or tells why it cannot be used.
func (m match) use(o Options) (tunnel.Underlay, error) {
	switch {
	case !m.up:
		return tunnel.Underlay{}, fmt.Errorf("is down: bring it up (ip link set %s up)", m.name)
	case m.mtu <= 0:
		return tunnel.Underlay{}, errors.New("has no MTU")
	case !m.named && m.loopback:
		return tunnel.Underlay{}, errors.New("is the loopback device; if it is meant, name it with --iface")
	case !m.named && forContainers(m.name):
		return tunnel.Underlay{}, errors.New("belongs to containers; if it is meant, name it with --iface")
	}
	u := tunnel.Underlay{Name: m.name, Index: m.index, MTU: m.mtu}
	var refused []string
	for _, a := range slices.Concat(m.extra, m.addrs) {
		slot := &u.IPv4
		if a.Addr().Is6() {
			slot = &u.IPv6
		}
		sameFamily := m.addr.IsValid() && m.addr.Is4() == a.Addr().Is4()
		if slot.IsValid() || sameFamily && a.Addr() != m.addr {
			continue
		}
		if why := a.unusable(o.Network, m.named && a.Addr() == m.addr); why != "" {
			if !m.addr.IsValid() || a.Addr() == m.addr {
				refused = append(refused, a.Addr().String()+" "+why)
			}
			continue
		}
		*slot = a.Addr()
	}
	switch {
	case m.addr.IsValid() && u.IPv4 != m.addr && u.IPv6 != m.addr, !u.IPv4.IsValid() && !u.IPv6.IsValid():
		if refused == nil {
			return tunnel.Underlay{}, errors.New("has no address")
		}
		return tunnel.Underlay{}, fmt.Errorf("has no address that can be used (%s)", strings.Join(refused, ", "))
	case o.PublicIP.IsValid() && !u.IPv4.IsValid():
		return tunnel.Underlay{}, fmt.Errorf("has no IPv4 address to go with --public-ip %v", o.PublicIP)
	case o.PublicIPv6.IsValid() && !u.IPv6.IsValid():
		return tunnel.Underlay{}, fmt.Errorf("has no IPv6 address to go with --public-ipv6 %v", o.PublicIPv6)
	}
	u.PublicIPv4, u.PublicIPv6 = u.IPv4, u.IPv6
	if o.PublicIP.IsValid() {
		u.PublicIPv4 = o.PublicIP
	}
	if o.PublicIPv6.IsValid() {
		u.PublicIPv6 = o.PublicIPv6
	}
	return u, nil
}

// unusable tells why an address is not taken; empty if it may be. One that is
// named only has to work.
func (a addr) unusable(network tunnel.Network, named bool) string {
	switch ip := a.Addr(); {
	case a.tentative:
		return "is still being checked for duplicates, or is one"
	case ip.Is6() && ip.IsLinkLocalUnicast():
		return "is link-local"
	case named:
		return ""
	case ip.IsLoopback():
		return "is a loopback address"
	case a.deprecated:
		return "is deprecated"
	case network.IPv4.Contains(ip):
		return "lies in the cluster network " + network.IPv4.String()
	case network.IPv6.Contains(ip):
		return "lies in the cluster network " + network.IPv6.String()
	}
	return ""
}

// forContainers tells the devices that Docker, CNI plugins, flannel and weft
// make for containers.
func forContainers(name string) bool {
	return name == "docker0" || name == "docker_gwbridge" || name == "cni0" || strings.HasPrefix(name, "flannel")
}

// candidates are the interfaces with addresses, and those that why is about.
func (h *host) candidates(chosen *iface, why map[*iface]string) []Candidate {
	var list []Candidate
	for _, i := range h.ifaces {
		reason, looked := why[i]
		c := Candidate{Name: i.name, Chosen: i == chosen, Why: reason}
		for _, a := range i.addrs {
			if !a.Addr().Is6() || !a.Addr().IsLinkLocalUnicast() {
				c.Addrs = append(c.Addrs, a.Addr())
			}
		}
		if !looked {
			if i.loopback || len(c.Addrs) == 0 {
				continue
			}
			c.Why = "nothing leads to it"
		}
		list = append(list, c)
	}
	return list
}

// describe lists the interfaces that could be named.
func (h *host) describe() string {
	var list []string
	for _, c := range h.candidates(nil, nil) {
		list = append(list, fmt.Sprintf("%s %v", c.Name, c.Addrs))
	}
	if list == nil {
		return "none"
	}
	return strings.Join(list, ", ")
}
