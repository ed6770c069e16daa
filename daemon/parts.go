package main

import (
	"fmt"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/firewall"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/underlay"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
	"github.com/weftnet/weft/tunnel"
)

// Here stands how options, config and lease are put to each part of a node.

// attrs is what this node's lease publishes.
func (n *node) attrs(b tunnel.Backend) subnet.Attrs {
	typ, data, dataV6 := b.Data()
	return subnet.Attrs{
		PublicIP:      n.under.PublicIPv4,
		PublicIPv6:    n.under.PublicIPv6,
		NodeID:        n.self.Node.ID,
		BackendType:   typ,
		BackendData:   data,
		BackendV6Data: dataV6,
	}
}

// publicNode is this node as its alive key shows it.
func (n *node) publicNode() subnet.Node {
	self := n.self.Node
	self.PublicIP = n.under.PublicIPv4.String()
	if !n.under.PublicIPv4.IsValid() {
		self.PublicIP = n.under.PublicIPv6.String()
	}
	return self
}

func (n *node) underlayOptions() underlay.Options {
	return underlay.Options{
		Ifaces:       n.o.Iface,
		IfaceRegexes: n.o.IfaceRegex,
		CanReach:     n.o.IfaceCanReach,
		PublicIP:     n.o.PublicIP,
		PublicIPv6:   n.o.PublicIPv6,
		Network:      n.network,
	}
}

// newFirewall returns nil where there are to be no rules, or neither nftables
// nor iptables can be used.
func (n *node) newFirewall() *firewall.Firewall {
	if n.o.Firewall == options.FirewallOff {
		return nil
	}
	mode := firewall.Mode(n.o.Firewall)
	if n.o.Firewall == options.FirewallAuto && n.cfg.EnableNFTables {
		mode = firewall.ModeNFTables
	}
	fw, err := firewall.New(mode, n.log)
	if err != nil {
		n.log.Error("no firewall rules are made", "error", err)
		n.board.setFirewall(control.Firewall{Mode: "off"}, fmt.Errorf("%w; where no rules are needed, --firewall=off says so", err))
		return nil
	}
	return fw
}

func (n *node) firewallConfig(own subnet.Subnet) firewall.Config {
	v4, v6 := own.TunnelAddrs()
	return firewall.Config{
		Network4:    n.network.IPv4,
		Network6:    n.network.IPv6,
		Subnet4:     own.IPv4,
		Subnet6:     own.IPv6,
		Tunnel4:     v4,
		Tunnel6:     v6,
		Devices:     overlayDevices(n.backend),
		Direct:      directDevices(n.backend, n.under.Name),
		Masquerade:  n.o.IPMasq,
		RandomFully: n.o.MasqRandomFully,
		Forward:     n.o.ForwardRules,
		ClampMSS:    true,
	}
}

// subnetFile is what subnet.env tells those who start containers.
func (n *node) subnetFile(own subnet.Subnet) envfile.File {
	return envfile.File{
		Network:     n.network.IPv4,
		Subnet:      own.Gateway4(),
		IPv6Network: n.network.IPv6,
		IPv6Subnet:  own.Gateway6(),
		MTU:         n.backend.MTU(),
		IPMasq:      n.o.IPMasq,
	}
}
