package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/traffic"
)

func TestWeftdStartsBeforeEtcd(t *testing.T) {
	c := build(t, spec{})
	if err := c.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	for i := range c.hosts {
		c.startWeftd(i)
	}
	c.notReady(0, c.endpoint)
	c.startEtcd()
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
}

// Packets need no etcd, and once it is back, neither does a restart of weftd.
func TestEtcdAway(t *testing.T) {
	c := build(t, spec{hosts: 3})
	for i := range 2 {
		c.startWeftd(i)
	}
	for i := range 2 {
		c.attach(i, c.waitReady(i))
	}
	first, second := c.hosts[0], c.hosts[1]
	c.reach(first.Container.Namespace, second.Container.IPv4)
	if err := c.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if c.status(0).Etcd.Connected {
			return "status does not show that etcd is away"
		}
		return ""
	})
	c.reach(first.Container.Namespace, second.Container.IPv4)
	if !c.status(0).Ready {
		t.Error("not ready only because etcd is away:", c.status(0).reasons())
	}
	if lines := c.countLogged(0, ""); lines > 40 {
		t.Errorf("%d lines of log by now", lines)
	}

	// The watches resume: a node that comes now is seen by those from before.
	c.startEtcd()
	c.startWeftd(2)
	c.attach(2, c.waitReady(2))
	c.reachAll()
}

// A node whose weftd is killed and started while etcd is away goes on with
// what it knew, says so, and is as any other when etcd is back.
func TestRestartWhileEtcdIsAway(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	before, peer := c.status(0).Lease.Subnet, c.status(1).Lease.Subnet
	c.eventually(func() string {
		known, err := os.ReadFile(filepath.Join(c.weftds[0].StateDir, "cluster.json"))
		if err != nil || !strings.Contains(string(known), peer.Addr().String()) {
			return fmt.Sprintf("the peer %s is not in what weftd remembers: %s, %v", peer, known, err)
		}
		return ""
	})
	if err := c.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := c.weftds[0].Kill(); err != nil {
		t.Fatal(err)
	}
	c.startWeftd(0)
	c.waitReady(0)
	c.reachAll()
	if s := c.status(0); s.Lease.Subnet != before || s.Etcd.Connected || !strings.Contains(s.Network.Problem, "not answered since weftd started") {
		t.Errorf("subnet %s, was %s; connected %t; problem %q", s.Lease.Subnet, before, s.Etcd.Connected, s.Network.Problem)
	}

	c.startEtcd()
	c.eventually(func() string {
		if s := c.status(0); !s.Etcd.Connected || !s.Lease.Held || s.Lease.Problem != "" || s.Network.Problem != "" {
			return fmt.Sprintf("etcd is back, but status says connected %t, lease %+v, network %+v", s.Etcd.Connected, s.Lease, s.Network)
		}
		return ""
	})
	if now := c.status(0).Lease.Subnet; now != before {
		t.Errorf("the subnet is %s now, was %s", now, before)
	}
	c.reachAll()
}

// Nodes write their leases again into an etcd that lost everything.
func TestEtcdLosesItsData(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	leases := []string{c.leaseKey(0), c.leaseKey(1)}
	if err := c.etcd.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(c.etcdHost.Dir, "etcd")); err != nil {
		t.Fatal(err)
	}
	c.startEtcd()
	c.put(configKey, c.spec.config)
	for _, key := range leases {
		c.eventually(func() string {
			if c.get(key) == "" {
				return key + " was not written again"
			}
			return ""
		})
	}
	c.reachAll()
}

// A lease that someone deletes is taken again, for the same subnet.
func TestLeaseDeleted(t *testing.T) {
	c := start(t, spec{})
	key := c.leaseKey(0)
	c.delete(key)
	c.eventually(func() string {
		if c.get(key) == "" {
			return key + " was not written again"
		}
		return ""
	})
	c.reachAll()
}

// A subnet that another live node holds is neither sent from nor received for, by
// weftd or by the kernel, until it is this node's again.
func TestLeaseOfAnother(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	c.byKernel(0, 1)
	key := c.leaseKey(0)
	own := c.get(key)
	alive, node := aliveOf(0)
	c.put(alive, node)
	c.put(key, fmt.Sprintf(`{"PublicIP":"%s","NodeID":"%s","BackendType":"udp","BackendData":{"weft":1}}`, crowdIP(0), crowdID(0)))
	c.notReady(0, crowdID(0))
	a, b := c.hosts[0].Container, c.hosts[1].Container
	c.eventually(func() string { // it is said before it is done
		sent, received := c.ways(0)
		r, err := traffic.EchoUDP(t.Context(), a.Namespace, b.Namespace, b.IPv4, traffic.EchoOptions{Count: 20, Size: 64})
		if err != nil || r.Arrived > 0 {
			return fmt.Sprintf("from a subnet of another's: %+v, %v", r, err)
		}
		if nowSent, nowReceived := c.ways(0); nowSent != sent || nowReceived != received {
			return fmt.Sprintf("sent %+v, then %+v; received %+v, then %+v", sent, nowSent, received, nowReceived)
		}
		return ""
	})
	c.delete(alive)
	c.put(key, own)
	c.reachAll()
	c.byKernel(0, 1)
}

// leaseKey is the key of a host's lease.
func (c *cluster) leaseKey(i int) string {
	s := c.status(i).Lease.Subnet
	return subnetsKey + s.Addr().String() + "-24"
}
