package run

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// What flannel's vxlan backend uses by default.
const (
	vxlanDevice   = "flannel.1"
	vxlanID       = 1
	vxlanPort     = 8472
	vxlanOverhead = 50 // bytes: Ethernet, IPv4, UDP and VXLAN headers
)

// joinByVXLAN makes kernel VXLAN devices with the neighbours, forwarding
// entries and routes that flannel's vxlan backend makes; only nobody watches
// over them.
func joinByVXLAN(_ context.Context, _ *Options, p *path) error {
	if err := p.attach(underlayMTU - vxlanOverhead); err != nil {
		return err
	}
	for _, h := range p.cluster.Hosts {
		peer := p.cluster.Hosts[hosts-h.Number]
		if err := h.Do(func() error { return addVTEP(h, peer) }); err != nil {
			return fmt.Errorf("set up %s in %s: %w", vxlanDevice, h.Name, err)
		}
	}
	return nil
}

// addVTEP is called on a thread in the host's namespace.
func addVTEP(h, peer *lab.Host) error {
	underlay, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.HardwareAddr = vxlanDevice, underlayMTU-vxlanOverhead, vtepMAC(h)
	device := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: vxlanID, VtepDevIndex: underlay.Attrs().Index,
		SrcAddr: h.IPv4.AsSlice(), Port: vxlanPort}
	if err := netlink.LinkAdd(device); err != nil {
		return fmt.Errorf("add device: %w", err)
	}
	own := &net.IPNet{IP: tunnelAddr(h).AsSlice(), Mask: net.CIDRMask(32, 32)}
	if err := netlink.AddrAdd(device, &netlink.Addr{IPNet: own}); err != nil {
		return fmt.Errorf("add address: %w", err)
	}
	if err := netlink.LinkSetUp(device); err != nil {
		return err
	}
	neighbour := netlink.Neigh{LinkIndex: device.Index, State: netlink.NUD_PERMANENT, HardwareAddr: vtepMAC(peer)}
	neighbour.IP = tunnelAddr(peer).AsSlice()
	if err := netlink.NeighSet(&neighbour); err != nil {
		return fmt.Errorf("add neighbour: %w", err)
	}
	neighbour.IP, neighbour.Family, neighbour.Flags = peer.IPv4.AsSlice(), unix.AF_BRIDGE, netlink.NTF_SELF
	if err := netlink.NeighSet(&neighbour); err != nil {
		return fmt.Errorf("add forwarding entry: %w", err)
	}
	subnet := gateway(peer).Masked()
	route := &netlink.Route{LinkIndex: device.Index, Gw: tunnelAddr(peer).AsSlice(), Flags: int(netlink.FLAG_ONLINK),
		Dst: &net.IPNet{IP: subnet.Addr().AsSlice(), Mask: net.CIDRMask(subnet.Bits(), 32)}}
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("add route: %w", err)
	}
	return nil
}

// tunnelAddr is the network address of the host's subnet.
func tunnelAddr(h *lab.Host) netip.Addr { return gateway(h).Masked().Addr() }

func vtepMAC(h *lab.Host) net.HardwareAddr {
	return net.HardwareAddr{0x0e, 0, 0, 0, 0, byte(h.Number)} // locally administered
}
