package underlay

import (
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
)

// ContainersOn counts the devices that are attached to the bridge with an
// address in s, which are the containers that cannot be renumbered. With
// several such bridges it returns the one with most; with none, "" and 0.
func ContainersOn(s subnet.Subnet) (bridge string, n int, err error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return "", 0, fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()
	addrs, err := consistent(func() ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return "", 0, fmt.Errorf("list addresses: %w", err)
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
		ports, err := portsOf(h, a.LinkIndex)
		if err != nil {
			return "", 0, err
		}
		if bridge == "" || ports > n {
			bridge, n = l.Attrs().Name, ports
		}
	}
	return bridge, n, nil
}

// portsOf counts the devices that are attached to a bridge.
func portsOf(h *netlink.Handle, bridge int) (int, error) {
	links, err := consistent(h.LinkList)
	if err != nil {
		return 0, fmt.Errorf("list links: %w", err)
	}
	n := 0
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge {
			n++
		}
	}
	return n, nil
}
