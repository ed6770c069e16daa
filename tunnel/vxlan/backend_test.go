package vxlan

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
)

// newLab starts vxlan backends with a Backend object on all hosts.
func newLab(t *testing.T, hosts int, dual bool, backend string) *kerneltest.Lab {
	t.Helper()
	return kerneltest.New(t, kerneltest.Options{Hosts: hosts, Dual: dual, New: func(n *kerneltest.Node) (tunnel.Backend, error) {
		return New(nodeConfig(n, backend))
	}})
}

func nodeConfig(n *kerneltest.Node, backend string) Config {
	return Config{Underlay: n.Underlay, Network: n.Lab.Network, Backend: json.RawMessage(backend), NodeID: n.Lease.Attrs.NodeID, Log: n.Slog()}
}

func TestTransfer(t *testing.T) {
	for _, c := range []struct {
		name    string
		hosts   int
		dual    bool
		backend string
	}{
		{"IPv4", 3, false, ""},
		{"dual stack", 2, true, ""},
		{"other settings", 2, false, `{"VNI":77,"Port":4789,"GBP":true,"Learning":true,"MTU":1400,"TxChecksum":"off"}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, c.hosts, c.dual, c.backend)
			for i, a := range l.Nodes {
				for _, b := range l.Nodes[:i] {
					kerneltest.Exchange(t, a, b)
				}
			}
			for _, n := range l.Nodes {
				s := n.Status()
				if len(s.Peers) != c.hosts-1 || len(s.Skipped)+len(s.Problems) != 0 {
					t.Errorf("status: %+v", s)
				}
			}
		})
	}
}

// What exactly fits passes, one byte more does not, for each family's device.
func TestMTU(t *testing.T) {
	l := newLab(t, 2, true, "")
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	kerneltest.Fits(t, a, b, b.Container.IPv4, 1450)
	kerneltest.Fits(t, a, b, b.Container.IPv6, 1430)
	if a.MTU() != 1430 {
		t.Errorf("containers should use %d", a.MTU())
	}
}

// Flannel knows one device for each family by name; so do those who debug.
func TestKernelState(t *testing.T) {
	l := newLab(t, 2, true, "")
	a, b := l.Nodes[0], l.Nodes[1]
	mac4, mac6 := deriveMAC("node2", "flannel.1"), deriveMAC("node2", "flannel-v6.1")
	for _, c := range []struct {
		command string
		want    []string
	}{
		{"route show proto 87", []string{
			"10.5.2.0/24 via 10.5.2.0 dev flannel.1 src 10.5.1.0 onlink",
			"unreachable 10.5.0.0/16 metric 2147483647",
		}},
		{"-6 route show proto 87", []string{
			"fd00:5:2::/64 via fd00:5:2:: dev flannel-v6.1 src fd00:5:1:: metric 1024 onlink pref medium",
			"unreachable fd00:5::/32 dev lo metric 2147483647 pref medium",
		}},
		{"neigh show nud permanent", []string{
			"10.5.2.0 dev flannel.1 lladdr " + mac4.String() + " PERMANENT",
			"fd00:5:2:: dev flannel-v6.1 lladdr " + mac6.String() + " PERMANENT",
		}},
		{"-br addr show flannel.1", []string{"flannel.1        UNKNOWN        10.5.1.0/32"}},
		{"-br addr show flannel-v6.1", []string{"flannel-v6.1     UNKNOWN        fd00:5:1::/128"}},
	} {
		got := a.IP(t, strings.Fields(c.command)...)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("ip %s:\n%s", c.command, strings.Join(got, "\n"))
		}
	}
	for device, want := range map[string]string{
		"flannel.1":    fmt.Sprintf("%v dst %v self permanent", mac4, b.IPv4),
		"flannel-v6.1": fmt.Sprintf("%v dst %v self permanent", mac6, b.IPv6),
	} {
		got, err := a.Output("bridge", "fdb", "show", "dev", device)
		kerneltest.Check(t, err)
		if strings.TrimSpace(got) != want {
			t.Errorf("fdb of %s: %q, want %q", device, got, want)
		}
	}
}

// Another node holds our subnet: nothing is sent or received until the lease is
// ours again.
func TestLeaseLost(t *testing.T) {
	l := newLab(t, 2, false, "")
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	kerneltest.Check(t, a.SetOwn(subnet.Lease{}))
	if got := a.IP(t, "route", "show", "proto", "87"); len(got) != 1 || !strings.HasPrefix(got[0], "unreachable 10.5.0.0/16") {
		t.Errorf("routes: %q", got)
	}
	if got := a.IP(t, "-br", "link", "show", "flannel.1"); !strings.Contains(got[0], "DOWN") {
		t.Errorf("device: %q", got)
	}
	kerneltest.Check(t, a.SetOwn(a.Lease))
	kerneltest.Exchange(t, a, b)
}

// A node that gets another subnet, by which every route has another source: the
// kernel takes the routes into the tunnel also where direct ones stand already,
// and makes them anew when they were deleted beside those.
func TestRenumber(t *testing.T) {
	for _, c := range []struct{ name, backend, via string }{
		{"tunnel", "", "via fd00:5:2:: dev flannel-v6.1 proto 87 src fd00:5:63:: metric 1024 onlink"},
		{"direct routing", `{"DirectRouting":true}`, "dev flannel-v6.1 proto 87 src fd00:5:63:: metric 2000"},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, 2, true, c.backend)
			a := l.Nodes[0]
			next := a.Lease
			next.Subnet = subnet.Subnet{IPv4: pfx("10.5.99.0/24"), IPv6: pfx("fd00:5:63::/64")}
			kerneltest.Check(t, a.SetOwn(next))
			if s := a.Status(); len(s.Problems) != 0 {
				t.Errorf("problems: %q", s.Problems)
			}
			for _, route := range []struct{ family, dst, want string }{
				{"-4", "10.5.2.0/24", "dev flannel.1 proto 87 src 10.5.99.0"},
				{"-6", "fd00:5:2::/64", c.via},
			} {
				tunnel := func() string {
					return strings.Join(a.IP(t, route.family, "route", "show", route.dst), "\n")
				}
				if got := tunnel(); !strings.Contains(got, route.want) {
					t.Errorf("%s: %s, want %s", route.dst, got, route.want)
				}
				a.IP(t, route.family, "route", "del", route.dst, "dev", "flannel"+map[string]string{"-4": "", "-6": "-v6"}[route.family]+".1")
				kerneltest.Eventually(t, "the deleted route", func() bool { return strings.Contains(tunnel(), route.want) })
			}
		})
	}
}

// A peer that moves to another address and gets another MAC is followed, and
// one that is gone leaves nothing behind.
func TestPeerChangesAndGoes(t *testing.T) {
	l := newLab(t, 3, false, "")
	a, b := l.Nodes[0], l.Nodes[1]
	moved := b.Lease
	moved.Attrs.PublicIP = l.Nodes[2].IPv4
	moved.Attrs.BackendData = l.Nodes[2].Lease.Attrs.BackendData
	a.SetPeers([]subnet.Lease{moved})
	fdb, err := a.Output("bridge", "fdb", "show", "dev", "flannel.1")
	kerneltest.Check(t, err)
	mac3 := deriveMAC("node3", "flannel.1").String()
	if want := mac3 + " dst 192.0.2.3 self permanent"; strings.TrimSpace(fdb) != want {
		t.Errorf("fdb: %q, want %q", fdb, want)
	}
	if got := a.IP(t, "neigh", "show", "dev", "flannel.1", "nud", "permanent"); !slices.Equal(got, []string{"10.5.2.0 lladdr " + mac3 + " PERMANENT"}) {
		t.Errorf("neighbours: %q", got)
	}
	a.SetPeers(nil)
	fdb, err = a.Output("bridge", "fdb", "show", "dev", "flannel.1")
	kerneltest.Check(t, err)
	if got := a.IP(t, "neigh", "show", "dev", "flannel.1", "nud", "permanent"); len(got) != 0 || strings.TrimSpace(fdb) != "" {
		t.Errorf("left: neighbours %q, fdb %q", got, fdb)
	}
}
