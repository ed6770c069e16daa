package netstate

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Neigh is a permanent neighbour (ARP or NDP) entry: IP is at MAC on Link.
type Neigh struct {
	Link string
	IP   netip.Addr
	MAC  MAC
}

// FDB is a permanent forwarding entry of a VXLAN link: frames to MAC are sent
// to the tunnel endpoint Dst, at the link's own port and VNI.
type FDB struct {
	Link string
	MAC  MAC
	Dst  netip.Addr
}

func (n Neigh) String() string {
	return fmt.Sprintf("neighbour %v lladdr %v dev %s", n.IP, n.MAC, n.Link)
}

func (f FDB) String() string { return fmt.Sprintf("fdb %v dst %v dev %s", f.MAC, f.Dst, f.Link) }

// neighKey and fdbKey are what the kernel has one entry for.
type neighKey struct {
	link int
	ip   netip.Addr
}

type fdbKey struct {
	link int
	mac  MAC
}

// neighs compares neighbours and FDB entries and writes what is missing. What
// should not be there goes only when the routes that lead to it are gone:
// hence the function that is returned.
//
// Such entries have no owner that the kernel would tell (NDA_PROTOCOL is for
// IP neighbours only, since Linux 5.2), so it goes by the link: on a VXLAN link
// all permanent ones are ours.
func (p *pass) neighs() (removeStale func()) {
	ours := make(map[int]netlink.Link)
	for _, l := range p.want.Links {
		if link := p.links[l.Name]; l.VXLAN != nil && link != nil {
			ours[link.Attrs().Index] = link
		}
	}
	if len(ours) == 0 && len(p.want.Neighs) == 0 && len(p.want.FDB) == 0 {
		return func() {}
	}
	staleFDB := p.fdb(ours)
	staleNeighs := p.ipNeighs(ours)
	return func() {
		staleNeighs()
		staleFDB()
	}
}

func (p *pass) ipNeighs(ours map[int]netlink.Link) (removeStale func()) {
	have := make(map[neighKey]netlink.Neigh)
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := p.kernel.neighsOf(family)
		if err != nil {
			p.fail("neighbours", fmt.Errorf("list: %w", err))
			return func() {}
		}
		for _, n := range list {
			ip, _ := netip.AddrFromSlice(n.IP)
			have[neighKey{n.LinkIndex, ip}] = n
		}
	}
	for _, want := range p.want.Neighs {
		l := p.upLink(want, want.Link)
		if l == nil {
			continue
		}
		key := neighKey{l.Attrs().Index, want.IP}
		h, found := have[key]
		delete(have, key)
		permanent := h.State&netlink.NUD_PERMANENT != 0
		if found && permanent && macOf(h.HardwareAddr) == want.MAC {
			continue
		}
		was := "was missing"
		if found && permanent {
			was = fmt.Sprintf("was at %v", h.HardwareAddr)
		}
		p.fix(want, was, func() error {
			return explain("set", p.kernel.NeighSet(&netlink.Neigh{
				LinkIndex: key.link, State: netlink.NUD_PERMANENT, Type: unix.RTN_UNICAST,
				IP: want.IP.AsSlice(), HardwareAddr: want.MAC[:],
			}))
		})
	}
	return func() {
		for key, n := range have {
			link := ours[key.link]
			if p.want.Partial || link == nil || n.State&netlink.NUD_PERMANENT == 0 {
				continue
			}
			p.fix(Neigh{link.Attrs().Name, key.ip, macOf(n.HardwareAddr)}, "should not be there", func() error {
				return explain("remove", ignoreNoEntry(p.kernel.NeighDel(&n)))
			})
		}
	}
}

func (p *pass) fdb(ours map[int]netlink.Link) (removeStale func()) {
	have := make(map[fdbKey]netlink.Neigh)
	list, err := p.kernel.neighsOf(unix.AF_BRIDGE)
	if err != nil {
		p.fail("FDB", fmt.Errorf("list: %w", err))
		return func() {}
	}
	for _, f := range list {
		if ours[f.LinkIndex] != nil {
			have[fdbKey{f.LinkIndex, macOf(f.HardwareAddr)}] = f
		}
	}
	for _, want := range p.want.FDB {
		l, err := p.link(want.Link)
		switch {
		case err != nil:
			p.fail(want.String(), err)
			continue
		case l == nil:
			p.pend(want, errLinkAbsent)
			continue
		}
		key := fdbKey{l.Attrs().Index, want.MAC}
		h, found := have[key]
		delete(have, key)
		dst, _ := netip.AddrFromSlice(h.IP)
		if found && h.State&netlink.NUD_PERMANENT != 0 && dst == want.Dst {
			continue
		}
		was := "was missing"
		if found {
			was = fmt.Sprintf("was at %v", dst)
		}
		p.fix(want, was, func() error {
			return explain("set", p.kernel.NeighSet(&netlink.Neigh{
				LinkIndex: key.link, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT,
				IP: want.Dst.AsSlice(), HardwareAddr: want.MAC[:],
			}))
		})
	}
	return func() {
		for key, f := range have {
			// What the kernel has learned ages by itself.
			if p.want.Partial || f.State&(netlink.NUD_PERMANENT|netlink.NUD_NOARP) == 0 {
				continue
			}
			dst, _ := netip.AddrFromSlice(f.IP)
			p.fix(FDB{ours[key.link].Attrs().Name, key.mac, dst}, "should not be there", func() error {
				f.Family, f.Flags = unix.AF_BRIDGE, netlink.NTF_SELF
				return explain("remove", ignoreNoEntry(p.kernel.NeighDel(&f)))
			})
		}
	}
}

// upLink finds a link that is up; otherwise the object waits for it, and the
// link is nil. The kernel takes no neighbours on a link that is down.
func (p *pass) upLink(object fmt.Stringer, name string) netlink.Link {
	l, err := p.link(name)
	switch {
	case err != nil:
		p.fail(object.String(), err)
	case l == nil:
		p.pend(object, errLinkAbsent)
	case l.Attrs().Flags&unix.IFF_UP == 0:
		p.pend(object, errLinkDown)
	default:
		return l
	}
	return nil
}

// ignoreNoEntry takes the absence of an entry to be removed for success.
func ignoreNoEntry(err error) error {
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	return ignoreGone(err)
}

// validateNeighs refuses entries that the kernel could not hold.
func (s State) validateNeighs() error {
	vxlan := make(map[string]bool)
	for _, l := range s.Links {
		vxlan[l.Name] = l.VXLAN != nil
	}
	neighs := make(map[Neigh]bool, len(s.Neighs))
	for _, n := range s.Neighs {
		key := Neigh{Link: n.Link, IP: n.IP}
		switch {
		case n.Link == "" || !n.IP.IsValid() || n.IP.Is4In6() || n.MAC == (MAC{}) || n.MAC.multicast():
			return fmt.Errorf("%v: needs a link, an address and the MAC of one device", n)
		case neighs[key]:
			return fmt.Errorf("%v: the address is given twice", n)
		}
		neighs[key] = true
	}
	fdb := make(map[FDB]bool, len(s.FDB))
	for _, f := range s.FDB {
		key := FDB{Link: f.Link, MAC: f.MAC}
		switch {
		case !vxlan[f.Link] || !f.Dst.IsValid() || f.Dst.Is4In6() || f.MAC == (MAC{}) || f.MAC.multicast():
			return fmt.Errorf("%v: needs a VXLAN link of the State, the MAC of one device and a destination", f)
		case fdb[key]:
			return fmt.Errorf("%v: the MAC is given twice", f)
		}
		fdb[key] = true
	}
	return nil
}
