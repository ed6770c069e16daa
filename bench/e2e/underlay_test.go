package e2e

import (
	"net/netip"
	"strings"
	"testing"
)

func TestNoDefaultRoute(t *testing.T) {
	c := build(t, spec{})
	if err := c.hosts[0].DelDefaultRoutes(); err != nil {
		t.Fatal(err)
	}
	c.startWeftd(0)
	c.logged(0, "default route", "--iface")
	if c.status(0).Ready {
		t.Error("it is ready all the same")
	}
	// Named, the interface needs no default route. This etcd is on the link.
	if err := c.weftds[0].Stop(); err != nil {
		t.Fatal(err)
	}
	c.startWeftd(0, "--iface=eth0")
	c.startWeftd(1)
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
}

func TestInterfaceDownAndUp(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	h := c.hosts[0]
	if err := h.LinkDown("eth0"); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if c.status(0).Ready {
			return "ready without an underlay"
		}
		return ""
	})
	if err := h.LinkUp("eth0"); err != nil {
		t.Fatal(err)
	}
	if err := h.AddDefaultRoutes(); err != nil { // lost with the link
		t.Fatal(err)
	}
	c.reachAll()
	c.waitReady(0)
	c.byKernel(0, 1)
}

func TestInterfaceGoneAndBack(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	subnet := c.status(0).Lease.Subnet
	h := c.hosts[0]
	if err := h.LinkDelete("eth0"); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if c.status(0).Ready {
			return "ready without an underlay"
		}
		return ""
	})
	if err := h.PlugIn(); err != nil {
		t.Fatal(err)
	}
	c.reachAll()
	c.waitReady(0)
	if now := c.status(0).Lease.Subnet; now != subnet {
		t.Errorf("the subnet was %s and is %s", subnet, now)
	}
	c.byKernel(0, 1)
	c.wantAttached(0, assistPrograms...)

	for _, step := range [][]string{{"eth0", "down"}, {"eth0", "name", "uplink"}, {"uplink", "up"}} {
		if _, err := h.Output("ip", append([]string{"link", "set"}, step...)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := h.AddDefaultRoutes(); err != nil {
		t.Fatal(err)
	}
	c.reachAll()
	c.waitReady(0)
	c.byKernel(0, 1)
	c.wantAttached(0, "flannel0 egress", "uplink ingress", gsoDevice+" ingress")
}

// A new public IP moves the lease, not the containers.
func TestPublicIPChanges(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	subnet := c.status(0).Lease.Subnet
	h := c.hosts[0]
	before, after := netip.MustParsePrefix("192.0.2.1/24"), netip.MustParsePrefix("192.0.2.101/24")
	if err := h.DelAddr("eth0", before); err != nil {
		t.Fatal(err)
	}
	if err := h.AddAddr("eth0", after); err != nil {
		t.Fatal(err)
	}
	if err := h.AddDefaultRoutes(); err != nil { // lost with the address
		t.Fatal(err)
	}
	c.reachAll()
	if now := c.status(0).Lease.Subnet; now != subnet {
		t.Errorf("the subnet was %s and is %s", subnet, now)
	}
	c.eventually(func() string {
		for _, p := range c.status(1).Backend.Peers {
			if p.Subnet == subnet.String() && strings.HasPrefix(p.Endpoint, "192.0.2.101:") {
				return ""
			}
		}
		return "host2 does not send to the new address"
	})
	c.byKernel(0, 1)
}

func TestRouteDeletedByHand(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	c.deleteWeftRoutes(0)
	c.reachAll()
}

// sysctl --system does that on hosts whose files say so.
func TestForwardingSwitchedOff(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	if err := c.hosts[0].Sysctl("net/ipv4/ip_forward", "0"); err != nil {
		t.Fatal(err)
	}
	c.reachAll()
}
