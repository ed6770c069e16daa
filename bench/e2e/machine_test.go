package e2e

import (
	"context"
	"net"
	"os"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// By these variables the test binary takes something away from itself and
// then becomes weftd.
const (
	deprivedVariable = "WEFT_E2E_DEPRIVED" // of what
	deprivedWeftd    = "WEFT_E2E_WEFTD"    // path of the binary
)

const (
	withoutTUN      = "no /dev/net/tun"
	withoutNetAdmin = "no CAP_NET_ADMIN"
	withoutBPF      = "no CAP_BPF"
)

// becomeDeprived does not return unless it fails.
func becomeDeprived(how, weftd string, args []string) error {
	runtime.LockOSThread() // what is taken away is the thread's, until execve
	switch how {
	case withoutTUN:
		if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
			return err
		}
		if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
			return err
		}
		if err := unix.Mount("none", "/dev/net", "tmpfs", 0, ""); err != nil {
			return err
		}
	case withoutNetAdmin:
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, unix.CAP_NET_ADMIN, 0, 0, 0); err != nil {
			return err
		}
	case withoutBPF:
		for _, capability := range []uintptr{unix.CAP_BPF, unix.CAP_SYS_ADMIN} { // either will do
			if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); err != nil {
				return err
			}
		}
	}
	return syscall.Exec(weftd, append([]string{weftd}, args...), os.Environ())
}

// startDeprived starts weftd on a host without something it needs.
func (c *cluster) startDeprived(i int, how string) {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	c.weftds[i], err = c.hosts[i].StartWeftdEnv(self,
		[]string{deprivedVariable + "=" + how, deprivedWeftd + "=" + weftdPath}, "--etcd-endpoints="+c.endpoint)
	if err != nil {
		c.t.Fatal(err)
	}
	c.weftds[i].Binary = weftdPath
}

func TestMachineLacksWhatWeftdNeeds(t *testing.T) {
	for _, test := range []struct {
		how  string
		says []string
	}{
		{withoutTUN, []string{"/dev/net/tun", "modprobe tun"}},
		{withoutNetAdmin, []string{"CAP_NET_ADMIN"}},
	} {
		t.Run(test.how, func(t *testing.T) {
			c := build(t, spec{hosts: 1})
			c.startDeprived(0, test.how)
			c.logged(0, test.says...)
			if c.status(0).Ready {
				t.Error("it is ready all the same")
			}
		})
	}
}

// What weftd can do without, it does without, and says why.
func TestMachineLacksWhatHelps(t *testing.T) {
	c := build(t, spec{})
	c.startDeprived(0, withoutBPF)
	c.startWeftd(1)
	for i := range c.hosts {
		c.attach(i, c.waitReady(i))
	}
	c.reachAll()
	for _, capability := range c.status(0).Backend.Capabilities {
		if off := !capability.On && strings.Contains(capability.Why, "CAP_BPF"); off != (capability.Name == "assist") {
			t.Errorf("%+v", capability)
		}
	}
	c.exchange(c.hosts[0], c.hosts[1])
	c.exchange(c.hosts[1], c.hosts[0])
	if sent := c.sent(1); sent.kernel > 0 || sent.user == 0 {
		t.Errorf("to the node without: %+v", sent)
	}
}

func TestPortInUse(t *testing.T) {
	c := build(t, spec{hosts: 1})
	var l net.ListenConfig
	taken, err := c.hosts[0].ListenPacket(context.Background(), l, "udp4", "0.0.0.0:8285")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	c.startWeftd(0)
	c.logged(0, "8285", "in use")
	if c.status(0).Ready {
		t.Error("it is ready all the same")
	}
}

// A second daemon on the host must not disturb the first.
func TestSecondWeftdOnOneHost(t *testing.T) {
	c := start(t, spec{})
	h := c.hosts[0]
	second, err := h.Run("second", weftdPath, "--etcd-endpoints="+c.endpoint,
		"--state-dir="+h.Dir+"/second", "--subnet-file="+h.Dir+"/second.env", "--control-socket="+h.Dir+"/second.sock")
	if err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if !lastLineHas(second.LogTail(20), "--public-ip") {
			return "the second weftd has not complained: " + second.LogTail(3)
		}
		return ""
	})
	c.reachAll()
	// With an address of its own it gets a lease, but not the device.
	other, err := h.Run("other", weftdPath, "--etcd-endpoints="+c.endpoint, "--public-ip=192.0.2.77",
		"--state-dir="+h.Dir+"/other", "--subnet-file="+h.Dir+"/other.env", "--control-socket="+h.Dir+"/other.sock")
	if err != nil {
		t.Fatal(err)
	}
	c.eventually(func() string {
		if !strings.Contains(other.LogTail(20), "flannel0") {
			return "the other weftd has not complained: " + other.LogTail(3)
		}
		return ""
	})
	c.reachAll()
	// With the same paths it does not even come so far.
	third, err := h.Run("third", weftdPath, "--etcd-endpoints="+c.endpoint, "--control-socket="+c.weftds[0].ControlSocket)
	if err != nil {
		t.Fatal(err)
	}
	<-third.Done()
	if third.Err() == nil || !lastLineHas(third.LogTail(5), "another weftd runs") {
		t.Errorf("the third weftd ended with %v: %s", third.Err(), third.LogTail(5))
	}
	c.reachAll()
}

// routeProtocol is on every route that weft makes.
const routeProtocol = 87

// deleteWeftRoutes deletes every route that weft made on a host.
func (c *cluster) deleteWeftRoutes(i int) {
	c.t.Helper()
	routes := c.weftRoutes(i)
	if len(routes) == 0 {
		c.t.Fatal("weftd made no route")
	}
	if err := c.hosts[i].Do(func() error {
		for _, r := range routes {
			if err := netlink.RouteDel(&r); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

// weftRoutes lists the routes that weft made on a host.
func (c *cluster) weftRoutes(i int) (routes []netlink.Route) {
	c.t.Helper()
	if err := c.hosts[i].Do(func() (err error) {
		routes, err = netlink.RouteListFiltered(netlink.FAMILY_ALL,
			&netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
		return err
	}); err != nil {
		c.t.Fatal(err)
	}
	return routes
}
