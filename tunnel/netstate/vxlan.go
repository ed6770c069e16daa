package netstate

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ownAlias marks, in the link's alias, a VXLAN device that weft made or
// adopted: `ip link` shows it, and RemoveOwn goes by it.
const ownAlias = "weft"

// VXLAN has a Link made as a VXLAN device (RFC 7348), in the kernel's unicast
// use: it has no group, and where a frame goes is said by FDB entries alone.
//
// A device that differs is made anew, for the kernel lets hardly any of this
// be changed; one that does not, whoever made it, is adopted.
type VXLAN struct {
	VNI      uint32     // VXLAN network identifier, 24 bits
	Port     uint16     // UDP destination port
	Underlay string     // name of the link that carries the encapsulated packets
	Local    netip.Addr // their source; its family is the tunnel's

	Learning bool // the kernel learns FDB entries from what arrives
	GBP      bool // group policy extension (draft-smith-vxlan-group-policy)
}

func (v *VXLAN) validate() error {
	switch {
	case v.VNI >= 1<<24:
		return fmt.Errorf("VXLAN network identifier %d has more than 24 bits", v.VNI)
	case v.Port == 0:
		return errors.New("VXLAN without a port")
	case v.Underlay == "":
		return errors.New("VXLAN without an underlay")
	case !v.Local.IsValid() || v.Local.Is4In6() || v.Local.Zone() != "":
		return fmt.Errorf("VXLAN with local address %v", v.Local)
	}
	return nil
}

// makeLinks makes the VXLAN devices that are not there or are not as they
// should be.
func (p *pass) makeLinks() {
	for _, want := range p.want.Links {
		if want.VXLAN == nil {
			continue
		}
		l, err := p.link(want.Name)
		if err != nil {
			p.fail(want.String(), err)
			continue
		}
		underlay, err := p.link(want.VXLAN.Underlay)
		if err != nil {
			p.fail(want.String(), err)
			continue
		}
		p.makeLink(want, l, underlay)
	}
}

// makeLink gets l and underlay as they are; nil where there is none.
func (p *pass) makeLink(want Link, l, underlay netlink.Link) {
	if l == nil {
		if underlay == nil {
			p.pend(want, fmt.Errorf("its underlay %s does not exist now", want.VXLAN.Underlay))
			return
		}
		p.fix(want, "was missing", func() error { return p.addVXLAN(want, underlay) })
		return
	}
	have, ok := l.(*netlink.Vxlan)
	if !ok {
		p.fail(want.String(), fmt.Errorf("a %s device of another program has this name: rename or remove it (ip link del %s)", l.Type(), want.Name))
		return
	}
	why := want.VXLAN.differs(have, underlay)
	if why == "" {
		return
	}
	if underlay == nil {
		p.pend(want, fmt.Errorf("its underlay %s does not exist now", want.VXLAN.Underlay))
		return
	}
	p.fix(want, why, func() error {
		if err := ignoreGone(p.kernel.LinkDel(l)); err != nil {
			return explain("remove the old device", err)
		}
		p.links[want.Name] = nil
		p.remade = append(p.remade, change{want.String(), why})
		return p.addVXLAN(want, underlay)
	})
}

// differs says in what a device is not the one that is wanted; "" if it is.
// What flannel neither sets nor compares, such as TTL and checksums of the
// outer packets, is the kernel's default in both.
func (v *VXLAN) differs(have *netlink.Vxlan, underlay netlink.Link) string {
	local, _ := netip.AddrFromSlice(have.SrcAddr)
	switch {
	case have.FlowBased:
		return "was flow based (external)"
	case uint32(have.VxlanId) != v.VNI:
		return fmt.Sprintf("VNI was %d", have.VxlanId)
	case have.Port != int(v.Port):
		return fmt.Sprintf("port was %d", have.Port)
	case local != v.Local:
		return fmt.Sprintf("local address was %v", local)
	case underlay != nil && have.VtepDevIndex != underlay.Attrs().Index:
		return fmt.Sprintf("underlay was link %d", have.VtepDevIndex)
	case have.Learning != v.Learning:
		return fmt.Sprintf("learning was %v", have.Learning)
	case have.GBP != v.GBP:
		return fmt.Sprintf("GBP was %v", have.GBP)
	case len(have.Group) > 0 && !have.Group.IsUnspecified():
		return fmt.Sprintf("sent unknown destinations to %v", have.Group)
	case have.L2miss || have.L3miss || have.Proxy || have.RSC:
		return "had one of l2miss, l3miss, proxy, rsc"
	}
	return ""
}

func (p *pass) addVXLAN(want Link, underlay netlink.Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.Alias = want.Name, want.MTU, ownAlias
	if want.MAC != (MAC{}) {
		// From the start: systemd-udevd gives a new device another MAC only
		// if its own was made up by the kernel (addr_assign_type).
		attrs.HardwareAddr = want.MAC[:]
	}
	err := p.kernel.LinkAdd(&netlink.Vxlan{
		LinkAttrs:    attrs,
		VxlanId:      int(want.VXLAN.VNI),
		Port:         int(want.VXLAN.Port),
		VtepDevIndex: underlay.Attrs().Index,
		SrcAddr:      want.VXLAN.Local.AsSlice(),
		Learning:     want.VXLAN.Learning,
		GBP:          want.VXLAN.GBP,
	})
	delete(p.links, want.Name) // look again
	switch {
	case err == nil:
		_, err = p.link(want.Name)
		return err
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("add: %w: another VXLAN device has VNI %d and port %d (ip -d link show type vxlan): remove it, or choose another VNI or Port",
			err, want.VXLAN.VNI, want.VXLAN.Port)
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("add: %w: the kernel has no VXLAN (modprobe vxlan)", err)
	}
	return explain("add", err)
}

// setMAC compares the link's MAC. A VXLAN device takes another one while up.
func (p *pass) setMAC(want Link, l netlink.Link) {
	have := l.Attrs().HardwareAddr
	if want.MAC == (MAC{}) || macOf(have) == want.MAC {
		return
	}
	p.fix(want, fmt.Sprintf("MAC was %v", have), func() error {
		return explain("set MAC", p.kernel.LinkSetHardwareAddr(l, net.HardwareAddr(want.MAC[:])))
	})
}

// mark sets the alias of an adopted device.
func (p *pass) mark(want Link, l netlink.Link) {
	if want.VXLAN == nil || l.Attrs().Alias == ownAlias {
		return
	}
	p.fix(want, fmt.Sprintf("alias was %q", l.Attrs().Alias), func() error {
		return explain("set alias", p.kernel.LinkSetAlias(l, ownAlias))
	})
}
