package e2e

import (
	"fmt"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

// Whatever keeps superpackets from arriving whole, or the kernels from carrying
// them, the transfer goes on by user space; and when it is over, the next one is
// the kernels' again.
func TestSuperpacketFaults(t *testing.T) {
	faults := []fault{
		{name: "underlay of the sender begins to cut", strike: cuts(0), check: userSpaceThenKernel(uncut(0))},
		{name: "underlay of the receiver begins to cut", strike: cuts(1), check: userSpaceThenKernel(uncut(1)), slow: true},
		{name: "the receiver lets nothing in by lo", strike: dropLo(1), check: userSpaceThenKernel(passLo(1))},
		{name: "lo of the receiver is down", strike: downLo(1), check: userSpaceThenKernel(upLo(1)), slow: true},
		{name: "lo of the receiver takes nothing from local addresses", strike: refuseLocal(1), slow: true},

		{name: "device of the receiver deleted", strike: deleteLink(1, gsoDevice), check: superpacketsAreBack},
		{name: "device of the receiver down", strike: downLink(1, gsoDevice), check: superpacketsAreBack},
		{name: "device of the sender deleted", strike: deleteLink(0, gsoDevice), check: superpacketsAreBack, slow: true},
		{name: "TUN of the receiver deleted", strike: deleteLink(1, "flannel0"), check: superpacketsAreBack, slow: true},
		{name: "TUN of the sender deleted", strike: deleteLink(0, "flannel0"), check: superpacketsAreBack, slow: true},

		{name: "receiving daemon killed and started again", strike: killAndStart(1), check: superpacketsAreBack},
		{name: "sending daemon killed and started again", strike: killAndStart(0), check: superpacketsAreBack, slow: true},
		{name: "receiving daemon started again", strike: restart(1), check: superpacketsAreBack, slow: true},
		{name: "sending daemon started again", strike: restart(0), check: superpacketsAreBack, slow: true},
		{name: "receiving daemon started again without", strike: restart(1, "--udp-disable=assist_gso"), check: inUserSpace, slow: true},
		{name: "receiving daemon started again without assist", strike: restart(1, "--udp-disable=assist"), check: inUserSpace, slow: true},

		{name: "IPsec at the receiver", strike: addIPsec(1), check: inUserSpace},
		{name: "IPsec at the sender", strike: addIPsec(0), check: inUserSpace, slow: true},
	}
	for i := range faults {
		faults[i].carrier, faults[i].superpackets = onUDP, true
	}
	faults = append(faults,
		// It is the flow that vxlan goes on with, superpackets and all.
		fault{name: "with a fallback, receiving daemon killed", carrier: onFallback, superpackets: true, strike: kill(1), slow: true},
		fault{name: "with a fallback, sending daemon killed and started again", carrier: onFallback, superpackets: true, strike: killAndStart(0), check: superpacketsAreBack, slow: true},
	)
	runFaults(t, faults)
}

// cuts makes a host's underlay a NIC that cuts no superpackets inside a tunnel,
// as most are.
func cuts(host int) func(c *cluster) { return tunnelSegmentation(host, false) }

func uncut(host int) func(c *cluster) { return tunnelSegmentation(host, true) }

// tunnelSegmentation is of both directions: of the host's own device, and of what
// sends to it.
func tunnelSegmentation(host int, on bool) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		features := map[string]bool{"tx-udp_tnl-segmentation": on, "tx-udp_tnl-csum-segmentation": on}
		h := c.hosts[host]
		if err := h.SetFeatures("eth0", features); err != nil {
			c.t.Fatal(err)
		}
		if err := c.Switch.SetFeatures(fmt.Sprintf("port%d", h.Number), features); err != nil {
			c.t.Fatal(err)
		}
	}
}

func dropLo(host int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		c.filter(c.hosts[host].Namespace, "input", "iifname lo ip saddr != 127.0.0.0/8 drop")
	}
}

func passLo(host int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		if out, err := c.hosts[host].Output("nft", "delete", "table", "inet", "lab"); err != nil {
			c.t.Fatal(err, out)
		}
	}
}

func downLo(host int) func(c *cluster) { return downLink(host, "lo") }

func upLo(host int) func(c *cluster) { return onLink(host, "lo", (*lab.Namespace).LinkUp) }

// downLink sets a device of a host down.
func downLink(host int, device string) func(c *cluster) {
	return onLink(host, device, (*lab.Namespace).LinkDown)
}

func onLink(host int, device string, do func(*lab.Namespace, string) error) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		if err := do(c.hosts[host].Namespace, device); err != nil {
			c.t.Fatal(err)
		}
	}
}

func refuseLocal(host int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		if err := c.hosts[host].Sysctl("net/ipv4/conf/lo/accept_local", "0"); err != nil {
			c.t.Fatal(err)
		}
	}
}

// restart ends a daemon in order and starts it again, with further flags.
func restart(host int, flags ...string) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		c.stopWeftd(host)
		c.startWeftd(host, flags...)
		c.waitReady(host)
	}
}

// addIPsec adds a policy that concerns nothing of the lab's.
func addIPsec(host int) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		if out, err := c.hosts[host].Output("ip", "xfrm", "policy", "add", "src", "198.51.100.0/24", "dst", "203.0.113.0/24", "dir", "out",
			"tmpl", "src", "198.51.100.1", "dst", "203.0.113.1", "proto", "esp", "mode", "tunnel"); err != nil {
			c.t.Fatal(err, out)
		}
	}
}

// inUserSpace: host1 sends no superpackets by its kernel, and a transfer arrives.
func inUserSpace(c *cluster) {
	c.t.Helper()
	c.superpackets(0, 1, false)
	before := c.status(0).Backend.ByKernel.TxSuperpackets
	a, b := c.hosts[0].Container, c.hosts[1].Container
	if _, err := traffic.SendChecked(c.t.Context(), a.Namespace, b.Namespace, b.IPv4, bulkBytes, "", nil); err != nil {
		c.t.Error(err)
	}
	if n := c.status(0).Backend.ByKernel.TxSuperpackets - before; n > 0 && !c.superpacketsTo(0, 1) {
		c.t.Errorf("host1's kernel sent %d superpackets all the same", n)
	}
}

// superpacketsAreBack: whatever was gone is there again. A flow that has been user
// space's stays there, so it is another one that is looked at.
func superpacketsAreBack(c *cluster) {
	c.t.Helper()
	c.superpackets(0, 1, true)
	for i := range c.hosts {
		c.wantAttached(i, assistPrograms...)
	}
	c.carriesSuperpackets(0, 1, whatever)
}

// userSpaceThenKernel: while the fault lasts it is user space, and when it is
// undone the kernel again.
func userSpaceThenKernel(undo func(c *cluster)) func(c *cluster) {
	return func(c *cluster) {
		c.t.Helper()
		inUserSpace(c)
		undo(c)
		superpacketsAreBack(c)
	}
}
