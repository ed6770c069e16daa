package vxlan

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// VTEP is this node's tunnel endpoint: what it is made of in the kernel, as a
// desired state to be merged with others. It changes nothing itself, and its
// methods may be called concurrently.
//
// As with flannel there is one device for each address family, for the outer
// packets have the family of the inner ones: flannel.1 carries IPv4 in IPv4,
// flannel-v6.1 IPv6 in IPv6.
type VTEP struct {
	settings settings
	underlay tunnel.Underlay
	network  tunnel.Network
	sides    []side
	missing  []error // why a family of the network has no side

	mu       sync.Mutex
	offloads map[string]offload // by device, as far as a ChecksumTest has come
}

// side is the tunnel of one address family.
type side struct {
	ipv6    bool
	device  string
	mac     netstate.MAC
	local   netip.Addr // on the underlay
	network netip.Prefix
	mtu     int
	beside  bool // another device has routes for peers' subnets as well
}

// NewVTEP checks the configuration. A family of the network for which the
// underlay has no address is left out; see Missing.
func NewVTEP(cfg Config) (*VTEP, error) {
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s, err := parseSettings(cfg.Backend, cfg.Network.IPv6.IsValid())
	if err != nil {
		return nil, err
	}
	v := &VTEP{settings: s, underlay: cfg.Underlay, network: cfg.Network}
	for _, f := range []struct {
		ipv6          bool
		network       netip.Prefix
		local, public netip.Addr
		overhead      int
	}{
		{false, cfg.Network.IPv4, cfg.Underlay.IPv4, cfg.Underlay.PublicIPv4, overheadIPv4},
		{true, cfg.Network.IPv6, cfg.Underlay.IPv6, cfg.Underlay.PublicIPv6, overheadIPv6},
	} {
		if !f.network.IsValid() {
			continue
		}
		if !f.local.IsValid() || !f.public.IsValid() {
			v.missing = append(v.missing, fmt.Errorf("%s has no address to carry %v: give it one, or use the udp backend, which carries either family over the other",
				cfg.Underlay.Name, f.network))
			continue
		}
		mtu, err := cfg.deviceMTU(s.MTU, f.overhead)
		if err != nil {
			return nil, err
		}
		device := deviceName(f.ipv6, s.VNI)
		v.sides = append(v.sides, side{f.ipv6, device, deriveMAC(cfg.NodeID, device), f.local, f.network, mtu, cfg.Beside || s.DirectRouting})
	}
	if len(v.sides) == 0 {
		return nil, v.missing[0]
	}
	if s.MTU > cfg.Underlay.MTU {
		cfg.Log.Warn("the configured MTU does not fit this node's underlay, using the interface's",
			"configured", s.MTU, "underlay", cfg.Underlay.Name, "underlay_mtu", cfg.Underlay.MTU)
	}
	return v, nil
}

// Data is what the lease announces for IPv4 and IPv6; nil for a side that this
// node does not have.
func (v *VTEP) Data() (v4, v6 json.RawMessage) {
	for _, s := range v.sides {
		if s.ipv6 {
			v6 = announce(v.settings.VNI, s.mac)
		} else {
			v4 = announce(v.settings.VNI, s.mac)
		}
	}
	return v4, v6
}

// MTU is the least of the devices', in bytes: what containers can use for
// either family.
func (v *VTEP) MTU() int {
	mtu := v.sides[0].mtu
	for _, s := range v.sides {
		mtu = min(mtu, s.mtu)
	}
	return mtu
}

// Port is the UDP port that encapsulated packets come to.
func (v *VTEP) Port() uint16 { return uint16(v.settings.Port) }

// Devices names the devices, IPv4's first.
func (v *VTEP) Devices() (names []string) {
	for _, s := range v.sides {
		names = append(names, s.device)
	}
	return names
}

// Direct tells whether peers on the underlay's own link get their packets
// without a tunnel.
func (v *VTEP) Direct() bool { return v.settings.DirectRouting }

// ARP is the device that ARP is spoken on, and its MAC; ok is false where there
// is none for IPv4.
func (v *VTEP) ARP() (device string, mac netstate.MAC, ok bool) {
	for _, s := range v.sides {
		if !s.ipv6 {
			return s.device, s.mac, true
		}
	}
	return "", mac, false
}

// Missing tells which families of the network are not carried, and why.
func (v *VTEP) Missing() []error { return v.missing }

// State is what the kernel must hold for the endpoint to exist, without any
// peer. With the zero Subnet the devices are down, so that nothing is received
// either.
func (v *VTEP) State(own subnet.Subnet) netstate.State {
	var state netstate.State
	for _, s := range v.sides {
		state.Links = append(state.Links, netstate.Link{
			Name: s.device, MTU: s.mtu, MAC: s.mac, TxChecksum: v.offload(s.device).set, Exclusive: true,
			Up: own != subnet.Subnet{}, Down: own == subnet.Subnet{},
			VXLAN: &netstate.VXLAN{
				VNI: uint32(v.settings.VNI), Port: v.Port(), Underlay: v.underlay.Name, Local: s.local,
				Learning: v.settings.Learning, GBP: v.settings.GBP,
			},
		})
		if a := s.tunnelAddr(own); a.IsValid() {
			state.Addrs = append(state.Addrs, netstate.Addr{Link: s.device, Prefix: netip.PrefixFrom(a, a.BitLen())})
		}
		state.Sysctls = append(state.Sysctls, s.sysctls()...)
	}
	return state
}

// tunnelAddr is the network address of this node's subnet. A host's own
// connections to containers elsewhere have it as their source.
func (s *side) tunnelAddr(own subnet.Subnet) netip.Addr {
	v4, v6 := own.TunnelAddrs()
	if s.ipv6 {
		return v6
	}
	return v4
}

func (s *side) sysctls() []netstate.Sysctl {
	v4, v6 := "net/ipv4/conf/"+s.device, "net/ipv6/conf/"+s.device
	// Loose: the way back to a source may lead elsewhere.
	all := []netstate.Sysctl{{Key: v4 + "/rp_filter", Value: "2"}}
	if _, err := os.Stat("/proc/sys/net/ipv6"); err != nil {
		return all
	}
	// No link-local address, and so no solicitations and reports: there is
	// no group that they could be sent to.
	all = append(all, netstate.Sysctl{Key: v6 + "/addr_gen_mode", Value: "1"})
	if s.ipv6 {
		all = append(all, netstate.Sysctl{Key: v6 + "/disable_ipv6", Value: "0"}, netstate.Sysctl{Key: v6 + "/accept_ra", Value: "0"})
	}
	return all
}
