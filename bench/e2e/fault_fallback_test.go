package e2e

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// Whatever dies or is blocked, the transfer goes on: by vxlan.
func TestFallbackFaults(t *testing.T) {
	oneWay, stillOneWay := moveOneWay()
	var faults []fault
	for _, who := range []struct {
		name  string
		hosts []int
	}{
		{"sending daemon", []int{0}},
		{"receiving daemon", []int{1}},
		{"both daemons", []int{0, 1}},
	} {
		faults = append(faults,
			fault{name: who.name + " killed", strike: kill(who.hosts...)},
			fault{name: who.name + " killed, all in user space", userSpace: true, strike: kill(who.hosts...), slow: who.hosts[0] == 0},
			fault{name: who.name + " killed, ICMP errors filtered", prepare: filterICMP, strike: kill(who.hosts...), slow: who.hosts[0] == 0},
			fault{name: who.name + " killed and started again", strike: killAndStart(who.hosts...), slow: len(who.hosts) == 1},
		)
	}
	faults = append(faults,
		fault{name: "sending daemon killed, IPv6", ipv6: true, strike: kill(0), slow: true},
		fault{name: "receiving daemon killed, IPv6", ipv6: true, strike: kill(1)},

		fault{name: "sending daemon stopped (SIGSTOP), killed by a watchdog after 2 s", strike: watchdog(0), slow: true},
		// The way to the receiver is moved before; what it sends is not.
		fault{name: "receiving daemon stopped (SIGSTOP), killed by a watchdog after 2 s", strike: watchdog(1)},

		fault{name: "udp blocked towards the receiver", hosts: 3, strike: blockUDP(0, 1), check: onlyThatPeerMoved},
		fault{name: "udp blocked towards the sender", hosts: 3, strike: blockUDP(1, 0), check: onlyThatPeerMoved, slow: true},
		// The kernel's part passes by it.
		fault{name: "udp refused by the receiver's own firewall", hosts: 3, strike: filterUDP(0, 1), check: onlyThatPeerMoved, slow: true},

		fault{name: "TUN of the sender deleted", strike: deleteLink(0, "flannel0"), check: assistIsBack},
		fault{name: "TUN of the receiver deleted", strike: deleteLink(1, "flannel0"), slow: true},
		fault{name: "VTEP of the sender deleted", strike: deleteLink(0, "flannel.1"), slow: true},
		fault{name: "VTEP of the sender deleted while it carries", prepare: blockUDP(0, 1), onVXLAN: true, strike: deleteLink(0, "flannel.1")},
		fault{name: "VTEP of the receiver deleted while it carries", prepare: blockUDP(0, 1), onVXLAN: true, strike: deleteLink(1, "flannel.1"), slow: true},

		fault{name: "etcd stopped", strike: stopEtcd, slow: true},
		fault{name: "sending daemon killed while etcd is stopped", strike: func(c *cluster) { stopEtcd(c); kill(0)(c) }, slow: true},

		fault{name: "sending daemon killed, containers with a larger MTU", containerMTU: 1472, strike: kill(0), slow: true},
		fault{name: "receiving daemon killed, containers with a larger MTU, ICMP to them filtered", containerMTU: 1472,
			prepare: filterICMPToContainers, strike: kill(1)},

		fault{name: "udp one way and vxlan the other, rp_filter 1", prepare: strictRPFilter, strike: oneWay, check: stillOneWay},
	)
	for i := range faults {
		faults[i].carrier = onFallback
	}
	runFaults(t, faults)
}

// A peer that was moved goes back when its udp path has been good for a while,
// and stays there: one line of log for each change.
func TestFallbackReturns(t *testing.T) {
	if !labtest.Full(t, "it takes the time for which a path must be good") {
		return
	}
	runFaults(t, []fault{{
		name: "udp blocked for a while", carrier: onFallback,
		strike: func(c *cluster) {
			blockUDP(0, 1)(c)
			c.onPath(0, 1, "vxlan")
			if out, err := c.Switch.Output("nft", "delete", "table", "netdev", "lab"); err != nil {
				c.t.Fatal(err, out)
			}
			c.onPath(0, 1, "udp")
			c.onPath(1, 0, "udp")
		},
		check: func(c *cluster) {
			for i := range c.hosts {
				for _, text := range []string{"peer is reached by vxlan for a while", "peer is reached by udp again"} {
					if n := c.countLogged(i, text); n != 1 {
						c.t.Errorf("host%d logged %d times: %s", i+1, n, text)
					}
				}
			}
		},
	}})
}

// A host that can have no TUN takes part by vxlan.
func TestFallbackWithoutTUN(t *testing.T) {
	c := build(t, onFallback.spec(3, false))
	c.startWeftd(0)
	c.startDeprived(1, withoutTUN)
	c.startWeftd(2)
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	c.logged(1, "there is no TUN", "/dev/net/tun")
	for _, p := range []struct {
		from, to int
		path     string
	}{{0, 1, "vxlan"}, {1, 0, "vxlan"}, {1, 2, "vxlan"}, {0, 2, "udp"}, {2, 0, "udp"}} {
		c.onPath(p.from, p.to, p.path)
	}
	c.exchange(c.hosts[0], c.hosts[1])
	c.exchange(c.hosts[1], c.hosts[0])
	c.exchange(c.hosts[0], c.hosts[2])
}

// onPath waits until a host sends to another's containers by a path.
func (c *cluster) onPath(from, to int, path string) {
	c.t.Helper()
	c.eventually(func() string { return c.offPath(from, to, path) })
}

// offPath tells what a host does instead of sending to another's containers by a
// path; "" if it does that.
func (c *cluster) offPath(from, to int, path string) string {
	c.t.Helper()
	subnet := c.hosts[to].Container.IPv4
	for _, p := range c.status(from).Backend.Peers {
		if prefix, err := netip.ParsePrefix(p.Subnet); err == nil && prefix.Contains(subnet) {
			if p.Path == path {
				return ""
			}
			return fmt.Sprintf("host%d reaches host%d by %s, not %s", from+1, to+1, p.Path, path)
		}
	}
	return fmt.Sprintf("host%d knows no way to host%d", from+1, to+1)
}

// killAndStart ends daemons by SIGKILL and starts them again, as systemd does
// after RestartSec=100ms.
func killAndStart(hosts ...int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		kill(hosts...)(c)
		time.Sleep(100 * time.Millisecond)
		for _, i := range hosts {
			c.startWeftd(i)
		}
		for _, i := range hosts {
			c.waitReady(i)
		}
	}
}

// watchdog stops a daemon by SIGSTOP and does what systemd does then, with
// WatchdogSec=2s, WatchdogSignal=SIGKILL and RestartSec=100ms.
func watchdog(host int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		if err := c.weftds[host].Signal(unix.SIGSTOP); err != nil {
			c.t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		killAndStart(host)(c)
	}
}

// blockUDP drops what one host sends to another's udp port, on the way.
func blockUDP(from, to int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		script := fmt.Sprintf(`add table netdev lab
			add chain netdev lab from%[1]d { type filter hook ingress device "port%[1]d" priority 0; }
			add rule netdev lab from%[1]d ip daddr %[2]v udp dport %[3]d drop`, c.hosts[from].Number, c.hosts[to].IPv4, tunnelPort)
		if out, err := c.Switch.Output("nft", script); err != nil {
			c.t.Fatal(err, out)
		}
	}
}

// filterUDP does so by the rules of the other host.
func filterUDP(from, to int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		c.filter(c.hosts[to].Namespace, "input", fmt.Sprintf("ip saddr %v udp dport %d drop", c.hosts[from].IPv4, tunnelPort))
	}
}

// assistIsBack: what was lost with the TUN is there again with the next one.
func assistIsBack(c *cluster) {
	c.t.Helper()
	for i := range c.hosts {
		c.wantAttached(i, assistPrograms...)
	}
	c.byKernel(0, 1)
}

func onlyThatPeerMoved(c *cluster) {
	c.t.Helper()
	c.onPath(0, 1, "vxlan")
	c.onPath(0, 2, "udp")
	c.onPath(1, 2, "udp")
	c.onPath(2, 0, "udp")
	c.onPath(2, 1, "udp")
}

// strictRPFilter is what many distributions set. The kernel takes the greater
// of it and the device's own.
func strictRPFilter(c *cluster) {
	c.t.Helper()
	for _, h := range c.hosts {
		for _, device := range []string{"all", "default"} {
			if err := h.Sysctl("net/ipv4/conf/"+device+"/rp_filter", "1"); err != nil {
				c.t.Fatal(err)
			}
		}
	}
}

// heldFor is how long a peer that was moved is kept where it is (tunnel/fallback).
const heldFor = 10 * time.Second

// moveOneWay starts the receiving daemon again: it knows nothing bad of its peer and
// sends by udp, while the peer waits before it does so too. A machine that was too busy
// to see that does it once more.
func moveOneWay() (strike, check func(c *cluster)) {
	var since time.Time
	strike = func(c *cluster) {
		c.t.Helper()
		labtest.OneOfSome(c.t, func() string {
			kill(1)(c)
			c.onPath(0, 1, "vxlan")
			since = time.Now()
			c.startWeftd(1)
			c.onPath(1, 0, "udp")
			return c.offPath(0, 1, "vxlan")
		})
	}
	check = func(c *cluster) {
		c.t.Helper()
		c.onPath(1, 0, "udp")
		if off := c.offPath(0, 1, "vxlan"); off != "" && time.Since(since) < heldFor {
			c.t.Error(off)
		}
	}
	return strike, check
}
