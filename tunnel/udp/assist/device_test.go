package assist

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// openDevice opens the device of a host, with its TUN.
func (h *host) openDevice() *gsoDevice {
	h.t.Helper()
	tun := h.index("flannel0")
	var d *gsoDevice
	check(h.t, h.Do(func() (err error) { d, err = openDevice(tun); return err }))
	h.t.Cleanup(func() { check(h.t, d.close()) })
	return d
}

// link returns an interface, nil if there is none of this name.
func (h *host) link(name string) (l netlink.Link) {
	h.t.Helper()
	check(h.t, h.Do(func() (err error) {
		if l, err = netlink.LinkByName(name); errors.As(err, &netlink.LinkNotFoundError{}) {
			l, err = nil, nil
		}
		return err
	}))
	return l
}

// attachNothing is for renew.
func attachNothing(int) error { return nil }

// refuses fails unless an error says all of this.
func refuses(t *testing.T, what string, err error, says ...string) {
	t.Helper()
	for _, s := range says {
		if err == nil || !strings.Contains(err.Error(), s) {
			t.Errorf("%s: %v, does not say %q", what, err, s)
		}
	}
}

func TestDevice(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	d := h.openDevice()
	if h.link(deviceName) != nil {
		t.Error("it is there before renew")
	}
	var attached []string
	check(t, d.renew(func(index int) error { // on a thread of the namespace
		l, err := netlink.LinkByIndex(index)
		if err == nil {
			attached = append(attached, fmt.Sprint(l.Attrs().Name, " up ", l.Attrs().Flags&net.FlagUp != 0))
		}
		return err
	}))
	if len(attached) != 1 || attached[0] != "weft-gso up false" {
		t.Errorf("programs were attached to %q", attached)
	}
	check(t, d.check())
	l := h.link(deviceName)
	if v, ok := l.(*netlink.Vxlan); !ok || v.Index != d.index || v.Port != int(d.port) || v.VtepDevIndex != h.index("flannel0") ||
		!v.FlowBased || v.Learning || v.Flags&net.FlagUp == 0 || v.MTU != 68 {
		t.Errorf("it is %+v; index %d, port %d", l, d.index, d.port)
	}
	if text := h.ip("-d", "link", "show", deviceName); !strings.Contains(text, " gpe ") {
		t.Errorf("it is not GPE: %s", text)
	}
	check(t, h.Do(func() error {
		for key, want := range map[string]string{"ipv4/conf/lo/accept_local": "1\n", "ipv4/conf/weft-gso/rp_filter": "1\n"} {
			if b, err := os.ReadFile("/proc/sys/net/" + key); err != nil || string(b) != want {
				t.Errorf("%s is %q, %v", key, b, err)
			}
		}
		if _, err := os.Stat("/proc/sys/net/ipv6/conf/" + deviceName); err == nil {
			t.Error("it has IPv6")
		}
		for _, network := range []string{"udp4", "udp6"} {
			c, err := net.ListenUDP(network, &net.UDPAddr{Port: int(d.port)})
			if !errors.Is(err, unix.EADDRINUSE) {
				c.Close()
				t.Errorf("%s: another one gets its port: %v", network, err)
			}
		}
		return nil
	}))
	check(t, d.close())
	check(t, d.close())
	check(t, (*gsoDevice)(nil).close())
	if l := h.link(deviceName); l != nil {
		t.Errorf("after close there is %+v", l)
	}
}

// What is there already goes, be it of this process or of another one.
func TestDeviceAnew(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	first, second := h.openDevice(), h.openDevice()
	check(t, first.renew(attachNothing))
	check(t, second.renew(attachNothing))
	if first.index == second.index {
		t.Errorf("both have index %d", first.index)
	}
	refuses(t, "the former one", first.check(), "weft-gso", "gone")
	check(t, second.check())
	check(t, second.renew(attachNothing))
	check(t, second.check())

	check(t, first.close()) // not that it should
	refuses(t, "removed", second.check(), "weft-gso", "gone")
}

// Nobody else's interface is touched.
func TestDeviceForeign(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	for kind, add := range map[string]string{
		"bridge":          "type bridge",
		"veth":            "type veth peer name other",
		"VXLAN":           "type vxlan id 1 dstport 40001",
		"VXLAN-GBP":       "type vxlan id 1 gbp dstport 40001",
		"VXLAN, external": "type vxlan external dstport 40001",
		"another TUN's":   "type vxlan external gpe dstport 40001 dev lo",
	} {
		h.ip(append([]string{"link", "add", deviceName}, strings.Fields(add)...)...)
		before := h.link(deviceName).Attrs().Index
		d := h.openDevice()
		refuses(t, kind, d.renew(attachNothing), "weft-gso", "ip link delete weft-gso")
		check(t, d.close())
		if l := h.link(deviceName); l == nil || l.Attrs().Index != before {
			t.Errorf("%s: it was removed", kind)
		}
		h.ip("link", "delete", deviceName)
	}
}

// Between the moment when a port was free and that when the device has it another
// socket may take it, or another such device.
func TestDevicePortTaken(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	d := h.openDevice()
	const taken = 40000 // of IPv4, of IPv6, of a device that is down
	check(t, h.Do(func() error {
		for i, network := range []string{"udp4", "udp6"} {
			c, err := net.ListenUDP(network, &net.UDPAddr{Port: taken + i})
			if err != nil {
				return err
			}
			t.Cleanup(func() { c.Close() })
		}
		return nil
	}))
	h.ip("link", "add", "other", "type", "vxlan", "external", "gpe", "dstport", fmt.Sprint(taken+2))

	next := uint16(taken)
	d.freePort = func() (uint16, error) { next++; return next - 1, nil }
	attached := 0
	check(t, d.renew(func(int) error { attached++; return nil }))
	check(t, d.check())
	if d.port != taken+3 || attached != 3 { // the third was not made
		t.Errorf("it has port %d, and programs were attached %d times", d.port, attached)
	}
	d.freePort = func() (uint16, error) { return taken, nil }
	refuses(t, "no port is free", d.renew(attachNothing), "weft-gso", "UDP port 40000", unix.EADDRINUSE.Error())
	d.freePort = func() (uint16, error) { return 0, unix.EMFILE }
	refuses(t, "no socket", d.renew(attachNothing), "weft-gso", "free UDP port", unix.EMFILE.Error())
	if l := h.link(deviceName); l != nil {
		t.Errorf("left: %+v", l)
	}
}

// What has happened to it is noticed, and put right.
func TestDeviceHeals(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	d := h.openDevice()
	check(t, d.renew(attachNothing))
	for _, c := range []struct {
		do, undo string // commands of ip
		says     string
	}{
		{"link delete weft-gso", "", "weft-gso is gone"},
		{"link set weft-gso down", "", "weft-gso is down"},
		{"link set lo down", "link set lo up", "ip link set lo up"},
	} {
		h.ip(strings.Fields(c.do)...)
		refuses(t, c.do, d.check(), c.says)
		if c.undo != "" {
			refuses(t, c.do, d.renew(attachNothing), c.says)
			h.ip(strings.Fields(c.undo)...)
		}
		check(t, d.renew(attachNothing))
		check(t, d.check())
	}
	check(t, h.Sysctl("net/ipv4/conf/lo/accept_local", "0"))
	check(t, d.check())
	check(t, h.Do(func() error {
		if b, err := os.ReadFile("/proc/sys/net/ipv4/conf/lo/accept_local"); err != nil || string(b) != "1\n" {
			t.Errorf("accept_local is %q, %v", b, err)
		}
		return nil
	}))
}

// It goes with the TUN, and does not come back without.
func TestDeviceWithoutTUN(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	d := h.openDevice()
	check(t, d.renew(attachNothing))
	check(t, h.tun.Close())
	waitFor(t, "the end of the device", func() bool { return h.link(deviceName) == nil })
	refuses(t, "the TUN is gone", d.check(), "weft-gso is gone")
	refuses(t, "the TUN is gone", d.renew(attachNothing), "weft-gso", unix.ENODEV.Error())
}

// What the programs' side refuses, or the host does, leaves no device.
func TestDeviceRefused(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	d := h.openDevice()
	refuses(t, "not attached", d.renew(func(int) error { return errors.New("no program") }), "weft-gso", "no program")
	if h.link(deviceName) != nil {
		t.Error("there is a device without its program")
	}
	check(t, h.Sysctl("net/ipv4/conf/lo/accept_local", "0"))
	check(t, h.Sysctl("net/ipv4/conf/default/rp_filter", "0"))
	check(t, h.Do(func() error { // on a thread of its own
		if err := labtest.ReadOnlySys(); err != nil {
			return err
		}
		refuses(t, "/proc/sys cannot be written", openLoopback(), "lo/accept_local", `set it to "1" yourself`)
		refuses(t, "/proc/sys cannot be written", d.make(attachNothing), "weft-gso/rp_filter", `set it to "1" yourself`)
		return nil
	}))
	if h.link(deviceName) != nil {
		t.Error("there is a device without rp_filter")
	}
	check(t, h.Sysctl("net/ipv4/conf/lo/accept_local", "1"))
	check(t, h.Sysctl("net/ipv4/conf/default/rp_filter", "1"))
	check(t, h.Do(func() error {
		return errors.Join(labtest.ReadOnlySys(), openLoopback(), d.make(attachNothing))
	}))
	check(t, h.Do(func() error {
		if err := keepOnly(unix.CAP_NET_RAW); err != nil {
			return err
		}
		refuses(t, "without CAP_NET_ADMIN", addDevice(d.tun, 40000), "CAP_NET_ADMIN")
		return nil
	}))
}

// What a process without descriptors cannot look at is as it was.
func TestDeviceShortage(t *testing.T) { // not in parallel: others could open nothing
	h := newHosts(t, 1, 1500)[0]
	d := h.openDevice()
	check(t, d.renew(attachNothing))
	var was unix.Rlimit
	check(t, unix.Getrlimit(unix.RLIMIT_NOFILE, &was))
	check(t, h.Do(func() error {
		check(t, unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: was.Max}))
		err := d.check()
		return errors.Join(unix.Setrlimit(unix.RLIMIT_NOFILE, &was), err)
	}))
}

// A host may do without IPv6.
func TestDeviceWithoutIPv6(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	for _, of := range []string{"all", "default", "lo"} {
		check(t, h.Sysctl("net/ipv6/conf/"+of+"/disable_ipv6", "1"))
	}
	d := h.openDevice()
	check(t, d.renew(attachNothing))
	check(t, d.check())
}

func TestDeviceDescriptors(t *testing.T) { // not in parallel: it counts
	h := newHosts(t, 1, 1500)[0]
	tun := h.index("flannel0")
	before := descriptors(t)
	for range 3 {
		check(t, h.Do(func() error {
			d, err := openDevice(tun)
			if err != nil {
				return err
			}
			failed := d.renew(func(int) error { return errors.New("no program") })
			if failed == nil {
				t.Error("made all the same")
			}
			return errors.Join(d.renew(attachNothing), d.check(), d.close())
		}))
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}
