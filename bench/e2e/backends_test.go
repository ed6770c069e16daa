package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// carrier is a way to carry packets that a cluster's config can name, and the
// MTU that containers get on an underlay of 1500 bytes.
type carrier struct {
	name    string
	backend string // object of the config
	mtu     int
	dualMTU int // in a dual-stack network, on an underlay of both families
}

var (
	onUDP      = carrier{"udp", `{"Type": "udp"}`, 1500 - 28, 1500 - 28}
	onFallback = carrier{"udp with fallback", `{"Type": "udp", "Fallback": "vxlan"}`, 1500 - 50, 1500 - 70}
	onVXLAN    = carrier{"vxlan", `{"Type": "vxlan"}`, 1500 - 50, 1500 - 70}
	onDirect   = carrier{"vxlan with direct routing", `{"Type": "vxlan", "DirectRouting": true}`, 1500 - 50, 1500 - 70}
	onHostGW   = carrier{"host-gw", `{"Type": "host-gw"}`, 1500, 1500}

	carriers = []carrier{onUDP, onFallback, onVXLAN, onDirect, onHostGW}
)

// spec is a cluster of so many hosts.
func (k carrier) spec(hosts int, dual bool) spec {
	if dual {
		return spec{
			hosts: hosts, ipv4: lab.UnderlayIPv4, ipv6: lab.UnderlayIPv6,
			config: fmt.Sprintf(`{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": %s}`, k.backend),
		}
	}
	return spec{hosts: hosts, config: fmt.Sprintf(`{"Network": "10.5.0.0/16", "Backend": %s}`, k.backend)}
}

// Every backend carries everything between all containers, and promises no
// more than fits.
func TestBackends(t *testing.T) {
	for _, test := range []struct {
		hosts int
		dual  bool
		slow  bool // has little that the others have not
	}{
		{2, false, true},
		{3, false, true},
		{2, true, true},
		{3, true, false},
	} {
		name := fmt.Sprintf("%d hosts, dual stack %v", test.hosts, test.dual)
		if test.slow && !labtest.Full(t, name) {
			continue
		}
		for _, k := range carriers {
			t.Run(k.name+", "+name, func(t *testing.T) {
				t.Parallel()
				mtu := k.mtu
				if test.dual {
					mtu = k.dualMTU
				}
				c := start(t, k.spec(test.hosts, test.dual))
				c.reachAll()
				for i := range c.hosts {
					if env := c.waitReady(i); env.MTU != mtu {
						t.Errorf("host%d: MTU %d, want %d", i+1, env.MTU, mtu)
					}
				}
				for i, a := range c.hosts {
					b := c.hosts[(i+1)%len(c.hosts)]
					c.exchange(a, b)
					c.fits(a, b, mtu)
				}
			})
		}
	}
}

// The kernel's backends go on when weftd does not.
func TestKernelBackendsWithoutWeftd(t *testing.T) {
	for _, k := range []carrier{onVXLAN, onHostGW} {
		t.Run(k.name, func(t *testing.T) {
			c := start(t, k.spec(2, false))
			c.reachAll()
			if err := c.weftds[0].Stop(); err != nil {
				t.Error(err)
			}
			if err := c.weftds[1].Kill(); err != nil {
				t.Error(err)
			}
			a, b := c.hosts[0].Container, c.hosts[1].Container
			pings(t, "without weftd", a.Namespace, b.IPv4, traffic.PingOptions{})
		})
	}
}

// exchange sends TCP with a hash and UDP, whole and in fragments, from one
// host's container to another's, over each family that both have.
func (c *cluster) exchange(a, b *lab.Host) {
	c.t.Helper()
	for _, to := range addrs(b) {
		if _, err := traffic.SendChecked(c.t.Context(), a.Container.Namespace, b.Container.Namespace, to, 16<<20, "", nil); err != nil {
			c.t.Error(err)
		}
		for _, size := range []int{64, 1200, 4000} {
			echoes(c.t, "UDP", a.Container.Namespace, b.Container.Namespace, to, traffic.EchoOptions{Count: 100, Size: size})
		}
	}
}

// fits sends ICMP between two hosts' containers in packets that must not be
// fragmented: of the MTU, and one byte too long, which the sender's kernel
// refuses.
func (c *cluster) fits(a, b *lab.Host, mtu int) {
	c.t.Helper()
	for _, to := range addrs(b) {
		headers := 20 + 8
		if to.Is6() {
			headers = 40 + 8
		}
		o := traffic.PingOptions{Count: 3, Size: mtu - headers, DontFragment: true}
		pings(c.t, "what fits", a.Container.Namespace, to, o)
		o.Size++
		if r, err := traffic.Ping(c.t.Context(), a.Container.Namespace, to, o); !errors.Is(err, unix.EMSGSIZE) {
			c.t.Errorf("%d bytes to %s: %+v, %v; want EMSGSIZE", mtu+1, to, r, err)
		}
	}
}

// echoes sends UDP, which is sent back, and checks that all but one of a hundred come back.
func echoes(t testing.TB, what string, from, to *lab.Namespace, addr netip.Addr, o traffic.EchoOptions) {
	t.Helper()
	if err := labtest.Lossless(t, func() error {
		r, err := traffic.EchoUDP(t.Context(), from, to, addr, o)
		if err != nil || r.Corrupt > 0 {
			t.Errorf("%s, to %s, %d bytes: %+v, %v", what, addr, o.Size, r, err)
		}
		if r.Returned < o.Count-o.Count/100 {
			return fmt.Errorf("%s, to %s, %d bytes: %+v", what, addr, o.Size, r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// pings checks that all of some echo requests are answered.
func pings(t testing.TB, what string, from *lab.Namespace, to netip.Addr, o traffic.PingOptions) {
	t.Helper()
	if err := labtest.Lossless(t, func() error {
		r, err := traffic.Ping(t.Context(), from, to, o)
		if err != nil {
			t.Errorf("%s, to %s, %d bytes: %v", what, to, o.Size, err)
		}
		if r.Lost() > 0 {
			return fmt.Errorf("%s, to %s, %d bytes: %+v", what, to, o.Size, r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}
