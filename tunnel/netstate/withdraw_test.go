package netstate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// What is withdrawn goes and is not put back; all else stays, also what another
// program has with the same destination and metric.
func TestWithdraw(t *testing.T) {
	h := newHost(t, 20*time.Millisecond)
	s := udpState()
	h.apply(s)
	want := strings.Split(h.routes(RouteProtocol), "\n")
	var gone []Route
	for _, dst := range []string{"10.5.7.0/24", "fd00:5:7::/64"} {
		gone = append(gone, Route{Dst: netip.MustParsePrefix(dst), Link: "flannel0", Metric: 100})
	}
	stays := Route{Dst: gone[0].Dst, Link: "flannel0", Metric: 200}
	s.Routes = append(s.Routes, append(gone, stays)...)
	h.apply(s)
	if n := strings.Count(h.routes(RouteProtocol), "\n") + 1; n != len(want)+3 {
		t.Fatalf("routes before:\n%s", h.routes(RouteProtocol))
	}
	h.do(func() error {
		return h.nl.RouteAppend(&netlink.Route{
			Dst: ipNet(gone[0].Dst), Priority: 100, Protocol: unix.RTPROT_STATIC, LinkIndex: h.device("flannel0").Attrs().Index, Scope: netlink.SCOPE_LINK,
		})
	})
	check := func() {
		t.Helper()
		have := h.routes(RouteProtocol)
		for _, line := range append(want, "10.5.7.0/24 dev flannel0 metric 200") {
			if !strings.Contains(have, line) {
				t.Errorf("%q is gone", line)
			}
		}
		if strings.Contains(have, "metric 100") {
			t.Errorf("routes:\n%s", have)
		}
		if others := h.routes(unix.RTPROT_STATIC); others != "10.5.7.0/24 dev flannel0 metric 100" {
			t.Errorf("another program's routes: %s", others)
		}
	}
	for range 2 { // the second time there is nothing to do
		if err := h.Withdraw(gone...); err != nil {
			t.Fatal(err)
		}
		check()
	}
	enough := h.passes.Load() + 2
	eventually(t, func() error {
		if n := h.passes.Load(); n < enough {
			return fmt.Errorf("%d comparisons, want %d", n, enough)
		}
		return nil
	})
	check()
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.Withdraw(gone...); err == nil {
		t.Error("withdrawn by a reconciler that is closed")
	}
}
