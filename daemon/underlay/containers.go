package underlay

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
)

// Containers are the devices that are attached to a bridge, one for each
// container.
type Containers struct {
	Bridge string // "" if there is none
	MTUs   []int  // of each container's end, in bytes
}

// Larger counts the containers whose MTU is above the given one: those that
// were started when a larger one fitted.
func (c Containers) Larger(mtu int) (n int) {
	for _, m := range c.MTUs {
		if m > mtu {
			n++
		}
	}
	return n
}

// ContainersOn finds the containers that are attached to the bridge with an
// address in s, which cannot be renumbered. With several such bridges it
// returns the one with most.
func ContainersOn(s subnet.Subnet) (most Containers, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return most, fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	addrs, err := consistent(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return most, fmt.Errorf("list addresses: %w", err)
	}
	for _, a := range addrs {
		ip := prefixOf(a.IPNet).Addr()
		if !s.Contains(ip) {
			continue
		}
		l, err := h.LinkByIndex(a.LinkIndex)
		if err != nil || l.Type() != "bridge" { // gone since, or no matter
			continue
		}
		mtus, err := portsOf(h, a.LinkIndex)
		if err != nil {
			return Containers{}, err
		}
		if most.Bridge == "" || len(mtus) > len(most.MTUs) {
			most = Containers{l.Attrs().Name, mtus}
		}
	}
	return most, nil
}

// portsOf lists the MTUs of the devices that are attached to a bridge.
func portsOf(h *netlink.Handle, bridge int) (mtus []int, err error) {
	links, err := consistent(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge {
			mtus = append(mtus, otherEnd(l))
		}
	}
	return mtus, nil
}

// otherEnd is the MTU of a veth's end inside its container. Where the kernel
// does not tell (before Linux 4.20, or a device of another kind), it is that of
// the end here, for whoever makes containers mostly gives both the same.
func otherEnd(l netlink.Link) (mtu int) {
	here := l.Attrs()
	if l.Type() != "veth" || here.NetNsID < 0 {
		return here.MTU
	}
	// In the namespace that the ID stands for (IFLA_TARGET_NETNSID).
	req := nl.NewNetlinkRequest(unix.RTM_GETLINK, unix.NLM_F_ACK)
	msg := nl.NewIfInfomsg(unix.AF_UNSPEC)
	msg.Index = int32(here.ParentIndex)
	req.AddData(msg)
	req.AddData(nl.NewRtAttr(unix.IFLA_TARGET_NETNSID, nl.Uint32Attr(uint32(here.NetNsID))))
	answers, err := req.Execute(unix.NETLINK_ROUTE, 0)
	if err != nil || len(answers) != 1 {
		return here.MTU
	}
	there, err := netlink.LinkDeserialize(nil, answers[0])
	if err != nil || there.Attrs().MTU == 0 {
		return here.MTU
	}
	return there.Attrs().MTU
}
