package udp

import (
	"bytes"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix

	testNetwork = tunnel.Network{IPv4: pfx("10.5.0.0/16"), IPv6: pfx("fd00:5::/32")}
)

// setup says how the nodes of a test differ from the usual ones.
type setup struct {
	outer6  bool // underlay IPv6, else IPv4
	mtu     int  // of the underlay; 0: 1500
	routed  bool // a router between the nodes, rather than a cable
	disable []Feature
	assist  bool // with the kernel assist, which would keep packets from the path through user space
	flannel bool // leases announce nothing
	workers int  // 0: one

	sourcePorts  int  // 0: not asked for
	superpackets bool // the assist carries them, too, if there is one

	notify func() // see Config
}

// node is one engine in a namespace of its own. Its tunnel addresses serve as
// the addresses of containers.
type node struct {
	*lab.Namespace
	*Backend
	lease subnet.Lease
	log   *logBuffer
	ipv4  netip.Addr // tunnel addresses
	ipv6  netip.Addr
}

// newPair makes two nodes that know each other.
func newPair(t *testing.T, s setup) (a, b *node) {
	t.Helper()
	namespaces := newUnderlay(t, s)
	a = newNode(t, namespaces[0], 1, s)
	b = newNode(t, namespaces[1], 2, s)
	a.SetPeers([]subnet.Lease{b.lease})
	b.SetPeers([]subnet.Lease{a.lease})
	return a, b
}

// newUnderlay joins namespaces 1 and 2, and 3 for a stranger. Each has
// 192.0.2.n and 2001:db8::n on eth0, all in one network; if routed, 1 and 2
// have networks of their own and the router is the fourth namespace.
func newUnderlay(t *testing.T, s setup) []*lab.Namespace {
	t.Helper()
	mtu := s.mtu
	if mtu == 0 {
		mtu = 1500
	}
	middle := newNamespace(t, "middle")
	var all []*lab.Namespace
	var ports []string
	for n := 1; n <= 3; n++ {
		ns := newNamespace(t, fmt.Sprintf("node%d", n))
		port := fmt.Sprintf("port%d", n)
		check(t, lab.Veth(lab.End{In: ns, Device: "eth0"}, lab.End{In: middle, Device: port}, mtu))
		ports = append(ports, port)
		all = append(all, ns)
		for _, a := range []netip.Addr{outer(n, false), outer(n, true)} {
			bits := 24
			if a.Is6() {
				bits = 64
			}
			if !s.routed {
				check(t, ns.AddAddr("eth0", netip.PrefixFrom(a, bits)))
				continue
			}
			// A point-to-point network: the router is the other address.
			router := netip.MustParsePrefix(fmt.Sprintf("198.51.100.%d/32", n))
			anywhere := pfx("0.0.0.0/0")
			if a.Is6() {
				router, anywhere = pfx(fmt.Sprintf("2001:db8:ff::%d/128", n)), pfx("::/0")
			}
			check(t, ns.AddAddr("eth0", netip.PrefixFrom(a, a.BitLen())))
			check(t, middle.AddAddr(port, router))
			ip(t, ns, "route", "add", router.String(), "dev", "eth0")
			ip(t, middle, "route", "add", a.String(), "dev", port)
			ip(t, ns, "route", "add", anywhere.String(), "via", router.Addr().String(), "src", a.String())
		}
	}
	if s.routed {
		check(t, middle.Sysctl("net/ipv4/ip_forward", "1"))
		check(t, middle.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	} else {
		check(t, middle.Bridge("br0", mtu, ports...))
	}
	return append(all, middle)
}

// newNamespace makes a namespace in which IPv6 addresses are usable at once.
func newNamespace(t *testing.T, name string) *lab.Namespace {
	t.Helper()
	ns := labtest.Namespace(t, name)
	check(t, ns.Sysctl("net/ipv6/conf/default/dad_transmits", "0"))
	return ns
}

// outer is node n's address on the underlay.
func outer(n int, ipv6 bool) netip.Addr {
	if ipv6 {
		return addr(fmt.Sprintf("2001:db8:%d::%d", 0, n))
	}
	return addr(fmt.Sprintf("192.0.2.%d", n))
}

func testLease(n int, s setup) subnet.Lease {
	l := subnet.Lease{Subnet: subnet.Subnet{
		IPv4: pfx(fmt.Sprintf("10.5.%d.0/24", n)),
		IPv6: pfx(fmt.Sprintf("fd00:5:%d::/64", n)),
	}}
	l.Attrs.NodeID = fmt.Sprintf("node%d", n)
	l.Attrs.BackendType = "udp"
	switch {
	case s.flannel:
	case s.sourcePorts > 1:
		l.Attrs.BackendData = []byte(`{"weft":1,"source_ports":true}`)
	default:
		l.Attrs.BackendData = tunnel.Announcement()
	}
	if s.outer6 {
		l.Attrs.PublicIPv6 = outer(n, true)
	} else {
		l.Attrs.PublicIP = outer(n, false)
	}
	return l
}

func testConfig(n int, s setup, log *logBuffer) Config {
	u := tunnel.Underlay{Name: "eth0", MTU: s.mtu}
	if u.MTU == 0 {
		u.MTU = 1500
	}
	if s.outer6 {
		u.IPv6 = outer(n, true)
		u.PublicIPv6 = u.IPv6
	} else {
		u.IPv4 = outer(n, false)
		u.PublicIPv4 = u.IPv4
	}
	backend := []byte("{}")
	if s.sourcePorts > 0 {
		backend = fmt.Appendf(nil, `{"SourcePorts":%d}`, s.sourcePorts)
	}
	disable := s.disable
	if !s.assist {
		disable = append(slices.Clone(disable), Assist)
	}
	if !s.superpackets {
		disable = append(slices.Clone(disable), AssistGSO)
	}
	return Config{Backend: backend, Underlay: u, Network: testNetwork, Log: slog.New(slog.NewTextHandler(log, nil)), Disable: disable, Workers: max(s.workers, 1), Notify: s.notify}
}

// newNode starts an engine, which the end of the test closes.
func newNode(t *testing.T, ns *lab.Namespace, n int, s setup) *node {
	t.Helper()
	nd := &node{Namespace: ns, lease: testLease(n, s), log: new(logBuffer)}
	nd.ipv4, nd.ipv6 = nd.lease.Subnet.IPv4.Addr(), nd.lease.Subnet.IPv6.Addr()
	if s.assist {
		check(t, ns.Sysctl("net/ipv4/ip_forward", "1")) // as the daemon has it
	}
	check(t, ns.Do(func() (err error) {
		if nd.Backend, err = New(testConfig(n, s, nd.log)); err != nil {
			return err
		}
		if s.assist {
			_, nd.lease.Attrs.BackendData, _ = nd.Data()
		}
		return nd.Backend.Start(t.Context(), nd.lease)
	}))
	t.Cleanup(func() {
		check(t, nd.Close())
		if t.Failed() {
			t.Logf("node %d: %+v\n%s", n, nd.Status(), nd.log)
		}
	})
	// An IPv6 address that was added may be sent from at once, but what comes to it is
	// another host's until a worker of the kernel has got to it (addrconf_dad_work).
	waitFor(t, "the IPv6 tunnel address to be local", func() bool {
		return strings.HasPrefix(ip(t, ns, "-6", "route", "get", nd.ipv6.String()), "local ")
	})
	return nd
}

// inner is the node's tunnel address of one family.
func (n *node) inner(ipv6 bool) netip.Addr {
	if ipv6 {
		return n.ipv6
	}
	return n.ipv4
}

func (n *node) drops() map[string]uint64 { return n.Status().Drops }

// waitFor waits for a condition, for longer than any machine should need.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for !ok() {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// ip runs the ip command in a namespace.
func ip(t testing.TB, ns *lab.Namespace, args ...string) string {
	t.Helper()
	out, err := ns.Output("ip", args...)
	check(t, err)
	return out
}

// logBuffer holds a log and can be written and read at once.
type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func (l *logBuffer) count(s string) int { return strings.Count(l.String(), s) }

// Table is the peer table in force.
func (n *node) Table() *tunnel.Table { return n.table.Load() }

func leases(nodes ...*node) (list []subnet.Lease) {
	for _, n := range nodes {
		list = append(list, n.lease)
	}
	return list
}

// newContainer makes a container behind a bridge on the node: the first
// addresses of the node's subnet are the bridge's, the second the container's.
func newContainer(t *testing.T, n *node) *lab.Namespace {
	t.Helper()
	c := newNamespace(t, "container")
	check(t, lab.Veth(lab.End{In: c, Device: "eth0"}, lab.End{In: n.Namespace, Device: "veth0"}, n.MTU()))
	check(t, n.Bridge("cni0", n.MTU(), "veth0"))
	for _, p := range []netip.Prefix{n.lease.Subnet.IPv4, n.lease.Subnet.IPv6} {
		gateway := p.Addr().Next()
		check(t, n.AddAddr("cni0", netip.PrefixFrom(gateway, p.Bits())))
		check(t, c.AddAddr("eth0", netip.PrefixFrom(gateway.Next(), p.Bits())))
		anywhere := pfx("0.0.0.0/0")
		if gateway.Is6() {
			anywhere = pfx("::/0")
		}
		check(t, c.AddRoute(anywhere, gateway))
	}
	check(t, n.Sysctl("net/ipv4/ip_forward", "1"))
	check(t, n.Sysctl("net/ipv6/conf/all/forwarding", "1"))
	return c
}
