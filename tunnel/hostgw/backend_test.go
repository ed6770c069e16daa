package hostgw

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
)

func newLab(t *testing.T, hosts int, dual bool) *kerneltest.Lab {
	t.Helper()
	return kerneltest.New(t, kerneltest.Options{Hosts: hosts, Dual: dual, New: func(n *kerneltest.Node) (tunnel.Backend, error) {
		return New(Config{Underlay: n.Underlay, Network: n.Lab.Network, Log: n.Slog()})
	}})
}

func TestTransfer(t *testing.T) {
	for _, dual := range []bool{false, true} {
		t.Run(fmt.Sprintf("dual %v", dual), func(t *testing.T) {
			l := newLab(t, 3, dual)
			a, b := l.Nodes[0], l.Nodes[1]
			kerneltest.Exchange(t, a, b)
			kerneltest.Exchange(t, b, l.Nodes[2])
			for _, to := range b.Addrs() {
				kerneltest.Fits(t, a, b, to, 1500)
			}
			if s := a.Status(); len(s.Peers) != 2 || len(s.Skipped)+len(s.Problems) != 0 || s.MTU != 1500 {
				t.Errorf("status: %+v", s)
			}
		})
	}
}

func routes(t *testing.T, n *kerneltest.Node) []string {
	t.Helper()
	return n.IP(t, "route", "show", "proto", "87")
}

const unreachable = "unreachable 10.5.0.0/16 metric 2147483647"

// A peer behind a router is reported and gets no route; it is served as soon as
// it is a neighbour.
func TestPeerBehindRouter(t *testing.T) {
	l := newLab(t, 3, false)
	a, b, c := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	kerneltest.Check(t, l.MoveBehindRouter(c.Host))
	c.Underlay.IPv4, c.Underlay.PublicIPv4 = c.IPv4, c.IPv4
	kerneltest.Check(t, c.Close())
	c.Start()
	l.Introduce()
	kerneltest.Exchange(t, a, b)
	s := a.Status()
	want := tunnel.SkippedPeer{Subnet: "10.5.3.0/24",
		Why: "10.5.3.0/24 is not reached: 198.51.100.3 is not on the link eth0; host-gw needs it there, vxlan does not"}
	if len(s.Peers) != 1 || !slices.Equal(s.Skipped, []tunnel.SkippedPeer{want}) || len(s.Problems) != 0 {
		t.Errorf("status: %+v", s)
	}
	if got := routes(t, a); !slices.Equal(got, []string{unreachable, "10.5.2.0/24 via 192.0.2.2 dev eth0"}) {
		t.Errorf("routes: %q", got)
	}
	r, err := traffic.Ping(t.Context(), a.Container.Namespace, c.Container.IPv4, traffic.PingOptions{Count: 1, Timeout: time.Second})
	if err == nil && r.Lost() == 0 {
		t.Error("it answers all the same")
	}
	for _, n := range []*kerneltest.Node{a, b} {
		kerneltest.Check(t, n.AddAddr("eth0", pfx(fmt.Sprintf("198.51.100.%d/24", n.Number))))
	}
	kerneltest.Check(t, c.AddAddr("eth0", pfx("192.0.2.3/24")))
	kerneltest.Exchange(t, a, c)
}

// What is deleted comes back, and so does what goes with a flapped link.
func TestHeals(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	want := []string{unreachable, "10.5.2.0/24 via 192.0.2.2 dev eth0"}
	for _, commands := range [][]string{
		{"route del 10.5.2.0/24"},
		{"route del unreachable 10.5.0.0/16 metric 2147483647"},
		{"link set eth0 down", "link set eth0 up"},
	} {
		for _, command := range commands {
			a.IP(t, strings.Fields(command)...)
		}
		kerneltest.Eventually(t, "the routes after "+commands[0], func() bool { return slices.Equal(routes(t, a), want) })
		a.Reach(t, b)
	}
	kerneltest.Check(t, a.LinkDelete("eth0"))
	kerneltest.Eventually(t, "notice of it", func() bool { return slices.Equal(routes(t, a), want[:1]) })
	kerneltest.Check(t, a.PlugIn())
	kerneltest.Eventually(t, "the routes on the new device", func() bool { return slices.Equal(routes(t, a), want) })
	a.Reach(t, b)
}

// A transfer goes on while daemons end and others start.
func TestRestart(t *testing.T) {
	l := newLab(t, 2, true)
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	running, restarted := make(chan struct{}), make(chan struct{})
	var once sync.Once
	done := make(chan error, 1)
	go func() {
		_, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv6, 32<<20, "",
			func(received int64) {
				once.Do(func() { close(running) })
				if received > 16<<20 {
					<-restarted
				}
			})
		done <- err
	}()
	<-running
	before := routes(t, a)
	for _, n := range l.Nodes {
		kerneltest.Check(t, n.Close())
		n.Start()
		if got := routes(t, a); !slices.Equal(got, before) {
			t.Errorf("routes: %q", got)
		}
	}
	l.Introduce()
	close(restarted)
	kerneltest.Check(t, <-done)
}

// Without a lease no peer is reached; with leases of other kinds none is.
func TestLeases(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	kerneltest.Check(t, a.SetOwn(subnet.Lease{}))
	if got := routes(t, a); !slices.Equal(got, []string{unreachable}) {
		t.Errorf("routes without a lease: %q", got)
	}
	kerneltest.Check(t, a.SetOwn(a.Lease))
	a.Reach(t, b)
	vxlan := b.Lease
	vxlan.Attrs.BackendType = "vxlan"
	a.SetPeers([]subnet.Lease{vxlan})
	if s := a.Status(); len(s.Skipped) != 1 || s.Skipped[0].Why != "its backend is vxlan, this node's is host-gw" {
		t.Errorf("status: %+v", s)
	}
	if got := routes(t, a); !slices.Equal(got, []string{unreachable}) {
		t.Errorf("routes to a vxlan node: %q", got)
	}
	// flannel's own lease
	var flannel subnet.Attrs
	kerneltest.Check(t, flannel.UnmarshalJSON([]byte(`{"PublicIP":"192.0.2.2","PublicIPv6":null,"BackendType":"host-gw"}`)))
	a.SetPeers([]subnet.Lease{{Subnet: b.Lease.Subnet, Attrs: flannel}})
	kerneltest.Exchange(t, a, b)
}
