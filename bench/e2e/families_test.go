package e2e

import (
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

const dualStack = `{
	"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48",
	"Backend": {"Type": "udp"}
}`

func TestDualStack(t *testing.T) {
	for _, test := range []struct {
		name     string
		underlay spec
		mtu      int
	}{
		{"IPv4 underlay", spec{ipv4: lab.UnderlayIPv4}, 1500 - 28},
		{"IPv6 underlay", spec{ipv6: lab.UnderlayIPv6}, 1500 - 48},
		{"both underlays", spec{ipv4: lab.UnderlayIPv4, ipv6: lab.UnderlayIPv6}, 1500 - 28},
	} {
		t.Run(test.name, func(t *testing.T) {
			s := test.underlay
			s.config = dualStack
			c := start(t, s)
			c.reachAll()
			for i := range c.hosts {
				env := c.waitReady(i)
				if env.MTU != test.mtu {
					t.Errorf("host%d: MTU %d, want %d", i+1, env.MTU, test.mtu)
				}
			}
			a, b := c.hosts[0].Container, c.hosts[1].Container
			if !b.IPv6.IsValid() {
				t.Fatal("the container has no IPv6 address")
			}
			if _, err := traffic.SendChecked(t.Context(), a.Namespace, b.Namespace, b.IPv6, 16<<20, "", nil); err != nil {
				t.Error(err)
			}
			for _, size := range []int{64, 4000} {
				echoes(t, "UDP over IPv6", a.Namespace, b.Namespace, b.IPv6, traffic.EchoOptions{Count: 100, Size: size})
			}
		})
	}
}

// The largest packet that the MTU promises arrives, over IPv4 and IPv6.
func TestFullSizedPackets(t *testing.T) {
	c := start(t, spec{config: dualStack, ipv4: lab.UnderlayIPv4, mtu: 1400})
	c.reachAll()
	a, b := c.hosts[0].Container, c.hosts[1].Container
	const mtu = 1400 - 28
	pings(t, "IPv4", a.Namespace, b.IPv4, traffic.PingOptions{Count: 3, Size: mtu - 28, DontFragment: true})
	pings(t, "IPv6", a.Namespace, b.IPv6, traffic.PingOptions{Count: 3, Size: mtu - 48, DontFragment: true})
}
