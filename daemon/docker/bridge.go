package docker

import (
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// bridgesWith finds the bridges of this host, whoever made them, that have an
// address of a network.
func bridgesWith(n Network) ([]string, error) {
	addrs, err := bridgeAddrs()
	if err != nil {
		return nil, err
	}
	var names []string
	for _, a := range addrs {
		if n.Subnet.Contains(a.addr.Addr()) || n.IPv6Subnet.IsValid() && n.IPv6Subnet.Contains(a.addr.Addr()) {
			names = append(names, a.bridge)
		}
	}
	return names, nil
}

// OnDocker0 tells whether docker0 has the address that the options give it. It
// may be that dockerd does not run, or has not been restarted since.
func (o Options) OnDocker0() (bool, error) {
	addrs, err := bridgeAddrs()
	if err != nil {
		return false, err
	}
	for _, a := range addrs {
		if a.bridge == "docker0" && a.addr == o.BIP {
			return true, nil
		}
	}
	return false, nil
}

// A bridgeAddr is an address of a bridge.
type bridgeAddr struct {
	bridge string
	addr   netip.Prefix // not masked
}

func bridgeAddrs() ([]bridgeAddr, error) {
	links, err := netlink.LinkList()
	if err != nil {
		return nil, fmt.Errorf("list network devices: %w", err)
	}
	var all []bridgeAddr
	for _, l := range links {
		if l.Type() != "bridge" {
			continue
		}
		addrs, err := netlink.AddrList(l, netlink.FAMILY_ALL)
		if err != nil {
			return nil, fmt.Errorf("list addresses of %s: %w", l.Attrs().Name, err)
		}
		for _, a := range addrs {
			ip, _ := netip.AddrFromSlice(a.IP)
			ones, _ := a.Mask.Size()
			all = append(all, bridgeAddr{l.Attrs().Name, netip.PrefixFrom(ip.Unmap(), ones)})
		}
	}
	return all, nil
}
