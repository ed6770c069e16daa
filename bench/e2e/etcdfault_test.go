package e2e

import (
	"os"
	"path/filepath"
	"testing"
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

// leaseKey is the key of a host's lease.
func (c *cluster) leaseKey(i int) string {
	s := c.status(i).Lease.Subnet
	return subnetsKey + s.Addr().String() + "-24"
}
