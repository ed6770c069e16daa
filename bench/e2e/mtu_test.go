package e2e

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/traffic"
)

// Containers that were started with a larger MTU than fits now, because the
// backend was another then, are told so by ICMP; where that is filtered, TCP
// goes on by the MSS clamp and UDP in fragments.
func TestContainersWithALargerMTU(t *testing.T) {
	for _, k := range []carrier{onUDP, onFallback, onVXLAN} {
		for _, filtered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, ICMP filtered %v", k.name, filtered), func(t *testing.T) {
				t.Parallel()
				f := fault{carrier: k, containerMTU: 1500}
				if filtered {
					f.prepare = filterICMPToContainers
				}
				c := f.start(t)
				a, b := c.hosts[0], c.hosts[1]
				c.exchange(a, b)
				c.exchange(b, a)

				o := traffic.PingOptions{Count: 3, Size: k.mtu - 28, Timeout: patience, DontFragment: true}
				pings(t, "what fits", a.Container.Namespace, b.Container.IPv4, o)
				o.Size, o.Timeout = o.Size+1, 300*time.Millisecond
				told := func() bool {
					r, err := traffic.Ping(t.Context(), a.Container.Namespace, b.Container.IPv4, o)
					if len(r.RTTs) > 0 {
						t.Errorf("%d bytes: %+v, %v", k.mtu+1, r, err)
					}
					return errors.Is(err, unix.EMSGSIZE)
				}
				if filtered {
					if told() {
						t.Errorf("%d bytes: the sender was told", k.mtu+1)
					}
					return
				}
				c.eventually(func() string {
					if !told() {
						return fmt.Sprintf("%d bytes: the sender was not told", k.mtu+1)
					}
					return ""
				})
			})
		}
	}
}

// filterICMPToContainers keeps ICMP type 3, of which fragmentation-needed is
// one, from containers.
func filterICMPToContainers(c *cluster) {
	c.t.Helper()
	for _, h := range c.hosts {
		for _, hook := range []string{"output", "forward"} {
			c.filter(h.Namespace, hook, `oifname "cni0" icmp type destination-unreachable drop`)
		}
	}
}

// The fallback is switched on below a transfer, host by host. The containers and
// the connection keep the larger MTU that they began with.
func TestFallbackSwitchedOn(t *testing.T) {
	c := start(t, onUDP.spec(2, false))
	c.reachAll()
	a, b := c.hosts[0].Container, c.hosts[1].Container
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	stream, err := traffic.StartSteady(ctx, a.Namespace, b.Namespace, b.IPv4, traffic.FullPortion)
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	advance := func() {
		t.Helper()
		if err := stream.Advance(ctx, 500*time.Millisecond); err != nil {
			t.Fatal(err)
		}
	}
	advance()
	c.put(configKey, onFallback.spec(2, false).config)
	for i := range c.hosts {
		if err := c.weftds[i].Stop(); err != nil {
			t.Fatal(err)
		}
		c.startWeftd(i)
		if env := c.waitReady(i); env.MTU != onFallback.mtu {
			t.Errorf("host%d: MTU %d, want %d", i+1, env.MTU, onFallback.mtu)
		}
		advance()
	}
	c.onPath(0, 1, "udp")
	c.onPath(1, 0, "udp")
	advance()
	for i := range c.hosts {
		kill(i)(c) // the rest is by vxlan
	}
	advance()
	if _, err := stream.Finish(ctx); err != nil {
		t.Error(err)
	}
}
