package underlay

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// lan is a namespace with the devices eth0 and eth1, whose other ends are in a
// namespace of the network.
type lan struct {
	*lab.Namespace
	t  *testing.T
	nl *netlink.Handle // for the test's own changes
}

func newLAN(t *testing.T) *lan {
	t.Helper()
	l := &lan{Namespace: labtest.Namespace(t, "host"), t: t}
	outside := labtest.Namespace(t, "net")
	for _, name := range []string{"eth0", "eth1"} {
		if err := lab.Veth(lab.End{In: l.Namespace, Device: name}, lab.End{In: outside, Device: name}, 1500); err != nil {
			t.Fatal(err)
		}
	}
	l.do(func() (err error) { l.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); return })
	t.Cleanup(l.nl.Close)
	return l
}

func (l *lan) do(fn func() error) {
	l.t.Helper()
	if err := l.Do(fn); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lan) addrs(device string, prefixes ...string) {
	l.t.Helper()
	for _, p := range prefixes {
		if err := l.AddAddr(device, netip.MustParsePrefix(p)); err != nil {
			l.t.Fatal(err)
		}
	}
}

func (l *lan) delAddr(device, prefix string) {
	l.t.Helper()
	if err := l.nl.AddrDel(l.device(device), &netlink.Addr{IPNet: ipNet(prefix)}); err != nil {
		l.t.Fatal(err)
	}
}

func (l *lan) device(name string) netlink.Link {
	l.t.Helper()
	d, err := l.nl.LinkByName(name)
	if err != nil {
		l.t.Fatal(err)
	}
	return d
}

func (l *lan) bridge(name string, addrs ...string) {
	l.t.Helper()
	if err := l.Bridge(name, 1500); err != nil {
		l.t.Fatal(err)
	}
	l.addrs(name, addrs...)
}

// route adds a route: via a next hop, or through a device.
func (l *lan) route(r netlink.Route) {
	l.t.Helper()
	if r.Gw == nil && r.Type == 0 {
		r.Scope = netlink.SCOPE_LINK
	}
	if err := l.nl.RouteAdd(&r); err != nil {
		l.t.Fatalf("add route %v: %v", r, err)
	}
}

func (l *lan) defaultVia(gateway string, metric int) {
	l.t.Helper()
	dst := "0.0.0.0/0"
	if netip.MustParseAddr(gateway).Is6() {
		dst = "::/0"
	}
	l.route(netlink.Route{Dst: ipNet(dst), Gw: net.ParseIP(gateway), Priority: metric})
}

func (l *lan) choose(o Options) (u tunnel.Underlay, candidates []Candidate, err error) {
	l.t.Helper()
	o.Network = network
	l.do(func() error { u, candidates, err = Select(o); return nil })
	return u, candidates, err
}

func ipNet(prefix string) *net.IPNet {
	p := netip.MustParsePrefix(prefix)
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// patience bounds every wait; no test that passes waits it out.
const patience = time.Minute

func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s does not happen", what)
		}
	}
}
