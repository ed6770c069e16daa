package udp

import (
	"net/netip"
	"os"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel/netstate"
)

// txQueueLen is the TUN's queue in packets, the kernel's own default for a
// TUN. With superpackets it holds up to 32 MB; a longer one was not found to
// carry more, and only makes packets wait.
const txQueueLen = 500

// networkState is what the kernel must hold for packets to come to the device:
// the device itself, the tunnel addresses, the routes of the network.
func (c *Config) networkState(mtu int, own subnet.Subnet) netstate.State {
	device, network := c.Device, c.Network
	s := netstate.State{
		Links: []netstate.Link{{Name: device, MTU: mtu, TxQueueLen: txQueueLen, Up: true, Exclusive: true}},
		Sysctls: []netstate.Sysctl{
			// Loose: the way back to a source may lead elsewhere.
			{Key: "net/ipv4/conf/" + device + "/rp_filter", Value: "2"},
			// The engine's own ICMP errors come out of the device with the
			// tunnel address, which is local, as their source. Nothing else
			// can: a peer's packets have sources of that peer's subnet.
			{Key: "net/ipv4/conf/" + device + "/accept_local", Value: "1"},
		},
	}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err == nil {
		// No link-local address, and so no solicitations and reports which
		// the engine would only drop.
		s.Sysctls = append(s.Sysctls, netstate.Sysctl{Key: "net/ipv6/conf/" + device + "/addr_gen_mode", Value: "1"})
	}
	if network.IPv6.IsValid() {
		s.Sysctls = append(s.Sysctls,
			netstate.Sysctl{Key: "net/ipv6/conf/" + device + "/disable_ipv6", Value: "0"},
			netstate.Sysctl{Key: "net/ipv6/conf/" + device + "/accept_ra", Value: "0"},
		)
	}
	for _, f := range []struct{ network, own netip.Prefix }{{network.IPv4, own.IPv4}, {network.IPv6, own.IPv6}} {
		if !f.network.IsValid() {
			continue
		}
		toDevice := netstate.Route{Dst: f.network, Link: device}
		if f.own.IsValid() {
			address := f.own.Addr() // the subnet's network address
			toDevice.Src = address
			s.Addrs = append(s.Addrs, netstate.Addr{Link: device, Prefix: netip.PrefixFrom(address, address.BitLen())})
			if c.Blackhole {
				// The bridge with the same prefix has a metric of 0 (IPv6: 256)
				// and wins while it is there.
				s.Routes = append(s.Routes, netstate.Route{Dst: f.own, Type: netstate.Blackhole, Metric: netstate.LastMetric})
			}
		}
		s.Routes = append(s.Routes, toDevice,
			// When the device is gone, nothing leaks to the default route.
			netstate.Route{Dst: f.network, Type: netstate.Unreachable, Metric: netstate.LastMetric})
	}
	return s
}
