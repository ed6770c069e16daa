package main

import (
	"fmt"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/udp"
	"github.com/weftnet/weft/tunnel/udp/classic"
)

// checkBackend tells whether this version of weft can run the backend that a
// network config names, with the settings it gives.
func checkBackend(cfg *subnet.Config) error {
	switch cfg.BackendType {
	case "udp":
		return udp.CheckSettings(cfg.Backend, cfg.DualStack())
	}
	return fmt.Errorf("Backend.Type is %q, but this version of weft has udp only", cfg.BackendType)
}

// newBackend makes, but does not start, the backend that the network config
// names, for the underlay as it is.
func (n *node) newBackend() (tunnel.Backend, error) {
	if err := checkBackend(n.cfg); err != nil {
		return nil, fmt.Errorf("network config in etcd: %w", err)
	}
	if n.o.UDPEngine == options.UDPEngineClassic {
		return classic.New(classic.Config{
			Underlay:  n.under,
			Network:   n.network,
			Backend:   n.cfg.Backend,
			Blackhole: n.o.BlackholeRoute,
			Log:       n.log,
		})
	}
	var disable []udp.Feature
	for _, name := range n.o.UDPDisable {
		disable = append(disable, udp.Feature(name))
	}
	return udp.New(udp.Config{
		Underlay:  n.under,
		Network:   n.network,
		Backend:   n.cfg.Backend,
		Blackhole: n.o.BlackholeRoute,
		Disable:   disable,
		Log:       n.log,
	})
}
