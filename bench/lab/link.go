package lab

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// End is one end of a veth pair: a device name in a namespace.
type End struct {
	In     *Namespace
	Device string
}

// Veth makes a veth pair between two namespaces, both ends up.
func Veth(a, b End, mtu int) error {
	return a.In.Do(func() error {
		peer, err := netns.GetFromName(b.In.Name)
		if err != nil {
			return fmt.Errorf("open namespace %s: %w", b.In.Name, err)
		}
		defer peer.Close()
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = a.Device, mtu
		veth := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Device, PeerNamespace: netlink.NsFd(peer)}
		if err := netlink.LinkAdd(veth); err != nil {
			return fmt.Errorf("add veth %s in %s to %s in %s: %w", a.Device, a.In.Name, b.Device, b.In.Name, err)
		}
		for _, e := range []End{a, b} {
			if err := e.In.LinkUp(e.Device); err != nil {
				return err
			}
		}
		return nil
	})
}

// Bridge makes a bridge device, up, with the named devices of the same
// namespace as ports.
func (n *Namespace) Bridge(name string, mtu int, ports ...string) error {
	return n.Do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, mtu
		br := &netlink.Bridge{LinkAttrs: attrs}
		if err := netlink.LinkAdd(br); err != nil {
			return fmt.Errorf("add bridge %s in %s: %w", name, n.Name, err)
		}
		for _, p := range ports {
			if err := attach(n, br, p); err != nil {
				return err
			}
		}
		return netlink.LinkSetUp(br)
	})
}

// Attach makes a device of the namespace a port of a bridge.
func (n *Namespace) Attach(bridge, port string) error {
	return n.withLink(bridge, func(br netlink.Link) error { return attach(n, br, port) })
}

func attach(n *Namespace, br netlink.Link, port string) error {
	link, err := netlink.LinkByName(port)
	if err != nil {
		return fmt.Errorf("find %s in %s: %w", port, n.Name, err)
	}
	if err := netlink.LinkSetMaster(link, br); err != nil {
		return fmt.Errorf("attach %s to %s in %s: %w", port, br.Attrs().Name, n.Name, err)
	}
	return nil
}

// LinkUp and LinkDown set a device's state.
func (n *Namespace) LinkUp(device string) error   { return n.withLink(device, netlink.LinkSetUp) }
func (n *Namespace) LinkDown(device string) error { return n.withLink(device, netlink.LinkSetDown) }

// LinkDelete removes a device.
func (n *Namespace) LinkDelete(device string) error { return n.withLink(device, netlink.LinkDel) }

func (n *Namespace) withLink(device string, fn func(netlink.Link) error) error {
	return n.Do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return fmt.Errorf("find %s in %s: %w", device, n.Name, err)
		}
		if err := fn(link); err != nil {
			return fmt.Errorf("%s in %s: %w", device, n.Name, err)
		}
		return nil
	})
}

func parseIPNet(p netip.Prefix) (net.IP, *net.IPNet, error) {
	if !p.IsValid() {
		return nil, nil, fmt.Errorf("invalid prefix")
	}
	return net.ParseCIDR(p.String())
}
