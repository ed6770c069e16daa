package e2e

import (
	"net/netip"
	"testing"

	"github.com/vishvananda/netlink"
)

const (
	configKey  = "/coreos.com/network/config"
	subnetsKey = "/coreos.com/network/subnets/"
)

// A lease that cannot be read is reported, once, and the others work.
func TestMalformedLeases(t *testing.T) {
	c := build(t, spec{})
	bad := map[string]string{
		"10.5.201.0-24": `{"PublicIP": "192.0.2.201"`,
		"10.5.202.0-24": `{"PublicIP": "no address"}`,
		"10.5.203.0-24": `null`,
		"10.5.204.0-99": `{"PublicIP": "192.0.2.204"}`,
		"gibberish":     `{"PublicIP": "192.0.2.205"}`,
	}
	for key, value := range bad {
		c.put(subnetsKey+key, value)
	}
	for i := range c.hosts {
		c.startWeftd(i)
	}
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	for key := range bad {
		if lines := c.logged(0, key); lines != 1 {
			t.Errorf("%s is reported %d times", key, lines)
		}
	}
	if listed := len(c.status(0).BadEntries); listed != len(bad) {
		t.Errorf("status lists %d of %d bad entries", listed, len(bad))
	}

	// One that turns up later, in the watch, is no different.
	c.put(subnetsKey+"10.5.206.0-24", `[]`)
	if lines := c.logged(0, "10.5.206.0-24"); lines != 1 {
		t.Errorf("it is reported %d times", lines)
	}
	c.reachAll()
}

func TestMalformedConfigIsWaitedOut(t *testing.T) {
	c := build(t, spec{})
	good := c.get(configKey)
	c.put(configKey, `{"Network": "10.5.0.0/16", "SubnetLen": 99}`)
	c.startWeftd(0)
	c.notReady(0, "SubnetLen", "99")
	c.put(configKey, good)
	c.waitReady(0)
}

func TestConfigThatIsNotThereIsWaitedFor(t *testing.T) {
	c := build(t, spec{})
	good := c.get(configKey)
	c.delete(configKey)
	c.startWeftd(0)
	c.notReady(0, "weftd config set")
	c.put(configKey, good)
	c.waitReady(0)
}

// A network that holds the underlay's addresses would take the underlay's own
// packets into the tunnel.
func TestNetworkOverlapsTheUnderlay(t *testing.T) {
	c := build(t, spec{config: `{"Network": "192.0.0.0/16", "SubnetMin": "192.0.64.0", "Backend": {"Type": "udp"}}`})
	c.startWeftd(0)
	c.logged(0, "192.0.0.0/16", "192.0.2.")
	if c.status(0).Ready {
		t.Error("it is ready all the same")
	}
	c.reach(c.hosts[0].Namespace, c.hosts[1].IPv4)
}

func TestNetworkOverlapsARoute(t *testing.T) {
	c := build(t, spec{})
	route := netip.MustParsePrefix("10.5.128.0/17")
	if err := c.hosts[0].AddRoute(route, netip.MustParseAddr("192.0.2.254")); err != nil {
		t.Fatal(err)
	}
	c.startWeftd(0)
	c.logged(0, "10.5.0.0/16", "10.5.128.0/17")
	if err := c.hosts[0].Do(func() error {
		routes, err := netlink.RouteGet(netip.MustParseAddr("10.5.129.1").AsSlice())
		if err == nil && routes[0].Gw.String() != "192.0.2.254" {
			t.Error("the route was taken over:", routes[0])
		}
		return err
	}); err != nil {
		t.Error(err)
	}
}
