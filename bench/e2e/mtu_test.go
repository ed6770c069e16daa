package e2e

import (
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

				ping := func(size int) (traffic.PingResult, error) {
					return traffic.Ping(t.Context(), a.Container.Namespace, b.Container.IPv4,
						traffic.PingOptions{Count: 3, Size: size - 28, Timeout: 300 * time.Millisecond, DontFragment: true})
				}
				if r, err := ping(k.mtu); err != nil || r.Lost() > 0 {
					t.Errorf("%d bytes: %+v, %v", k.mtu, r, err)
				}
				r, err := ping(k.mtu + 1)
				if told := errors.Is(err, unix.EMSGSIZE); told == filtered || len(r.RTTs) > 0 {
					t.Errorf("%d bytes: %+v, %v", k.mtu+1, r, err)
				}
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
