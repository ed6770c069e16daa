package fallback

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/udp"
	"github.com/weftnet/weft/tunnel/vxlan"
)

const (
	withFallback       = `{"Type":"udp","Fallback":"vxlan"}`
	withFallbackSpread = `{"Type":"udp","Fallback":"vxlan","SourcePorts":16}`
)

// newLab starts udp backends with a fallback on all hosts.
func newLab(t *testing.T, hosts int, dual bool) *kerneltest.Lab {
	t.Helper()
	return newLabWith(t, hosts, dual, withFallback)
}

func newLabWith(t *testing.T, hosts int, dual bool, backend string) *kerneltest.Lab {
	t.Helper()
	return kerneltest.New(t, kerneltest.Options{Hosts: hosts, Dual: dual, New: func(n *kerneltest.Node) (tunnel.Backend, error) {
		var b *Backend
		var err error
		doErr := n.Do(func() error { b, err = New(nodeConfig(n, backend)); return nil })
		kerneltest.Check(t, doErr)
		return b, err
	}})
}

func nodeConfig(n *kerneltest.Node, backend string) Config {
	return Config{
		Config: udp.Config{Underlay: n.Underlay, Network: n.Lab.Network, Backend: json.RawMessage(backend), Log: n.Slog()},
		NodeID: n.Lease.Attrs.NodeID,
	}
}

// pathTo is how a node reaches another.
func pathTo(n, other *kerneltest.Node) string {
	for _, p := range n.Status().Peers {
		if p.Subnet == other.Lease.Subnet.IPv4.String() {
			return p.Path
		}
	}
	return "none"
}

func awaitPath(t *testing.T, n, other *kerneltest.Node, path string) {
	t.Helper()
	kerneltest.Eventually(t, "the path to be "+path, func() bool {
		return pathTo(n, other) == path && strings.Contains(peerRoutes(t, n, other), "dev flannel0") == (path == "udp")
	})
}

// crash ends a node's data path as the death of its process does: the TUN and
// the sockets go, and nobody tidies up before.
func crash(t *testing.T, n *kerneltest.Node) {
	t.Helper()
	b := n.Backend.(*Backend)
	b.release()
}

func peerRoutes(t *testing.T, n *kerneltest.Node, other *kerneltest.Node) string {
	t.Helper()
	return strings.Join(n.IP(t, "route", "show", other.Lease.Subnet.IPv4.String()), "; ")
}

func TestExchange(t *testing.T) {
	for _, c := range []struct {
		name string
		dual bool
		mtu  int
	}{{"IPv4", false, 1450}, {"dual stack", true, 1430}} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, 2, c.dual)
			a, b := l.Nodes[0], l.Nodes[1]
			awaitPath(t, a, b, "udp")
			awaitPath(t, b, a, "udp")
			kerneltest.Exchange(t, a, b)
			for _, to := range b.Addrs() {
				kerneltest.Fits(t, a, b, to, c.mtu)
			}
			if a.MTU() != c.mtu {
				t.Errorf("MTU for containers is %d, want %d", a.MTU(), c.mtu)
			}
			s := a.Status()
			if s.Peers[0].TxBytes < 16<<20 || len(s.Problems)+len(s.Skipped) > 0 {
				t.Errorf("status: %+v", s)
			}
			want := "10.5.2.0/24 dev flannel0 proto 87 scope link src 10.5.1.0 metric 100; 10.5.2.0/24 via 10.5.2.0 dev flannel.1 proto 87 src 10.5.1.0 metric 200 onlink"
			if got := strings.Join(strings.Fields(peerRoutes(t, a, b)), " "); got != want {
				t.Errorf("routes: %s", got)
			}
			if log := a.Log.String(); strings.Contains(log, "WARN") || strings.Contains(log, "ERROR") {
				t.Errorf("the log of a healthy node:\n%s", log)
			}
		})
	}
}

// The VTEP's checksum offload is tested though the peer's answers come by udp.
// In IPv6 there are none then: the kernel takes an address that is that of a
// route without a next hop for anycast (ipv6_anycast_destination).
func TestChecksumTested(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	awaitPath(t, b, a, "udp")
	cfg := vxlan.Config{Underlay: a.Underlay, Network: l.Network, NodeID: a.Lease.Attrs.NodeID, Log: a.Slog()}
	v, err := vxlan.NewVTEP(cfg)
	kerneltest.Check(t, err)
	var test *vxlan.ChecksumTest
	kerneltest.Check(t, a.Do(func() error {
		test = vxlan.NewChecksumTest(v, a.Slog(), func() {})
		return nil
	}))
	defer test.Close()
	remotes, _ := v.Remotes(a.Lease, "udp", a.Peers())
	test.SetRemotes(remotes)
	kerneltest.Eventually(t, "a verdict", func() bool {
		return !slices.ContainsFunc(v.Checksums(), func(c tunnel.Capability) bool { return !strings.Contains(c.Why, "tested with") })
	})
	if pathTo(b, a) != "udp" {
		t.Errorf("the answers came by %s", pathTo(b, a))
	}
}

// A TCP transfer survives the crash of either end, and of both.
func TestCrash(t *testing.T) {
	for _, c := range []struct {
		name, backend string
		crash         []int
	}{
		{"sender", withFallback, []int{0}},
		{"receiver", withFallback, []int{1}},
		{"receiver, several source ports", withFallbackSpread, []int{1}},
		{"both", withFallback, []int{0, 1}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLabWith(t, 2, false, c.backend)
			a, b := l.Nodes[0], l.Nodes[1]
			awaitPath(t, a, b, "udp")
			awaitPath(t, b, a, "udp")
			crashed := false
			_, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 64<<20, "", func(n int64) {
				if n > 16<<20 && !crashed {
					crashed = true
					for _, i := range c.crash {
						crash(t, l.Nodes[i])
					}
				}
			})
			kerneltest.Check(t, err)
			for i, n := range l.Nodes {
				if other := l.Nodes[1-i]; len(c.crash) == 1 && i != c.crash[0] && pathTo(n, other) != "vxlan" {
					t.Errorf("the path of host %d is %s", i+1, pathTo(n, other))
				}
			}
			for _, i := range c.crash {
				l.Nodes[i].Backend = nil
			}
		})
	}
}
