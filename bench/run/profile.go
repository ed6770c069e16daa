package run

import (
	"fmt"
	"maps"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/report"
)

// A profile makes the underlay like some kind of NIC and wire. Features of
// devices that it does not name are as the kernel made them.
type profile struct {
	name string
	mtu  int            // of the underlay, in bytes
	host report.Offload // of the hosts' underlay device
	port report.Offload // of the switch's ports
	rate uint64         // bits per second at which each host sends; 0 is no limit
	lose uint32         // of a thousand packets between the hosts, in each direction
}

const (
	ethernetMTU = 1500
	jumboMTU    = 9000
)

var (
	noTunnelSegmentation = report.Offload{"tx-udp_tnl-segmentation": false, "tx-udp_tnl-csum-segmentation": false}

	// All that a veth is handed uncut. The kernel then cuts superpackets
	// itself, before it hands them over.
	noSegmentation = report.Offload{
		"tx-tcp-segmentation": false, "tx-tcp-ecn-segmentation": false, "tx-tcp-mangleid-segmentation": false, "tx-tcp6-segmentation": false,
		"tx-tcp-accecn-segmentation": false,
		"tx-gre-segmentation":        false, "tx-gre-csum-segmentation": false, "tx-ipxip4-segmentation": false, "tx-ipxip6-segmentation": false,
		"tx-udp_tnl-segmentation": false, "tx-udp_tnl-csum-segmentation": false, "tx-sctp-segmentation": false, "tx-udp-segmentation": false,
		"tx-gso-list": false,
	}

	profiles = []profile{
		// A veth takes every kind of superpacket, and hands it over whole:
		// better than any NIC.
		{name: "veth", mtu: ethernetMTU},
		// A NIC that cuts plain TCP and UDP superpackets, but none inside a
		// tunnel.
		{name: "notso", mtu: ethernetMTU, host: joining(noTunnelSegmentation), port: noTunnelSegmentation},
		{name: "noseg", mtu: ethernetMTU, host: joining(noSegmentation), port: noSegmentation},
		{name: "mtu9000", mtu: jumboMTU, host: joining(noTunnelSegmentation), port: noTunnelSegmentation},
		{name: "1gbit", mtu: ethernetMTU, host: joining(noTunnelSegmentation), port: noTunnelSegmentation, rate: 1e9},
		// A superpacket would be lost as a whole, as on no wire.
		{name: "loss1", mtu: ethernetMTU, host: joining(noSegmentation), port: noSegmentation, lose: 10},
	}
)

// joining adds that the kernel joins what a device receives, as a NIC's driver
// has it.
func joining(o report.Offload) report.Offload {
	o = maps.Clone(o)
	o["rx-gro"] = true
	return o
}

// ProfileNames lists the profiles.
func ProfileNames() (names []string) {
	for _, p := range profiles {
		names = append(names, p.name)
	}
	return names
}

func profileOf(name string) (found profile) {
	for _, p := range profiles {
		if p.name == name {
			found = p
		}
	}
	return found
}

// whole tells whether superpackets inside a tunnel pass the underlay in one piece.
func (p profile) whole() bool {
	_, cut := p.host["tx-udp_tnl-segmentation"]
	return !cut
}

// underlay is the devices of one path that profiles change.
type underlay struct {
	devices []underlayDevice
}

type underlayDevice struct {
	in      *lab.Namespace
	name    string
	host    bool           // else the switch's
	kernels report.Offload // features that profiles change, as the kernel made them
}

func newUnderlay(c *lab.Cluster) (*underlay, error) {
	u := new(underlay)
	for _, h := range c.Hosts[:hosts] {
		u.devices = append(u.devices,
			underlayDevice{in: h.Namespace, name: "eth0", host: true},
			underlayDevice{in: c.Switch, name: fmt.Sprintf("port%d", h.Number)})
	}
	for i := range u.devices {
		d := &u.devices[i]
		features, err := d.in.Features(d.name)
		if err != nil {
			return nil, err
		}
		d.kernels = make(report.Offload)
		for _, p := range profiles {
			for name := range p.changes(d.host) {
				// What a kernel does not know is not on.
				if on, known := features[name]; known {
					d.kernels[name] = on
				}
			}
		}
	}
	return u, nil
}

func (p profile) changes(host bool) report.Offload {
	if host {
		return p.host
	}
	return p.port
}

// tryAll applies profiles one after the other, and then one to stay: what a kernel
// lacks should not show after a quarter of an hour.
func (u *underlay) tryAll(profiles []string, stay profile) error {
	for _, name := range append(profiles[:len(profiles):len(profiles)], stay.name) {
		if _, err := u.set(profileOf(name)); err != nil {
			return fmt.Errorf("set underlay profile %s: %w", name, err)
		}
	}
	return nil
}

// set applies a profile in place of the former one, and returns the features
// of the hosts' device then.
func (u *underlay) set(p profile) (now report.Offload, err error) {
	for _, d := range u.devices {
		want := maps.Clone(d.kernels)
		for name, on := range p.changes(d.host) {
			if _, known := want[name]; known {
				want[name] = on
			}
		}
		if err := d.in.SetFeatures(d.name, want); err != nil {
			return nil, err
		}
		if !d.host {
			err = setLoss(d.in, d.name, p.lose)
		} else if err = setRate(d.in, d.name, p.rate); err == nil {
			now, err = d.in.Features(d.name)
		}
		if err != nil {
			return nil, err
		}
	}
	return now, nil
}
