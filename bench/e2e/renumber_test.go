package e2e

import (
	"context"
	"testing"

	"github.com/weftnet/weft/bench/lab"
)

// A node takes another subnet when it is asked to, in both address families, and
// whatever routes it has to its peers by then.
func TestNewSubnet(t *testing.T) {
	for _, k := range []struct{ name, backend string }{
		{"direct routing", `{"Type": "vxlan", "DirectRouting": true}`},
		{"udp with a fallback", `{"Type": "udp", "Fallback": "vxlan"}`},
	} {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			c := build(t, spec{
				ipv4: lab.UnderlayIPv4, ipv6: lab.UnderlayIPv6,
				config: `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": ` + k.backend + `}`,
			})
			c.startWeftd(0)
			c.startWeftd(1)
			former, other := c.waitReady(0), c.waitReady(1)
			c.reach(c.hosts[0].Namespace, other.Subnet.Masked().Addr())
			c.reach(c.hosts[0].Namespace, other.IPv6Subnet.Masked().Addr())

			w := c.weftds[0]
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			if _, err := w.Host.Command(ctx, w.Binary, "lease", "renew", "--new-subnet", "--control-socket="+w.ControlSocket); err != nil {
				t.Fatal(err)
			}
			next := c.waitReady(0)
			if next.Subnet == former.Subnet || next.IPv6Subnet == former.IPv6Subnet {
				t.Fatalf("the subnets were %s and %s, and are %s and %s", former.Subnet, former.IPv6Subnet, next.Subnet, next.IPv6Subnet)
			}
			c.attach(0, next)
			c.attach(1, other)
			c.reachAll()
		})
	}
}
