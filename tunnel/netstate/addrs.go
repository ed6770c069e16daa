package netstate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// addrs compares addresses: those desired, and on exclusive links all.
func (p *pass) addrs() {
	exclusive := make(map[int]string) // link names by index
	for _, l := range p.want.Links {
		if link := p.links[l.Name]; l.Exclusive && link != nil {
			exclusive[link.Attrs().Index] = l.Name
		}
	}
	if len(p.want.Addrs) == 0 && len(exclusive) == 0 {
		return
	}
	list, err := consistent(func() ([]netlink.Addr, error) { return p.kernel.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		p.fail("addresses", fmt.Errorf("list: %w", err))
		return
	}
	type onLink struct {
		index  int
		prefix netip.Prefix
	}
	have := make(map[onLink]bool, len(list))
	for _, a := range list {
		have[onLink{a.LinkIndex, prefixOf(a.IPNet)}] = true
	}

	want := make(map[onLink]bool, len(p.want.Addrs))
	sameIP := func(index int, ip netip.Addr) bool {
		for w := range want {
			if w.index == index && w.prefix.Addr() == ip {
				return true
			}
		}
		return false
	}
	var missing []func()
	for _, a := range p.want.Addrs {
		l, err := p.link(a.Link)
		switch {
		case err != nil:
			p.fail(a.String(), err)
			continue
		case l == nil:
			p.pend(a, errLinkAbsent)
			continue
		}
		key := onLink{l.Attrs().Index, a.Prefix}
		want[key] = true
		if !have[key] {
			missing = append(missing, func() { p.fix(a, "was missing", func() error { return p.addAddr(l, a) }) })
		}
	}

	// New addresses come before old ones go, because the kernel drops every
	// IPv4 route of a link with its last address. But an IPv6 address that
	// only changes its length has to go first: a link has it once only.
	var stale, inTheWay []func()
	for _, a := range list {
		name, ok := exclusive[a.LinkIndex]
		prefix := prefixOf(a.IPNet)
		if !ok || want[onLink{a.LinkIndex, prefix}] || prefix.Addr().Is6() && prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		remove := func() {
			p.fix(Addr{name, prefix}, "should not be there", func() error {
				return explain("remove", ignoreGone(p.kernel.AddrDel(p.links[name], &a)))
			})
		}
		if prefix.Addr().Is6() && sameIP(a.LinkIndex, prefix.Addr()) {
			inTheWay = append(inTheWay, remove)
		} else {
			stale = append(stale, remove)
		}
	}
	for _, steps := range [][]func(){inTheWay, missing, stale} {
		for _, do := range steps {
			do()
		}
	}
}

func (p *pass) addAddr(l netlink.Link, a Addr) error {
	n := &netlink.Addr{IPNet: ipNet(a.Prefix)}
	if a.Prefix.Addr().Is6() {
		n.Flags = unix.IFA_F_NODAD
	}
	err := p.kernel.AddrAdd(l, n)
	switch {
	case errors.Is(err, unix.EACCES) && a.Prefix.Addr().Is6():
		return fmt.Errorf("add: %w: IPv6 is disabled on this link, set net.ipv6.conf.%s.disable_ipv6 to 0", err, a.Link)
	case errors.Is(err, unix.EEXIST):
		// Listed before, so it came in between; or it is there with another
		// prefix length on a link that is not exclusive.
		return fmt.Errorf("add: %w: look for the same address on this link, maybe with another prefix length, and remove it", err)
	}
	return explain("add", err)
}

// ignoreGone takes the absence of what is to be removed for success.
func ignoreGone(err error) error {
	if errors.Is(err, unix.EADDRNOTAVAIL) || errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ESRCH) {
		return nil
	}
	return err
}

// prefixOf converts; the zero Prefix for nil.
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

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
