package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

const namePrefix = "weft-e"

var serial atomic.Int32

// patience is for what takes a moment: a wait that lasts longer fails. It is long for a
// machine that is busy with other tests, or stands still, and has room for weftd's own
// second and third attempts.
const patience = time.Minute

// spec says what a case needs; zero fields have the defaults named.
type spec struct {
	hosts      int          // 2
	mtu        int          // of the underlay; 1500
	ipv4, ipv6 netip.Prefix // of the underlay; IPv4 alone
	config     string       // network config; 10.5.0.0/16 with backend udp
	flags      []string     // of every weftd
}

// cluster is a lab with weftd on its hosts. Etcd runs on a host of its own, so
// that it can fail alone.
type cluster struct {
	*lab.Cluster
	t        testing.TB
	spec     spec
	hosts    []*lab.Host  // those for weftd
	weftds   []*lab.Weftd // of hosts, nil where none was started
	etcdHost *lab.Host
	etcd     *lab.Process
	endpoint string // URL of etcd
}

// start builds a cluster and waits until weftd carries packets on every host,
// each with a container.
func start(t testing.TB, s spec) *cluster {
	t.Helper()
	c := build(t, s)
	for i := range c.hosts {
		c.startWeftd(i)
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	return c
}

// build makes hosts and an etcd with the network config, but starts no weftd.
func build(t testing.TB, s spec) *cluster {
	t.Helper()
	labtest.RequireRoot(t)
	if s.hosts == 0 {
		s.hosts = 2
	}
	if s.config == "" {
		s.config = `{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}`
	}
	lc, err := lab.NewCluster(lab.Spec{
		Name:  clusterName(),
		Hosts: s.hosts + 1, MTU: s.mtu, IPv4: s.ipv4, IPv6: s.ipv6,
	})
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{
		Cluster: lc, t: t, spec: s,
		hosts: lc.Hosts[:s.hosts], weftds: make([]*lab.Weftd, s.hosts),
		etcdHost: lc.Hosts[s.hosts], endpoint: etcdURL(lc.Hosts[s.hosts]),
	}
	c.removeAtEnd()
	c.startEtcd()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := c.hosts[0].SetNetworkConfig(ctx, weftdPath, c.endpoint, s.config); err != nil {
		t.Fatal(err)
	}
	return c
}

func clusterName() string { return fmt.Sprintf("%s%d-%d", namePrefix, os.Getpid(), serial.Add(1)) }

// removeAtEnd removes everything when the test ends, and if it failed, shows
// the logs.
func (c *cluster) removeAtEnd() {
	c.t.Cleanup(func() {
		if c.t.Failed() {
			c.showLogs()
		}
		if err := c.Close(false); err != nil {
			c.t.Error(err)
		}
	})
}

// startWeftd starts weftd on a host, with the spec's flags and further ones.
func (c *cluster) startWeftd(i int, flags ...string) *lab.Weftd {
	c.t.Helper()
	flags = append(append([]string{"--etcd-endpoints=" + c.endpoint}, c.spec.flags...), flags...)
	var err error
	if c.weftds[i], err = c.hosts[i].StartWeftd(weftdPath, flags...); err != nil {
		c.t.Fatal(err)
	}
	return c.weftds[i]
}

// waitReady waits until a host's weftd carries packets.
func (c *cluster) waitReady(i int) lab.SubnetEnv {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	env, err := c.weftds[i].WaitReady(ctx)
	if err != nil {
		c.t.Fatal(err)
	}
	return env
}

func (c *cluster) attach(i int, env lab.SubnetEnv) {
	c.t.Helper()
	if err := c.hosts[i].AttachContainer(env); err != nil {
		c.t.Fatal(err)
	}
}

// reach waits until a namespace gets an answer from an address.
func (c *cluster) reach(from *lab.Namespace, to netip.Addr) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if err := traffic.WaitReachable(ctx, from, to); err != nil {
		c.t.Fatal(err)
	}
}

// reachAll waits until every container reaches every other one.
func (c *cluster) reachAll() {
	c.t.Helper()
	for _, from := range c.hosts {
		for _, to := range c.hosts {
			if from == to {
				continue
			}
			for _, addr := range addrs(to) {
				c.reach(from.Container.Namespace, addr)
			}
		}
	}
}

// addrs are the addresses of a host's container.
func addrs(h *lab.Host) []netip.Addr {
	if h.Container.IPv6.IsValid() {
		return []netip.Addr{h.Container.IPv4, h.Container.IPv6}
	}
	return []netip.Addr{h.Container.IPv4}
}

// eventually waits until a condition holds. The condition returns what is
// still amiss, or "".
func (c *cluster) eventually(amiss func() string) {
	c.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		what := amiss()
		if what == "" {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatalf("still after %v: %s", patience, what)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (c *cluster) showLogs() {
	for i, w := range c.weftds {
		if w != nil {
			c.t.Logf("the end of the log of weftd on host%d:\n%s", i+1, w.LogTail(40))
		}
	}
	if c.etcd != nil {
		c.t.Logf("the end of the log of etcd:\n%s", c.etcd.LogTail(10))
	}
}
