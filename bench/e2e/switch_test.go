package e2e

import (
	"errors"
	"testing"

	"github.com/vishvananda/netlink"
)

// Nodes that are started with another config, one after the other, keep nothing
// of the former backend that its own does not use.
func TestSwitchBackend(t *testing.T) {
	c := start(t, onFallback.spec(2, false))
	c.reachAll()
	for _, step := range []struct {
		to   carrier
		vtep bool
	}{{onUDP, false}, {onVXLAN, true}, {onHostGW, false}, {onFallback, true}} {
		c.put("/coreos.com/network/config", step.to.spec(2, false).config)
		for i := range c.hosts {
			if err := c.weftds[i].Stop(); err != nil {
				t.Fatal(err)
			}
			c.startWeftd(i)
		}
		for i, h := range c.hosts {
			c.waitReady(i)
			c.eventually(func() (amiss string) {
				if err := h.Do(func() error {
					_, err := netlink.LinkByName("flannel.1")
					if gone := errors.As(err, new(netlink.LinkNotFoundError)); gone == step.vtep {
						amiss = "flannel.1 with " + step.to.name
					}
					return nil
				}); err != nil {
					t.Fatal(err)
				}
				return amiss
			})
			c.eventually(func() string {
				out, err := h.Output("nft", "list", "tables")
				if err != nil || containsAny(out, "weft-vtep") != step.vtep {
					return "tables with " + step.to.name + ": " + out
				}
				return ""
			})
		}
		c.reachAll()
	}
}
