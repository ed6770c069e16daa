package classic

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/udp"
)

// overhead is what the tunnel adds to an inner packet, in bytes: an IPv4 and a
// UDP header.
const overhead = 20 + 8

// MTUs of the device: what every IPv4 host can reassemble (RFC 791), and the
// longest IPv4 packet.
const (
	minMTU = 576
	maxMTU = 65535
)

// Config is udp.Config less what concerns offloads.
type Config struct {
	Underlay tunnel.Underlay
	Network  tunnel.Network
	Backend  json.RawMessage // the Backend object of the cluster's config; nil for defaults
	Device   string          // name of the TUN; "" is udp.DefaultDevice
	Log      *slog.Logger

	// Blackhole drops packets for this node's own subnet while no bridge has
	// it, rather than sending them into the tunnel (--ip-blackhole-route).
	Blackhole bool
}

// settings reads the Backend object: the UDP port, and the device's MTU.
func (c *Config) settings() (port, mtu int, err error) {
	s := struct{ Port, MTU int }{Port: udp.DefaultPort}
	if len(c.Backend) > 0 {
		if err := json.Unmarshal(c.Backend, &s); err != nil {
			return 0, 0, fmt.Errorf("read Backend of the network config: %w", err)
		}
	}
	fits := min(c.Underlay.MTU-overhead, maxMTU)
	switch {
	case !c.Underlay.IPv4.Is4():
		return 0, 0, fmt.Errorf("underlay %s has no IPv4 address, and the classic engine knows IPv4 only: use --udp-engine=gso", c.Underlay.Name)
	case !c.Network.IPv4.IsValid():
		return 0, 0, errors.New("the network has no IPv4 prefix")
	case c.Network.Contains(c.Underlay.IPv4) || c.Network.Contains(c.Underlay.PublicIPv4):
		return 0, 0, fmt.Errorf("an address of %s lies inside the network that the tunnel makes: choose another Network or another interface", c.Underlay.Name)
	case s.Port < 1 || s.Port > 65535:
		return 0, 0, fmt.Errorf("Backend.Port is %d: a UDP port is from 1 to 65535 (flannel's default is %d)", s.Port, udp.DefaultPort)
	case s.MTU != 0 && (s.MTU < minMTU || s.MTU > maxMTU):
		return 0, 0, fmt.Errorf("Backend.MTU is %d: it may be from %d to %d, or 0 for the underlay's MTU less %d", s.MTU, minMTU, maxMTU, overhead)
	case fits < minMTU:
		return 0, 0, fmt.Errorf("the MTU of %s is %d, which leaves %d bytes inside the tunnel, and %d are needed: raise it or use another interface", c.Underlay.Name, c.Underlay.MTU, fits, minMTU)
	case s.MTU != 0:
		return s.Port, min(s.MTU, fits), nil
	}
	return s.Port, fits, nil
}

// networkState is what the kernel must hold for packets to come to the device.
// IPv6 of a dual-stack network is refused rather than leaked.
func (c *Config) networkState(mtu int, own subnet.Subnet) netstate.State {
	tunnelAddress := own.IPv4.Addr()
	s := netstate.State{
		Links: []netstate.Link{{Name: c.Device, MTU: mtu, Up: true, Exclusive: true}},
		Addrs: []netstate.Addr{{Link: c.Device, Prefix: netip.PrefixFrom(tunnelAddress, 32)}},
		Routes: []netstate.Route{
			{Dst: c.Network.IPv4, Link: c.Device, Src: tunnelAddress},
			{Dst: c.Network.IPv4, Type: netstate.Unreachable, Metric: netstate.LastMetric},
		},
		Sysctls: []netstate.Sysctl{
			{Key: "net/ipv4/conf/" + c.Device + "/rp_filter", Value: "2"},
			// The ICMP errors written to the device have a local source.
			{Key: "net/ipv4/conf/" + c.Device + "/accept_local", Value: "1"},
		},
	}
	if c.Network.IPv6.IsValid() {
		s.Routes = append(s.Routes, netstate.Route{Dst: c.Network.IPv6, Type: netstate.Unreachable, Metric: netstate.LastMetric})
	}
	if c.Blackhole {
		s.Routes = append(s.Routes, netstate.Route{Dst: own.IPv4, Type: netstate.Blackhole, Metric: netstate.LastMetric})
	}
	return s
}
