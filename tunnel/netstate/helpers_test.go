package netstate

import (
	"bytes"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// host is a namespace with a device flannel0, which is down, and a
// Reconciler.
type host struct {
	*Reconciler
	t   *testing.T
	ns  *lab.Namespace
	nl  *netlink.Handle // for the test's own meddling
	log *logBuffer
}

// newHost's backstop is what the timer of the Reconciler is set to: an hour
// shows that events alone heal.
func newHost(t *testing.T, backstop time.Duration) *host {
	t.Helper()
	h := &host{t: t, ns: labtest.Namespace(t, "host"), log: &logBuffer{}}
	h.addDevice("flannel0")
	h.do(func() (err error) { h.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); return })
	h.do(func() (err error) {
		h.Reconciler, err = newReconciler(slog.New(slog.NewTextHandler(h.log, nil)), backstop)
		return
	})
	t.Cleanup(func() {
		h.nl.Close()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Logf("log:\n%s", h.log)
		}
	})
	return h
}

func (h *host) do(fn func() error) {
	h.t.Helper()
	if err := h.ns.Do(fn); err != nil {
		h.t.Fatal(err)
	}
}

// addDevice makes a bridge: of the devices that every kernel has the simplest.
func (h *host) addDevice(name string) {
	h.t.Helper()
	h.do(func() error {
		attrs := netlink.NewLinkAttrs()
		attrs.Name, attrs.MTU = name, 1500
		return netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs})
	})
}

func (h *host) device(name string) netlink.Link {
	h.t.Helper()
	l, err := h.nl.LinkByName(name)
	if err != nil {
		h.t.Fatal(err)
	}
	return l
}

func (h *host) apply(s State) {
	h.t.Helper()
	if err := h.Apply(s); err != nil {
		h.t.Fatal(err)
	}
}

// routes lists the main table's routes of a protocol as `ip` would, without
// those to single link-local or multicast prefixes.
func (h *host) routes(protocol int) string {
	h.t.Helper()
	var lines []string
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		list, err := h.nl.RouteListFiltered(family, &netlink.Route{Protocol: netlink.RouteProtocol(protocol)}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			h.t.Fatal(err)
		}
		for _, r := range list {
			line := prefixOf(r.Dst).String()
			switch r.Type {
			case unix.RTN_UNICAST:
				l, err := h.nl.LinkByIndex(r.LinkIndex)
				if err != nil {
					h.t.Fatal(err)
				}
				if r.Gw != nil {
					line += " via " + r.Gw.String()
				}
				line += " dev " + l.Attrs().Name
			case unix.RTN_UNREACHABLE:
				line = "unreachable " + line
			default:
				line = fmt.Sprintf("type %d %s", r.Type, line)
			}
			if r.Src != nil {
				line += " src " + r.Src.String()
			}
			if r.Priority != 0 {
				line += fmt.Sprintf(" metric %d", r.Priority)
			}
			if r.MTU != 0 {
				line += fmt.Sprintf(" mtu %d", r.MTU)
			}
			if r.Flags&int(netlink.FLAG_ONLINK) != 0 {
				line += " onlink"
			}
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "\n")
}

func (h *host) addrs(device string) string {
	h.t.Helper()
	list, err := h.nl.AddrList(h.device(device), netlink.FAMILY_ALL)
	if err != nil {
		h.t.Fatal(err)
	}
	var all []string
	for _, a := range list {
		if !a.IP.IsLinkLocalUnicast() {
			all = append(all, a.IPNet.String())
		}
	}
	return strings.Join(all, " ")
}

// addRoute adds another program's route.
func (h *host) addRoute(dst, dev string, metric int) {
	h.t.Helper()
	err := h.nl.RouteAdd(&netlink.Route{
		Dst: ipNet(netip.MustParsePrefix(dst)), LinkIndex: h.device(dev).Attrs().Index, Priority: metric,
		Scope: netlink.SCOPE_LINK, Protocol: unix.RTPROT_STATIC,
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) delRoute(dst string, metric int) error {
	return h.nl.RouteDel(&netlink.Route{Dst: ipNet(netip.MustParsePrefix(dst)), Priority: metric, Scope: netlink.SCOPE_NOWHERE})
}

// way tells where the kernel sends packets for an address: a device's name or
// the error.
func (h *host) way(to string) string {
	h.t.Helper()
	routes, err := h.nl.RouteGet(net.ParseIP(to))
	if err != nil {
		return err.Error()
	}
	l, err := h.nl.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		h.t.Fatal(err)
	}
	return l.Attrs().Name
}

// want waits for got to return want.
func (h *host) want(what string, got func() string, want string) {
	h.t.Helper()
	eventually(h.t, func() error {
		if g := got(); g != want {
			return fmt.Errorf("%s: got\n%s\nwant\n%s", what, g, want)
		}
		return nil
	})
}

// eventually waits for a check to succeed. Healing takes milliseconds, and of ten
// thousand routes a second; the rest is for machines that have more to do.
func eventually(t *testing.T, check func() error) {
	t.Helper()
	deadline := time.Now().Add(time.Minute)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

type logBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *logBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *logBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}

func (b *logBuffer) count(s string) int { return strings.Count(b.String(), s) }
