package run

import (
	"fmt"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/report"
)

// A profile makes the underlay's devices like some kind of NIC. Features that
// it does not name are as the kernel made them.
type profile struct {
	name string
	host report.Offload // of the hosts' underlay device
	port report.Offload // of the switch's ports
}

var (
	noTunnelSegmentation = report.Offload{"tx-udp_tnl-segmentation": false, "tx-udp_tnl-csum-segmentation": false}

	profiles = []profile{
		// A veth takes every kind of superpacket, and hands it over whole:
		// better than any NIC.
		{name: "veth"},
		// A NIC that cuts plain TCP and UDP superpackets, but none inside a
		// tunnel. What it receives the kernel joins, as a NIC's driver has it.
		{name: "notso", host: report.Offload{"tx-udp_tnl-segmentation": false, "tx-udp_tnl-csum-segmentation": false, "rx-gro": true}, port: noTunnelSegmentation},
	}
)

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

// touched are the features that any profile changes.
func touched() map[string]bool {
	names := make(map[string]bool)
	for _, p := range profiles {
		for _, features := range []report.Offload{p.host, p.port} {
			for name := range features {
				names[name] = true
			}
		}
	}
	return names
}

// underlay is the devices of one path that profiles change.
type underlay struct {
	devices []underlayDevice
}

type underlayDevice struct {
	in      *lab.Namespace
	name    string
	host    bool           // else the switch's
	kernels report.Offload // touched features as the kernel made them
}

func newUnderlay(c *lab.Cluster) (*underlay, error) {
	u := new(underlay)
	for _, h := range c.Hosts {
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
		for name := range touched() {
			on, known := features[name]
			if !known {
				return nil, fmt.Errorf("this kernel knows no offload %s", name)
			}
			d.kernels[name] = on
		}
	}
	return u, nil
}

// set applies a profile, and returns the features of the hosts' device then.
func (u *underlay) set(p profile) (report.Offload, error) {
	var now report.Offload
	for _, d := range u.devices {
		want := make(report.Offload)
		for name, on := range d.kernels {
			want[name] = on
		}
		changes := p.port
		if d.host {
			changes = p.host
		}
		for name, on := range changes {
			want[name] = on
		}
		if err := d.in.SetFeatures(d.name, want); err != nil {
			return nil, err
		}
		if d.host {
			var err error
			if now, err = d.in.Features(d.name); err != nil {
				return nil, err
			}
		}
	}
	return now, nil
}
