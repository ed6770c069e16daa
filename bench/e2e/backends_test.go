package e2e

import (
	"fmt"
	"testing"

	"github.com/weftnet/weft/bench/traffic"
)

// The kernel's backends carry packets, and go on when weftd does not.
func TestKernelBackends(t *testing.T) {
	for _, test := range []struct {
		backend string
		mtu     int
	}{
		{"vxlan", 1500 - 50},
		{"host-gw", 1500},
	} {
		t.Run(test.backend, func(t *testing.T) {
			c := start(t, spec{config: fmt.Sprintf(`{"Network": "10.5.0.0/16", "Backend": {"Type": %q}}`, test.backend)})
			c.reachAll()
			if env := c.waitReady(0); env.MTU != test.mtu {
				t.Errorf("MTU %d, want %d", env.MTU, test.mtu)
			}
			a, b := c.hosts[0].Container, c.hosts[1].Container
			if _, err := traffic.SendChecked(t.Context(), a.Namespace, b.Namespace, b.IPv4, 16<<20, "", nil); err != nil {
				t.Error(err)
			}
			if err := c.weftds[0].Stop(); err != nil {
				t.Error(err)
			}
			if err := c.weftds[1].Kill(); err != nil {
				t.Error(err)
			}
			r, err := traffic.Ping(t.Context(), a.Namespace, b.IPv4, traffic.PingOptions{})
			if err != nil || r.Lost() > 0 {
				t.Errorf("without weftd: %+v, %v", r, err)
			}
		})
	}
}
