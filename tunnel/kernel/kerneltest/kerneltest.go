// Package kerneltest puts backends whose packets the kernel carries on hosts of
// a lab, each with a container, and sends through them. Leases are handed over
// directly.
package kerneltest

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// Network is the cluster network of dual-stack labs.
var Network = tunnel.Network{IPv4: netip.MustParsePrefix("10.5.0.0/16"), IPv6: netip.MustParsePrefix("fd00:5::/32")}

// Options say what a lab is like.
type Options struct {
	Hosts int
	Dual  bool // both address families, inside and outside

	// New makes the backend of a node, which has its Underlay already.
	New func(n *Node) (tunnel.Backend, error)
}

// Lab is a cluster of which every host has a backend and a container.
type Lab struct {
	*lab.Cluster
	t       *testing.T
	options Options
	Network tunnel.Network
	Nodes   []*Node
}

// Node is a host with its backend.
type Node struct {
	*lab.Host
	tunnel.Backend
	Lab      *Lab
	Underlay tunnel.Underlay
	Lease    subnet.Lease
	Log      *Log
}

var serial atomic.Int32

// New makes the lab, starts all backends, and tells them of each other. The end
// of the test removes everything.
func New(t *testing.T, o Options) *Lab {
	t.Helper()
	labtest.RequireRoot(t)
	spec := lab.Spec{Name: fmt.Sprintf("weft-kt%d-%d", os.Getpid(), serial.Add(1)), Hosts: o.Hosts, IPv4: lab.UnderlayIPv4}
	l := &Lab{t: t, options: o, Network: tunnel.Network{IPv4: Network.IPv4}}
	if o.Dual {
		spec.IPv6, l.Network.IPv6 = lab.UnderlayIPv6, Network.IPv6
	}
	cluster, err := lab.NewCluster(spec)
	Check(t, err)
	l.Cluster = cluster
	t.Cleanup(func() { Check(t, cluster.Close(false)) })
	for _, h := range cluster.Hosts {
		l.addNode(h)
	}
	for _, n := range l.Nodes {
		n.Start()
		Check(t, n.AttachContainer(n.env()))
	}
	l.Introduce()
	return l
}

func (l *Lab) addNode(h *lab.Host) {
	l.t.Helper()
	n := &Node{Host: h, Lab: l, Log: &Log{}}
	n.Lease = subnet.Lease{
		Subnet: subnet.Subnet{IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(h.Number), 0}), 24)},
		Attrs:  subnet.Attrs{NodeID: fmt.Sprintf("node%d", h.Number)},
	}
	if l.options.Dual {
		n.Lease.Subnet.IPv6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 5, 0, byte(h.Number)}), 64)
	}
	n.Underlay = tunnel.Underlay{
		Name: "eth0", MTU: l.MTU,
		IPv4: h.IPv4, IPv6: h.IPv6, PublicIPv4: h.IPv4, PublicIPv6: h.IPv6,
	}
	l.t.Cleanup(func() {
		if n.Backend != nil {
			Check(l.t, n.Close())
		}
		if l.t.Failed() && n.Backend != nil {
			l.t.Logf("host %d: %+v\n%s", h.Number, n.Status(), n.Log)
		}
	})
	l.Nodes = append(l.Nodes, n)
}

// Start makes a new backend and starts it, with no peers yet.
func (n *Node) Start() {
	t := n.Lab.t
	t.Helper()
	b, err := n.Lab.options.New(n)
	Check(t, err)
	n.Backend = b
	n.Lease.Attrs.PublicIP, n.Lease.Attrs.PublicIPv6 = n.Underlay.PublicIPv4, n.Underlay.PublicIPv6
	n.Lease.Attrs.BackendType, n.Lease.Attrs.BackendData, n.Lease.Attrs.BackendV6Data = b.Data()
	Check(t, n.Do(func() error { return b.Start(t.Context(), n.Lease) }))
}

// Slog is the node's log.
func (n *Node) Slog() *slog.Logger { return slog.New(slog.NewTextHandler(n.Log, nil)) }

// env has containers use packets of the underlay's size: how they learn what
// fits is part of what is tested.
func (n *Node) env() lab.SubnetEnv {
	return lab.SubnetEnv{
		Network: n.Lab.Network.IPv4, Subnet: n.Lease.Subnet.Gateway4(),
		IPv6Network: n.Lab.Network.IPv6, IPv6Subnet: n.Lease.Subnet.Gateway6(),
		MTU: n.Lab.MTU,
	}
}

// Introduce tells every node of all others.
func (l *Lab) Introduce() {
	for _, n := range l.Nodes {
		n.SetPeers(n.Peers())
	}
}

// Peers are the other nodes' leases.
func (n *Node) Peers() (peers []subnet.Lease) {
	for _, other := range n.Lab.Nodes {
		if other != n {
			peers = append(peers, other.Lease)
		}
	}
	return peers
}

// Addrs are the addresses of the node's container.
func (n *Node) Addrs() []netip.Addr {
	if !n.Container.IPv6.IsValid() {
		return []netip.Addr{n.Container.IPv4}
	}
	return []netip.Addr{n.Container.IPv4, n.Container.IPv6}
}

// Reach waits until the container of one node reaches that of the other.
func (n *Node) Reach(t *testing.T, other *Node) {
	t.Helper()
	for _, to := range other.Addrs() {
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		err := traffic.WaitReachable(ctx, n.Container.Namespace, to)
		cancel()
		if err != nil {
			t.Fatal(err)
		}
	}
}

// Exchange sends ICMP, UDP and TCP between the containers of two nodes, in both
// directions, and checks what arrives.
func Exchange(t *testing.T, a, b *Node) {
	t.Helper()
	for _, p := range [][2]*Node{{a, b}, {b, a}} {
		from, to := p[0], p[1]
		from.Reach(t, to)
		for _, addr := range to.Addrs() {
			Echo(t, from, to, addr, traffic.EchoOptions{Count: 200})
			if _, err := traffic.SendChecked(t.Context(), from.Container.Namespace, to.Container.Namespace, addr, 16<<20, "", nil); err != nil {
				t.Error(err)
			}
		}
	}
}

// Echo has the container of one node send UDP to an address of the other's, which sends it
// back, and checks that all comes back.
func Echo(t *testing.T, from, to *Node, addr netip.Addr, o traffic.EchoOptions) {
	t.Helper()
	if err := labtest.Lossless(t, func() error {
		echo, err := traffic.EchoUDP(t.Context(), from.Container.Namespace, to.Container.Namespace, addr, o)
		if err != nil || echo.Corrupt > 0 {
			t.Errorf("UDP to %v: %+v, %v", addr, echo, err)
		}
		if echo.Returned < echo.Sent {
			return fmt.Errorf("UDP to %v: %+v", addr, echo)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
}

// Fits checks that packets of mtu bytes that may not be fragmented pass between
// the containers, and those of one byte more do not.
func Fits(t *testing.T, a, b *Node, to netip.Addr, mtu int) {
	t.Helper()
	headers := 20 + 8
	if to.Is6() {
		headers = 40 + 8
	}
	ping := func(size int, limit time.Duration) (traffic.PingResult, error) {
		return traffic.Ping(t.Context(), a.Container.Namespace, to,
			traffic.PingOptions{Count: 2, Size: size - headers, Timeout: limit, DontFragment: true})
	}
	if err := labtest.Lossless(t, func() error {
		r, err := ping(mtu, 20*time.Second)
		if err != nil {
			t.Errorf("%d bytes to %v: %v", mtu, to, err)
		}
		if r.Lost() > 0 {
			return fmt.Errorf("%d bytes to %v: %+v", mtu, to, r)
		}
		return nil
	}); err != nil {
		t.Error(err)
	}
	if r, err := ping(mtu+1, 300*time.Millisecond); err == nil && r.Lost() < r.Sent {
		t.Errorf("%d bytes to %v arrive: %+v", mtu+1, to, r)
	}
}

// Eventually waits for a condition, for longer than any machine should need.
func Eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

// IP runs the ip command on the host and returns the lines that it prints,
// each without the space around it.
func (n *Node) IP(t *testing.T, args ...string) []string {
	t.Helper()
	out, err := n.Output("ip", args...)
	Check(t, err)
	var lines []string
	for line := range strings.Lines(out) {
		lines = append(lines, strings.TrimSpace(line))
	}
	return lines
}

// Check ends the test on an error.
func Check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// Log holds a log and can be written and read at once.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}
