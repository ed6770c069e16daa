package firewall

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// A node is a host with one container, a neighbour on the underlay and the
// overlay's other side:
//
//	container 10.5.34.2 ── docker0 10.5.34.1 ┐      ┌ eth0 192.0.2.1 ── 192.0.2.9 outside
//	                                         ├ host ┤
//	                                         │      └ flannel0 10.5.34.0 ── 10.5.2.2 remote
//
// flannel0 is one end of a veth pair with a smaller MTU; remote stands for
// every other node and container.
type node struct {
	host, container, outside, remote *lab.Namespace
}

const (
	bridgeMTU  = 1500
	overlayMTU = 1400
)

// addrs are the addresses of one family in a node.
type addrs struct {
	network, subnet                            netip.Prefix
	tunnel, bridge, container                  netip.Addr
	hostOutside, outside, remote, remoteTunnel netip.Addr
	bits                                       int // of one address
}

var (
	v4 = addrs{
		network: netip.MustParsePrefix("10.5.0.0/16"), subnet: netip.MustParsePrefix("10.5.34.0/24"),
		tunnel: netip.MustParseAddr("10.5.34.0"), bridge: netip.MustParseAddr("10.5.34.1"), container: netip.MustParseAddr("10.5.34.2"),
		hostOutside: netip.MustParseAddr("192.0.2.1"), outside: netip.MustParseAddr("192.0.2.9"),
		remote: netip.MustParseAddr("10.5.2.2"), remoteTunnel: netip.MustParseAddr("10.5.2.0"), bits: 32,
	}
	v6 = addrs{
		network: netip.MustParsePrefix("fd00:5::/48"), subnet: netip.MustParsePrefix("fd00:5:0:22::/64"),
		tunnel: netip.MustParseAddr("fd00:5:0:22::"), bridge: netip.MustParseAddr("fd00:5:0:22::1"), container: netip.MustParseAddr("fd00:5:0:22::2"),
		hostOutside: netip.MustParseAddr("2001:db8::1"), outside: netip.MustParseAddr("2001:db8::9"),
		remote: netip.MustParseAddr("fd00:5:0:2::2"), remoteTunnel: netip.MustParseAddr("fd00:5:0:2::"), bits: 128,
	}
)

// full is the configuration of the node under test with everything on.
func full() Config {
	return Config{
		Network4: v4.network, Network6: v6.network,
		Subnet4: v4.subnet, Subnet6: v6.subnet,
		Tunnel4: v4.tunnel, Tunnel6: v6.tunnel,
		Devices:    []string{"flannel0"},
		Masquerade: true, RandomFully: true, Forward: true, ClampMSS: true,
	}
}

func newNode(t *testing.T) *node {
	t.Helper()
	n := &node{
		host: labtest.Namespace(t, "host"), container: labtest.Namespace(t, "ct"),
		outside: labtest.Namespace(t, "out"), remote: labtest.Namespace(t, "rem"),
	}
	for _, ns := range []*lab.Namespace{n.host, n.container, n.outside, n.remote} {
		must(t, ns.Sysctl("net/ipv6/conf/default/accept_dad", "0")) // usable at once
		for _, which := range []string{"all", "default"} {          // inherited from the machine's
			must(t, ns.Sysctl("net/ipv4/conf/"+which+"/rp_filter", "0"))
		}
	}
	must(t, lab.Veth(lab.End{In: n.container, Device: "eth0"}, lab.End{In: n.host, Device: "veth0"}, bridgeMTU))
	must(t, lab.Veth(lab.End{In: n.host, Device: "eth0"}, lab.End{In: n.outside, Device: "eth0"}, bridgeMTU))
	// The remote end keeps the larger MTU, so that its own route does not
	// already limit what it announces.
	must(t, lab.Veth(lab.End{In: n.host, Device: "flannel0"}, lab.End{In: n.remote, Device: "eth0"}, bridgeMTU))
	must(t, n.host.Do(func() error {
		link, err := netlink.LinkByName("flannel0")
		if err != nil {
			return err
		}
		return netlink.LinkSetMTU(link, overlayMTU)
	}))
	must(t, n.host.Bridge("docker0", bridgeMTU, "veth0"))
	for _, a := range []addrs{v4, v6} {
		one := func(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr, a.bits) }
		must(t, n.host.AddAddr("docker0", netip.PrefixFrom(a.bridge, a.subnet.Bits())))
		must(t, n.host.AddAddr("eth0", netip.PrefixFrom(a.hostOutside, a.bits/4*3)))
		must(t, n.host.AddAddr("flannel0", one(a.tunnel)))
		must(t, n.container.AddAddr("eth0", netip.PrefixFrom(a.container, a.subnet.Bits())))
		must(t, n.outside.AddAddr("eth0", netip.PrefixFrom(a.outside, a.bits/4*3)))
		must(t, n.remote.AddAddr("eth0", one(a.remote)))
		must(t, n.remote.AddAddr("eth0", one(a.remoteTunnel)))

		must(t, n.host.Do(func() error { return onlink(a.network, a.remoteTunnel, "flannel0") }))
		must(t, n.remote.Do(func() error { return onlink(netip.PrefixFrom(zero(a), 0), a.tunnel, "eth0") }))
		must(t, n.container.AddRoute(netip.PrefixFrom(zero(a), 0), a.bridge))
		must(t, n.outside.AddRoute(a.network, a.hostOutside))
	}
	must(t, n.host.Do(func() error { return EnableForwarding(true, true, quietLog()) }))
	return n
}

func zero(a addrs) netip.Addr {
	if a.bits == 32 {
		return netip.IPv4Unspecified()
	}
	return netip.IPv6Unspecified()
}

func onlink(dst netip.Prefix, via netip.Addr, device string) error {
	link, err := netlink.LinkByName(device)
	if err != nil {
		return err
	}
	_, d, err := net.ParseCIDR(dst.String())
	if err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Dst: d, Gw: via.AsSlice(), LinkIndex: link.Attrs().Index, Flags: int(netlink.FLAG_ONLINK)})
}

// sh runs a command line in the host.
func (n *node) sh(t *testing.T, line string) string {
	t.Helper()
	out, err := n.host.Output("sh", "-c", line)
	must(t, err)
	return out
}

// start applies cfg in the host and returns the firewall.
func (n *node) start(t *testing.T, mode Mode, cfg Config) *Firewall {
	t.Helper()
	var fw *Firewall
	must(t, n.host.Do(func() (err error) {
		fw, err = New(mode, quietLog())
		return err
	}))
	n.apply(t, fw, cfg)
	return fw
}

func (n *node) apply(t *testing.T, fw *Firewall, cfg Config) {
	t.Helper()
	must(t, n.host.Do(func() error { return fw.Apply(cfg) }))
	if s := fw.Status(); s.Problem != "" {
		t.Fatalf("status after Apply: %+v", s)
	}
}

// sourceSeen sends a datagram between namespaces and returns the source
// address that the receiver saw. From is the sender's address, zero for any.
func sourceSeen(sender *lab.Namespace, from netip.Addr, receiver *lab.Namespace, to netip.Addr) (netip.Addr, error) {
	return sourceSeenWithin(sender, from, receiver, to, long)
}

var errNotReceived = errors.New("not received")

func sourceSeenWithin(sender *lab.Namespace, from netip.Addr, receiver *lab.Namespace, to netip.Addr, wait time.Duration) (netip.Addr, error) {
	var server *net.UDPConn
	err := receiver.Do(func() (err error) {
		server, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(to, 0)))
		return err
	})
	if err != nil {
		return netip.Addr{}, err
	}
	defer server.Close()
	if err := send(sender, from, server.LocalAddr().(*net.UDPAddr).AddrPort()); err != nil {
		return netip.Addr{}, err
	}
	server.SetReadDeadline(time.Now().Add(wait))
	buf := make([]byte, 16)
	_, seen, err := server.ReadFromUDPAddrPort(buf)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("%w: %w", errNotReceived, err)
	}
	return seen.Addr().Unmap(), nil
}

func send(sender *lab.Namespace, from netip.Addr, to netip.AddrPort) error {
	return sender.Do(func() error {
		var local *net.UDPAddr
		if from.IsValid() {
			local = net.UDPAddrFromAddrPort(netip.AddrPortFrom(from, 0))
		}
		c, err := net.DialUDP("udp", local, net.UDPAddrFromAddrPort(to))
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("weft"))
		return err
	})
}

// wantSource fails the test unless a datagram arrives with the source given.
func wantSource(t *testing.T, what string, sender *lab.Namespace, from netip.Addr, receiver *lab.Namespace, to, want netip.Addr) {
	t.Helper()
	if got, err := sourceSeen(sender, from, receiver, to); err != nil || got != want {
		t.Errorf("%s: source seen is %v (%v), want %v", what, got, err, want)
	}
}

// wantDropped fails the test if a datagram arrives.
func wantDropped(t *testing.T, what string, sender *lab.Namespace, receiver *lab.Namespace, to netip.Addr) {
	t.Helper()
	got, err := sourceSeenWithin(sender, netip.Addr{}, receiver, to, 200*time.Millisecond)
	if !errors.Is(err, errNotReceived) {
		t.Errorf("%s: received from %v (%v), want it dropped", what, got, err)
	}
}

// long bounds every wait; no test that passes waits it out.
const long = time.Minute

// eventually waits for a condition.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(long); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s: did not happen", what)
}

// modes runs a test in each mode, each in its own lab.
func modes(t *testing.T, test func(t *testing.T, mode Mode)) {
	for _, mode := range []Mode{ModeIPTablesNFT, ModeIPTablesLegacy, ModeNFTables} {
		t.Run(string(mode), func(t *testing.T) {
			labtest.RequireRoot(t)
			if mode == ModeIPTablesLegacy {
				requireLegacy(t)
			}
			test(t, mode)
		})
	}
}

// requireLegacy skips where the kernel was built without x_tables' own tables
// (CONFIG_NETFILTER_XTABLES_LEGACY, an option since Linux 6.17), which no test
// can make up for.
func requireLegacy(t *testing.T) {
	t.Helper()
	labtest.Program(t, "iptables", "iptables-legacy")
	ns := labtest.Namespace(t, "legacy")
	out, err := ns.Output("iptables-legacy", "-t", "filter", "-S")
	if err != nil && strings.Contains(out, "do you need to insmod") {
		t.Skipf("the kernel has no legacy iptables tables: %v", err)
	}
	must(t, err)
}

// command names the iptables command of one family whose rules a mode's test
// deals with; in nftables mode the rules of others (Docker's) are iptables-nft's.
func (m Mode) command(a addrs) string {
	name := strings.TrimPrefix(string(m), "ip")
	if m == ModeNFTables {
		name = "tables-nft"
	}
	if a.bits == 32 {
		return "ip" + name
	}
	return "ip6" + name
}

func quietLog() *slog.Logger {
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError}))
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
