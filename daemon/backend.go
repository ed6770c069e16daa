package main

import (
	"errors"
	"fmt"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/fallback"
	"github.com/weftnet/weft/tunnel/hostgw"
	"github.com/weftnet/weft/tunnel/udp"
	"github.com/weftnet/weft/tunnel/udp/classic"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// Types of backend, as the network config names them.
const (
	typeUDP    = "udp"
	typeVXLAN  = "vxlan"
	typeHostGW = "host-gw"
)

// checkBackend tells whether this version of weft can run the backend that a
// network config names, with the settings it gives.
func checkBackend(cfg *subnet.Config) error {
	switch cfg.BackendType {
	case typeUDP:
		return fallback.CheckSettings(cfg.Backend, cfg.DualStack())
	case typeVXLAN:
		return vxlan.CheckSettings(cfg.Backend, cfg.DualStack())
	case typeHostGW:
		return nil
	}
	return fmt.Errorf("Backend.Type is %q, but weft has udp, vxlan and host-gw only", cfg.BackendType)
}

// newBackend makes, but does not start, the backend that the network config
// names, for the underlay as it is.
func (n *node) newBackend() (tunnel.Backend, error) {
	switch n.cfg.BackendType {
	case typeVXLAN:
		return vxlan.New(vxlan.Config{
			Underlay:  n.under,
			Network:   n.network,
			Backend:   n.cfg.Backend,
			NodeID:    n.self.Node.ID,
			Blackhole: n.o.BlackholeRoute,
			Log:       n.log,
		})
	case typeHostGW:
		return hostgw.New(hostgw.Config{
			Underlay:  n.under,
			Network:   n.network,
			Blackhole: n.o.BlackholeRoute,
			Log:       n.log,
		})
	}
	wanted, err := fallback.Wanted(n.cfg.Backend)
	if err != nil {
		return nil, err
	}
	if n.o.UDPEngine == options.UDPEngineClassic {
		if wanted {
			return nil, errors.New("--udp-engine=classic has no fallback, which Backend.Fallback of the network config asks for: leave out one of them")
		}
		return classic.New(classic.Config{
			Underlay:  n.under,
			Network:   n.network,
			Backend:   n.cfg.Backend,
			Blackhole: n.o.BlackholeRoute,
			Log:       n.log,
		})
	}
	cfg := udp.Config{
		Underlay:  n.under,
		Network:   n.network,
		Backend:   n.cfg.Backend,
		Blackhole: n.o.BlackholeRoute,
		Log:       n.log,
	}
	for _, name := range n.o.UDPDisable {
		cfg.Disable = append(cfg.Disable, udp.Feature(name))
	}
	if wanted {
		return fallback.New(fallback.Config{Config: cfg, NodeID: n.self.Node.ID})
	}
	return udp.New(cfg)
}

// overlayDevices names the devices that a backend's packets pass; none where
// the underlay carries them as they are.
func overlayDevices(b tunnel.Backend) []string {
	switch b := b.(type) {
	case *fallback.Backend:
		return b.Devices()
	case *vxlan.Backend:
		return b.VTEP().Devices()
	case *hostgw.Backend:
		return nil
	}
	return []string{udp.DefaultDevice}
}

// directDevices names the devices by which a backend's packets come without a
// tunnel: the underlay, or none.
func directDevices(b tunnel.Backend, underlay string) []string {
	switch b := b.(type) {
	case *vxlan.Backend:
		if b.VTEP().Direct() {
			return []string{underlay}
		}
	case *hostgw.Backend:
		return []string{underlay}
	}
	return nil
}
