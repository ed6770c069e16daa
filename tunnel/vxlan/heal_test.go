package vxlan

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/netstate"
)

func contains(n *kerneltest.Node, line string) bool { return strings.Contains(n.Log.String(), line) }

// Whatever is taken away while packets flow, they flow again soon: an answer
// comes within a second, of which the test's own ping takes most.
func TestPathHeals(t *testing.T) {
	l := newLab(t, 2, true, "")
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	for _, c := range []struct{ name, command string }{
		{"route", "route del 10.5.2.0/24"},
		{"IPv6 route", "-6 route del fd00:5:2::/64"},
		{"neighbour", "neigh del 10.5.2.0 dev flannel.1"},
		{"device", "link del flannel.1"},
		{"IPv6 device", "link del flannel-v6.1"},
		{"device down", "link set flannel.1 down"},
		{"MAC", "link set flannel.1 address 02:00:00:00:99:99"},
		{"address", "addr del 10.5.1.0/32 dev flannel.1"},
		{"underlay flaps", "link set eth0 down"},
	} {
		t.Run(c.name, func(t *testing.T) {
			a.IP(t, strings.Fields(c.command)...)
			if c.name == "underlay flaps" {
				a.IP(t, "link", "set", "eth0", "up")
				kerneltest.Check(t, a.AddAddr("eth0", pfx("2001:db8:57::1/64"))) // went with the link
			}
			began := time.Now()
			a.Reach(t, b)
			kerneltest.Eventually(t, "the kernel's state", func() bool { return len(a.Status().Problems) == 0 })
			t.Logf("after %v", time.Since(began))
		})
	}
}

// The underlay's device is made anew: everything comes back, on a device that
// is new as well.
func TestUnderlayMadeAnew(t *testing.T) {
	l := newLab(t, 2, true, "")
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	kerneltest.Check(t, a.LinkDelete("eth0"))
	kerneltest.Eventually(t, "notice of it", func() bool { return contains(a, "its underlay eth0 does not exist now") })
	kerneltest.Check(t, a.PlugIn())
	a.Reach(t, b)
	kerneltest.Exchange(t, a, b)
}

// Leases as flannel writes them, devices as flannel makes them: the peer is
// reached, and the devices that it left on this host are used.
func TestFlannelPeer(t *testing.T) {
	l := newLab(t, 2, false, "")
	a, b := l.Nodes[0], l.Nodes[1]
	kerneltest.Check(t, b.Close())
	b.IP(t, "link", "del", "flannel.1")
	b.IP(t, "route", "flush", "proto", "87")
	mac := netstate.MAC{0x6e, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e}
	for _, command := range []string{
		"link add flannel.1 address 6e:1a:2b:3c:4d:5e mtu 1450 type vxlan id 1 local 192.0.2.2 dev eth0 dstport 8472 nolearning",
		"addr add 10.5.2.0/32 dev flannel.1",
		"link set flannel.1 up",
		"neigh replace 10.5.1.0 lladdr " + deriveMAC("node1", "flannel.1").String() + " dev flannel.1 nud permanent",
		"route replace 10.5.1.0/24 via 10.5.1.0 dev flannel.1 onlink",
	} {
		b.IP(t, strings.Fields(command)...)
	}
	_, err := b.Output("bridge", "fdb", "replace", deriveMAC("node1", "flannel.1").String(), "dev", "flannel.1", "dst", "192.0.2.1", "self", "permanent")
	kerneltest.Check(t, err)

	var flannel subnet.Attrs
	kerneltest.Check(t, flannel.UnmarshalJSON([]byte(`{"PublicIP":"192.0.2.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"6e:1a:2b:3c:4d:5e"}}`)))
	ours := b.Lease
	b.Lease.Attrs = flannel
	a.SetPeers(a.Peers())
	kerneltest.Exchange(t, a, b)

	// weft starts on what flannel left: the device stays, its MAC becomes the
	// node's own, and its routes become ours.
	before := b.IP(t, "-o", "link", "show", "flannel.1")[0]
	b.Lease = ours
	b.Start()
	l.Introduce()
	kerneltest.Exchange(t, a, b)
	after := b.IP(t, "-o", "link", "show", "flannel.1")[0]
	if index := strings.Fields(before)[0]; strings.Fields(after)[0] != index || contains(b, "made anew") {
		t.Errorf("the device was made anew: %s, %s", before, after)
	}
	if strings.Contains(after, mac.String()) || !strings.Contains(after, deriveMAC("node2", "flannel.1").String()) {
		t.Errorf("MAC: %s", after)
	}
	if got := b.IP(t, "route", "show", "10.5.1.0/24"); !slices.Equal(got, []string{"10.5.1.0/24 via 10.5.1.0 dev flannel.1 proto 87 src 10.5.2.0 onlink"}) {
		t.Errorf("routes: %q", got)
	}
}

// Peers on the same network are reached without tunnel, those behind a router
// through it; and a peer that moves is followed.
func TestDirectRouting(t *testing.T) {
	l := newLab(t, 3, false, `{"DirectRouting":true}`)
	a, b, c := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	kerneltest.Check(t, l.MoveBehindRouter(c.Host))
	c.Underlay.IPv4, c.Underlay.PublicIPv4 = c.IPv4, c.IPv4
	kerneltest.Check(t, c.Close())
	c.Start()
	l.Introduce()
	for _, p := range [][2]*kerneltest.Node{{a, b}, {a, c}, {b, c}} {
		kerneltest.Exchange(t, p[0], p[1])
	}
	paths := func(n *kerneltest.Node) string {
		s := n.Status()
		var all []string
		for _, p := range s.Peers {
			all = append(all, p.Subnet+" "+p.Path+" "+p.Endpoint)
		}
		return strings.Join(append(all, s.Problems...), ", ")
	}
	for n, want := range map[*kerneltest.Node]string{
		a: "10.5.2.0/24 direct 192.0.2.2, 10.5.3.0/24 vxlan 198.51.100.3:8472",
		c: "10.5.1.0/24 vxlan 192.0.2.1:8472, 10.5.2.0/24 vxlan 192.0.2.2:8472",
	} {
		if got := paths(n); got != want {
			t.Errorf("host %d: %s, want %s", n.Number, got, want)
		}
	}
	kerneltest.Fits(t, a, b, b.Container.IPv4, 1500) // nothing is added
	kerneltest.Fits(t, a, c, c.Container.IPv4, 1450)
	// Packets to b leave as they are.
	before := counter(t, a, "flannel.1")
	if _, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 1<<20, "", nil); err != nil {
		t.Error(err)
	}
	if after := counter(t, a, "flannel.1"); after != before {
		t.Errorf("flannel.1 sent packets to b: %s, then %s", before, after)
	}
}

// counter is how many packets a device has sent.
func counter(t *testing.T, n *kerneltest.Node, device string) string {
	t.Helper()
	out, err := n.Output("cat", "/proc/net/dev")
	kerneltest.Check(t, err)
	for line := range strings.Lines(out) {
		if fields := strings.Fields(line); len(fields) > 10 && fields[0] == device+":" {
			return fields[10]
		}
	}
	t.Fatalf("no device %s in\n%s", device, out)
	return ""
}
