package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Without weftd the network is unreachable, and not sent the default way: no
// program of weftd's is left in the kernel either.
func TestStopLeavesNoLeak(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	for _, end := range []func() error{c.weftds[0].Stop, nil} {
		if end == nil { // once more, the hard way
			c.startWeftd(0)
			c.waitReady(0)
			end = c.weftds[0].Kill
		}
		c.wantAttached(0, assistPrograms...)
		if err := end(); err != nil {
			t.Fatal(err)
		}
		c.wantAttached(0)
		c.eventually(func() (amiss string) {
			if c.hasDevice(0, gsoDevice) {
				amiss = gsoDevice + " is left, which hands over what anybody sends it"
			}
			return amiss
		})
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
	c.byKernel(0, 1)
}

// Cleanup removes all that weft made, and nothing else.
func TestCleanup(t *testing.T) {
	s := onFallback.spec(2, false) // which makes most
	s.flags = []string{"--ip-masq"}
	c := start(t, s)
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
	for _, device := range []string{"flannel0", "flannel.1", gsoDevice} {
		if c.hasDevice(0, device) {
			t.Errorf("%s is left", device)
		}
	}
	if err := h.Do(func() error {
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

// What flanneld uses by now is not weft's to remove.
func TestCleanupBesideFlanneld(t *testing.T) {
	c := start(t, spec{hosts: 1, config: `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`})
	h, w := c.hosts[0], c.weftds[0]
	if err := w.Stop(); err != nil {
		t.Fatal(err)
	}
	// The daemon's name is all that counts.
	flanneld := filepath.Join(h.Dir, "flanneld")
	if err := os.Symlink("/bin/sleep", flanneld); err != nil {
		t.Fatal(err)
	}
	p, err := h.Run("flanneld", flanneld, "60")
	if err != nil {
		t.Fatal(err)
	}
	defer p.Kill()
	flags := []string{"cleanup", "--state-dir=" + w.StateDir, "--subnet-file=" + w.SubnetFile, "--control-socket=" + w.ControlSocket}
	there := func() (file, device bool) {
		_, err := os.Stat(w.SubnetFile)
		file = err == nil
		if err := h.Do(func() error {
			_, err := netlink.LinkByName("flannel.1")
			device = err == nil
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return file, device
	}
	c.eventually(func() string {
		if comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", p.PID())); string(comm) != "flanneld\n" {
			return "flanneld has not started"
		}
		return ""
	})
	if _, err := h.Command(t.Context(), weftdPath, flags...); err != nil {
		t.Fatal(err)
	}
	if routes := c.weftRoutes(0); len(routes) > 0 {
		t.Error("routes left:", routes)
	}
	if file, device := there(); !file || !device {
		t.Errorf("beside flanneld: subnet file there %v, device there %v", file, device)
	}
	p.Kill()
	if _, err := h.Command(t.Context(), weftdPath, flags...); err != nil {
		t.Fatal(err)
	}
	if file, device := there(); file || device {
		t.Errorf("without flanneld: subnet file there %v, device there %v", file, device)
	}
}

func TestSubnetFileDeleted(t *testing.T) {
	c := start(t, spec{hosts: 1})
	file := c.weftds[0].SubnetFile
	before, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if after, err := os.ReadFile(file); err != nil || string(after) != string(before) {
			return fmt.Sprintf("the subnet file is not back: %q, %v", after, err)
		}
		return ""
	})
}
