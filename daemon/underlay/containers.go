package underlay

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
)

// Containers are the devices that are attached to a bridge, one for each
// container.
type Containers struct {
	Bridge string // "" if there is none
	MTUs   []int  // of each device, in bytes: the container's end has the same
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
			mtus = append(mtus, l.Attrs().MTU)
		}
	}
	return mtus, nil
}
