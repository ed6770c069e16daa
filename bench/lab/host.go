package lab

import (
	"fmt"
	"net/netip"
)

// Host is one machine of a cluster: a namespace with eth0 on the underlay.
type Host struct {
	*Namespace
	Number     int        // from 1
	IPv4, IPv6 netip.Addr // on the underlay; zero where it has no such network
	Dir        string     // logs and state of its processes

	// Container is nil until AttachContainer.
	Container *Container

	cluster *Cluster
}

// PlugIn joins the host to the switch by a new eth0, with its addresses and
// default routes. NewCluster has done so; it is for a host whose eth0 was
// deleted.
func (h *Host) PlugIn() error {
	c, port := h.cluster, fmt.Sprintf("port%d", h.Number)
	if err := Veth(End{h.Namespace, "eth0"}, End{c.Switch, port}, c.MTU); err != nil {
		return err
	}
	if err := c.Switch.Attach("br0", port); err != nil {
		return err
	}
	for _, network := range c.networks() {
		if err := h.AddAddr("eth0", nthAddr(network, h.Number)); err != nil {
			return err
		}
	}
	return h.AddDefaultRoutes()
}

// AddDefaultRoutes leads what has no other route to the switch.
func (h *Host) AddDefaultRoutes() error { return h.defaultRoutes(h.AddRoute) }

// DelDefaultRoutes undoes that.
func (h *Host) DelDefaultRoutes() error { return h.defaultRoutes(h.DelRoute) }

func (h *Host) defaultRoutes(do func(dst netip.Prefix, via netip.Addr) error) error {
	for _, network := range h.cluster.networks() {
		anywhere := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if network.Addr().Is6() {
			anywhere = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if err := do(anywhere, nthAddr(network, switchNumber).Addr()); err != nil {
			return err
		}
	}
	return nil
}

// Container is a namespace behind its host's bridge cni0.
type Container struct {
	*Namespace
	IPv4, IPv6 netip.Addr // of the leased subnet; IPv6 is zero unless dual stack
}

// AttachContainer does by hand what Docker or a CNI plugin does with
// subnet.env: a bridge with the subnet's gateway address, forwarding switched
// on, and a container behind it whose default route is the bridge.
func (h *Host) AttachContainer(env SubnetEnv) error {
	ns, err := NewNamespace(fmt.Sprintf("%s-container%d", h.cluster.Name, h.Number))
	if err != nil {
		return err
	}
	h.Container = &Container{Namespace: ns}
	if err := Veth(End{ns, "eth0"}, End{h.Namespace, "veth0"}, env.MTU); err != nil {
		return err
	}
	if err := h.Bridge("cni0", env.MTU, "veth0"); err != nil {
		return err
	}
	if err := h.attachSubnet(env.Subnet, netip.IPv4Unspecified(), &h.Container.IPv4); err != nil {
		return err
	}
	if err := h.Sysctl("net/ipv4/ip_forward", "1"); err != nil {
		return err
	}
	if !env.IPv6Subnet.IsValid() {
		return nil
	}
	if err := h.attachSubnet(env.IPv6Subnet, netip.IPv6Unspecified(), &h.Container.IPv6); err != nil {
		return err
	}
	return h.Sysctl("net/ipv6/conf/all/forwarding", "1")
}

// attachSubnet gives the bridge the gateway address, and the container the
// address after it and a default route.
func (h *Host) attachSubnet(gateway netip.Prefix, anywhere netip.Addr, container *netip.Addr) error {
	*container = gateway.Addr().Next()
	if err := h.AddAddr("cni0", gateway); err != nil {
		return err
	}
	if err := h.Container.AddAddr("eth0", netip.PrefixFrom(*container, gateway.Bits())); err != nil {
		return err
	}
	return h.Container.AddRoute(netip.PrefixFrom(anywhere, 0), gateway.Addr())
}

// plainNetwork is routed without an overlay (the range is for benchmarks,
// RFC 2544); host n's containers have 198.18.n.0/24 of it.
var plainNetwork = netip.MustParsePrefix("198.18.0.0/16")

// PlainIPv4 is the container's address on the plainly routed network.
func (h *Host) PlainIPv4() netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18, byte(h.Number), 2})
}

// RoutePlainly gives each container a second IPv4 address and each host a
// route to every other host's containers by way of the underlay. What goes
// between those addresses meets the same devices but no overlay: it is the
// yardstick. Every host needs a container and an IPv4 underlay address.
func (c *Cluster) RoutePlainly() error {
	for _, h := range c.Hosts {
		gateway := netip.PrefixFrom(h.PlainIPv4().Prev(), 24)
		if err := h.AddAddr("cni0", gateway); err != nil {
			return err
		}
		if err := h.Container.AddAddr("eth0", netip.PrefixFrom(h.PlainIPv4(), 24)); err != nil {
			return err
		}
		// By this route the container's source is the plain address.
		if err := h.Container.AddRoute(plainNetwork, gateway.Addr()); err != nil {
			return err
		}
		for _, peer := range c.Hosts {
			if peer == h {
				continue
			}
			if err := h.AddRoute(netip.PrefixFrom(peer.PlainIPv4(), 24).Masked(), peer.IPv4); err != nil {
				return err
			}
		}
	}
	return nil
}
