package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// startRouted starts three hosts, of which the last is behind a router.
func startRouted(t *testing.T, k carrier, dual bool) *cluster {
	t.Helper()
	c := build(t, k.spec(3, dual))
	if err := c.MoveBehindRouter(c.hosts[2]); err != nil {
		t.Fatal(err)
	}
	for i := range c.hosts {
		c.startWeftd(i)
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	return c
}

// Tunnels need no common link. With direct routing, they are for those peers
// only that are not on it.
func TestRoutedUnderlay(t *testing.T) {
	for _, test := range []struct {
		carrier
		dual      bool
		near, far string // path to the two other hosts
		slow      bool   // has little that the others have not
	}{
		{onUDP, true, "udp", "udp", true},
		{onFallback, true, "udp", "udp", false},
		{onVXLAN, true, "vxlan", "vxlan", true},
		{onDirect, true, "direct", "vxlan", false},
		{onDirect, false, "direct", "vxlan", true},
	} {
		name := fmt.Sprintf("%s, dual stack %v", test.name, test.dual)
		if test.slow && !labtest.Full(t, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := startRouted(t, test.carrier, test.dual)
			c.reachAll()
			near, far := c.hosts[1], c.hosts[2]
			for _, b := range []int{1, 2} {
				c.exchange(c.hosts[0], c.hosts[b])
				c.exchange(c.hosts[b], c.hosts[0])
			}
			mtu := test.mtu
			if test.dual {
				mtu = test.dualMTU
			}
			c.fits(c.hosts[0], near, mtu)
			c.fits(c.hosts[0], far, mtu)
			c.eventually(func() string {
				return differs(c.paths(0), []string{c.subnet(1) + " " + test.near, c.subnet(2) + " " + test.far})
			})
		})
	}
}

// host-gw serves the peers on its link and says why it does not serve others.
func TestRoutedUnderlayWithHostGW(t *testing.T) {
	for _, dual := range []bool{false, true} {
		name := fmt.Sprintf("dual stack %v", dual)
		if !dual && !labtest.Full(t, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			c := startRouted(t, onHostGW, dual)
			a, near, far := c.hosts[0], c.hosts[1], c.hosts[2]
			for _, to := range addrs(near) {
				c.reach(a.Container.Namespace, to)
			}
			c.exchange(a, near)
			c.fits(a, near, onHostGW.mtu)
			c.eventually(func() string {
				return differs(c.paths(0), []string{c.subnet(1) + " host-gw"})
			})
			c.eventually(func() string {
				for _, s := range c.status(0).Backend.Skipped {
					if strings.Contains(s.Subnet, c.subnet(2)) && strings.Contains(s.Why, "is not on the link eth0; host-gw needs it there") {
						return ""
					}
				}
				return fmt.Sprintf("the far peer is not reported: %+v", c.status(0).Backend.Skipped)
			})
			for _, to := range addrs(far) {
				// Refused, by the host that has no route, or without any answer.
				r, err := traffic.Ping(t.Context(), a.Container.Namespace, to, traffic.PingOptions{Count: 1, Timeout: 300 * time.Millisecond})
				if err == nil && r.Lost() == 0 {
					t.Errorf("%s answers all the same", to)
				}
			}
		})
	}
}

// paths lists the peers of a host's weftd as "subnet path", sorted.
func (c *cluster) paths(i int) (paths []string) {
	c.t.Helper()
	for _, p := range c.status(i).Backend.Peers {
		paths = append(paths, p.Subnet+" "+p.Path)
	}
	slices.Sort(paths)
	return paths
}

// subnet is the IPv4 subnet of a host's containers.
func (c *cluster) subnet(i int) string { return c.status(i).Lease.Subnet.String() }

// differs tells how two lists differ, in any order; "" if they do not.
func differs(got, want []string) string {
	slices.Sort(got)
	slices.Sort(want)
	if slices.Equal(got, want) {
		return ""
	}
	return fmt.Sprintf("%q, want %q", got, want)
}
