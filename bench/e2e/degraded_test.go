package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

// What a kernel may lack costs speed and nothing else. Only the sender's host
// lacks it, or only the receiver's, as both directions are tried. The assist is
// off where the others are looked at, as it would leave them less to do.
func TestDegraded(t *testing.T) {
	for _, test := range []struct {
		lacks string // for --udp-disable
		slow  bool
	}{
		{"assist,vnet_hdr,tso,uso,tun_gro,tun_gro_udp,udp_segment,udp_gro", false},
		{"vnet_hdr,tso,uso,tun_gro,tun_gro_udp,udp_segment,udp_gro", true},
		{"assist", true},     // see TestAssist
		{"assist_gso", true}, // the same
		{"assist_floods", true},
		{"assist,vnet_hdr", true},
		{"assist,tso", true},
		{"assist,uso", true},
		{"assist,tun_gro", true},
		{"assist,tun_gro_udp", true},
		{"assist,udp_segment", true},
		{"assist,udp_gro", true},
	} {
		for _, both := range []bool{false, true} {
			name := fmt.Sprintf("no %s, both hosts %v", test.lacks, both)
			if (test.slow || both) && !labtest.Full(t, name) {
				continue
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				s := onUDP.spec(2, true)
				c := build(t, s)
				disable := "--udp-disable=" + test.lacks
				c.startWeftd(0, disable)
				if both {
					c.startWeftd(1, disable)
				} else {
					c.startWeftd(1)
				}
				c.carries(1500)
				for _, feature := range strings.Split(test.lacks, ",") {
					if on := c.capabilities(0); on[feature] {
						t.Errorf("%s is on all the same: %v", feature, on)
					}
				}
			})
		}
	}
}

// Underlays that lack what a veth has, or have a larger MTU.
func TestPoorUnderlays(t *testing.T) {
	for _, test := range []struct {
		name     string
		mtu      int
		features map[string]bool // of the hosts' interfaces
		slow     bool
	}{
		{"no offload at all", 1500, map[string]bool{
			"tx-checksum-ip-generic": false, "tx-scatter-gather": false, "tx-generic-segmentation": false,
			"tx-tcp-segmentation": false, "tx-udp-segmentation": false, "rx-gro": false, "rx-checksum": false,
		}, false},
		{"no checksum offload", 1500, map[string]bool{"tx-checksum-ip-generic": false}, true}, // EIO of UDP_SEGMENT before Linux 6.11
		{"no UDP segmentation, but GRO", 1500, map[string]bool{"tx-udp-segmentation": false, "rx-gro": true}, true},
		{"MTU 9000", 9000, nil, true},
	} {
		if test.slow && !labtest.Full(t, test.name) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := onUDP.spec(2, true)
			s.mtu = test.mtu
			c := build(t, s)
			for i, h := range c.hosts {
				if err := h.SetFeatures("eth0", test.features); err != nil {
					t.Fatal(err)
				}
				c.startWeftd(i)
			}
			c.carries(test.mtu)
		})
	}
}

// carries attaches containers and has them exchange everything, in both
// directions, up to what the underlay's MTU leaves.
func (c *cluster) carries(mtu int) {
	c.t.Helper()
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	a, b := c.hosts[0], c.hosts[1]
	c.exchange(a, b)
	c.exchange(b, a)
	c.fits(a, b, mtu-28)
	c.fits(b, a, mtu-28)
}

// capabilities tells which of the udp backend's features are on.
func (c *cluster) capabilities(i int) map[string]bool {
	c.t.Helper()
	on := make(map[string]bool)
	for _, f := range c.status(i).Backend.Capabilities {
		on[f.Name] = f.On
	}
	if len(on) == 0 {
		c.t.Fatal("the status lists no capabilities")
	}
	return on
}

// The underlay gets narrower in the middle of a transfer: the hosts' own
// interfaces, where a send that the kernel is to cut is refused (EMSGSIZE) until
// weftd has taken the new MTU, or a router's, of which ICMP tells.
func TestUnderlayGetsNarrower(t *testing.T) {
	for _, test := range []struct {
		name   string
		routed bool
		narrow func(c *cluster) error
		mtu    int // of the tunnel afterwards
	}{
		{"the hosts' interfaces", false, func(c *cluster) error {
			_, err := c.hosts[0].Output("ip", "link", "set", "eth0", "mtu", "1400")
			if err == nil { // a veth does not receive more than it may send
				_, err = c.hosts[1].Output("ip", "link", "set", "eth0", "mtu", "1400")
			}
			return err
		}, 1400 - 28},
		{"a router's", true, func(c *cluster) error {
			_, err := c.Switch.Output("ip", "route", "add", c.hosts[1].IPv4.String(), "dev", "br0", "mtu", "lock", "1400")
			return err
		}, 1500 - 28},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			c := build(t, onUDP.spec(2, false))
			if test.routed {
				if err := c.MoveBehindRouter(c.hosts[1]); err != nil {
					t.Fatal(err)
				}
			}
			for i := range c.hosts {
				c.startWeftd(i)
			}
			for i := range c.hosts {
				c.attach(i, c.waitReady(i))
			}
			c.reachAll()
			a, b := c.hosts[0].Container, c.hosts[1].Container
			const size = 64 << 20
			var once sync.Once
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if _, err := traffic.SendChecked(ctx, a.Namespace, b.Namespace, b.IPv4, size, "", func(received int64) {
				if received > size/4 {
					once.Do(func() {
						if err := test.narrow(c); err != nil {
							t.Error(err)
						}
					})
				}
			}); err != nil {
				t.Error(err)
			}
			for i := range c.hosts {
				c.logged(i, "udp tunnel is up", fmt.Sprintf("mtu=%d", test.mtu))
			}
			c.reachAll()
			c.knowsPathMTU(0, 1400)
			c.exchange(c.hosts[0], c.hosts[1])
			c.exchange(c.hosts[1], c.hosts[0])
			c.told(a.Namespace, b.IPv4, 1400-28)
			if test.routed {
				c.narrowForTheKernel(1, 0, 1300)
			}
		})
	}
}

// narrowForTheKernel has the router take no more than mtu towards a host. What
// the kernel carries is what meets that first: who sent too much is told so, and
// what fits is still the kernel's.
func (c *cluster) narrowForTheKernel(from, to, mtu int) {
	c.t.Helper()
	if out, err := c.Switch.Output("ip", "route", "add", c.hosts[to].IPv4.String(), "dev", "br0", "mtu", "lock", fmt.Sprint(mtu)); err != nil {
		c.t.Fatal(err, out)
	}
	sent := c.sent(from)
	c.told(c.hosts[from].Container.Namespace, c.hosts[to].Container.IPv4, mtu-28)
	if n := c.sent(from).since(sent); n.kernel == 0 {
		c.t.Errorf("the kernel carried nothing of what was too long: %+v", n)
	}
	c.knowsPathMTU(from, mtu)
	c.byKernel(from, to)
}

// knowsPathMTU waits until a host's weftd knows the MTU towards its only peer,
// and has not given up on superpackets for want of it.
func (c *cluster) knowsPathMTU(i, mtu int) {
	c.t.Helper()
	c.eventually(func() string {
		peers := c.status(i).Backend.Peers
		if len(peers) != 1 || peers[0].PathMTU != mtu {
			return fmt.Sprintf("path MTU is not %d: %+v", mtu, peers)
		}
		for _, note := range peers[0].Notes {
			if strings.Contains(note, "udp_segment off") {
				c.t.Errorf("the MTU was taken for a failure of segmentation: %s", note)
			}
		}
		return ""
	})
}

// told sends a packet of one byte too much, that must not be fragmented, until
// the sender's kernel was told so; one that fits gets through.
func (c *cluster) told(from *lab.Namespace, to netip.Addr, mtu int) {
	c.t.Helper()
	o := traffic.PingOptions{Count: 1, Size: mtu + 1 - 28, Timeout: time.Second, DontFragment: true}
	c.eventually(func() string {
		if r, err := traffic.Ping(c.t.Context(), from, to, o); err == nil {
			return fmt.Sprintf("%d bytes: %+v, and no error", mtu+1, r)
		}
		return ""
	})
	o.Size, o.Timeout = mtu-28, patience
	pings(c.t, "what fits", from, to, o)
}
