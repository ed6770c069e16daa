package e2e

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/traffic"
)

// Each peer is decided by itself: superpackets go by the kernels between those
// hosts only between which they arrive whole, and both of which take them.
func TestSuperpacketsPeerByPeer(t *testing.T) {
	t.Parallel()
	c := build(t, onUDP.spec(4, false))
	const poor, without = 2, 3
	cuts(poor)(c)
	for i := range c.hosts {
		if i == without {
			c.startWeftd(i, "--udp-disable=assist_gso")
		} else {
			c.startWeftd(i)
		}
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	c.superpackets(0, 1, true)
	c.superpackets(1, 0, true)
	for i := range c.hosts {
		// The poor one's kernel can, only that nothing arrives whole.
		if on := c.capabilities(i)["assist_gso"]; on != (i != without) {
			t.Errorf("host%d: assist_gso is in force: %v", i+1, on)
		}
		for j := range c.hosts {
			if i == j {
				continue
			}
			before := c.status(i).Backend.ByKernel.TxSuperpackets
			c.exchange(c.hosts[i], c.hosts[j])
			sent := c.status(i).Backend.ByKernel.TxSuperpackets - before
			whole := i < poor && j < poor
			if c.superpacketsTo(i, j) != whole || (sent > 0) != whole {
				t.Errorf("host%d to host%d: by the kernel %v, %d superpackets; want %v", i+1, j+1, c.superpacketsTo(i, j), sent, whole)
			}
		}
	}
}

// A flannel node is sent superpackets by user space only, which cuts them.
func TestSuperpacketsBesideClassic(t *testing.T) {
	t.Parallel()
	c := build(t, onUDP.spec(2, false))
	c.startWeftd(0)
	c.startWeftd(1, "--udp-engine=classic")
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	c.exchange(c.hosts[0], c.hosts[1])
	c.exchange(c.hosts[1], c.hosts[0])
	if sent := c.status(0).Backend.ByKernel; sent.TxSuperpackets > 0 || sent.TxPackets > 0 || c.superpacketsTo(0, 1) {
		t.Errorf("to a node like flannel's: %+v", sent)
	}
}

// Where a router takes less than the underlay's MTU, but superpackets whole, they
// go by the kernel as soon as it is known what it takes. The way back is by a
// bridge device, which cuts what is in a tunnel.
func TestSuperpacketsOnANarrowPath(t *testing.T) {
	t.Parallel()
	c := build(t, onUDP.spec(2, false))
	if err := c.MoveBehindRouter(c.hosts[1]); err != nil {
		t.Fatal(err)
	}
	router := netip.MustParsePrefix("198.51.100.254/24")
	if err := c.Switch.DelAddr("br0", router); err != nil {
		t.Fatal(err)
	}
	for _, command := range [][]string{
		{"link", "set", "port2", "nomaster"},
		{"addr", "add", router.String(), "dev", "port2"},
		{"route", "add", c.hosts[1].IPv4.String(), "dev", "port2", "mtu", "lock", "1400"},
	} {
		if out, err := c.Switch.Output("ip", command...); err != nil {
			t.Fatal(err, out)
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
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := traffic.SendChecked(ctx, a.Namespace, b.Namespace, b.IPv4, bulkBytes, "", nil); err != nil {
		t.Error(err)
	}
	c.knowsPathMTU(0, 1400)
	c.superpackets(0, 1, true)
	c.carriesSuperpackets(0, 1, whatever)
	c.told(a.Namespace, b.IPv4, 1400-28)
	c.exchange(c.hosts[1], c.hosts[0])
	if c.superpacketsTo(1, 0) {
		t.Error("superpackets go by the kernel where a bridge cuts them")
	}
}
