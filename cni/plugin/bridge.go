package plugin

import (
	"crypto/rand"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
)

// giveMAC gives a bridge a MAC address if it has none, as when its last port
// went before the bridge plugin (1.9) had fixed the address: by an ADD that
// failed because the subnet was full. That plugin reads the address, adds a
// port and sets what it has read, which the kernel refuses, with every ADD from
// then on. A bridge that is not there is no error.
func giveMAC(bridge string) error {
	device, err := net.InterfaceByName(bridge)
	if err != nil || len(device.HardwareAddr) > 0 { // package net shows no zero address
		return nil
	}
	link, err := netlink.LinkByIndex(device.Index)
	if err != nil {
		return fmt.Errorf("look at %s: %w", bridge, err)
	}
	if link.Type() != "bridge" {
		return nil
	}
	mac := make(net.HardwareAddr, 6)
	rand.Read(mac)
	mac[0] = mac[0]&^1 | 2 // unicast, locally administered
	if err := netlink.LinkSetHardwareAddr(link, mac); err != nil {
		return fmt.Errorf("give %s a MAC address: %w", bridge, err)
	}
	return nil
}
