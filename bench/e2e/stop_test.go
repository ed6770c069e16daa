package e2e

import (
	"errors"
	"net/netip"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Without weftd the network is unreachable, and not sent the default way.
func TestStopLeavesNoLeak(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	for _, end := range []func() error{c.weftds[0].Stop, nil} {
		if end == nil { // once more, the hard way
			c.startWeftd(0)
			c.waitReady(0)
			end = c.weftds[0].Kill
		}
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := c.hosts[0].Do(func() error {
			_, err := netlink.RouteGet(netip.MustParseAddr("10.5.0.9").AsSlice())
			if !errors.Is(err, unix.EHOSTUNREACH) {
				t.Error("a route for the network leads elsewhere:", err)
			}
			return nil
		}); err != nil {
			t.Fatal(err)
		}
	}
	c.startWeftd(0)
	c.waitReady(0)
	c.reachAll()
}

// Cleanup removes all that weft made, and nothing else.
func TestCleanup(t *testing.T) {
	c := start(t, spec{flags: []string{"--ip-masq"}})
	c.reachAll()
	h, w := c.hosts[0], c.weftds[0]
	foreign := netip.MustParsePrefix("203.0.113.0/24")
	if err := h.AddRoute(foreign, netip.MustParseAddr("192.0.2.254")); err != nil {
		t.Fatal(err)
	}
	flags := []string{"cleanup", "--state-dir=" + w.StateDir, "--subnet-file=" + w.SubnetFile, "--control-socket=" + w.ControlSocket}
	if _, err := h.Command(t.Context(), weftdPath, flags...); err == nil {
		t.Error("it cleans up below a running weftd")
	}
	c.reachAll()
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // repeatable
		if _, err := h.Command(t.Context(), weftdPath, flags...); err != nil {
			t.Fatal(err)
		}
	}
	if routes := c.weftRoutes(0); len(routes) > 0 {
		t.Error("routes left:", routes)
	}
	for _, path := range []string{w.SubnetFile, w.ControlSocket} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", path, err)
		}
	}
	if out, err := h.Output("nft", "list", "ruleset"); err != nil || containsAny(out, "weft", "10.5.") {
		t.Errorf("rules left: %v\n%s", err, out)
	}
	if err := h.Do(func() error {
		if _, err := netlink.LinkByName("flannel0"); !errors.As(err, new(netlink.LinkNotFoundError)) {
			t.Error("flannel0 is left:", err)
		}
		if _, err := netlink.LinkByName("cni0"); err != nil {
			t.Error("the bridge, which is not weft's, is gone:", err)
		}
		routes, err := netlink.RouteGet(foreign.Addr().AsSlice())
		if err != nil || routes[0].Gw.String() != "192.0.2.254" {
			t.Error("a foreign route is gone:", routes, err)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	subnet := c.hosts[0].Container.IPv4
	c.startWeftd(0)
	env := c.waitReady(0)
	if !env.Subnet.Contains(subnet) {
		t.Errorf("the container's subnet was not taken again, but %s", env.Subnet)
	}
	c.reachAll()
}
