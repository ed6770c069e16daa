package kernel

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

func TestLastRoutes(t *testing.T) {
	pfx := netip.MustParsePrefix
	n := tunnel.Network{IPv4: pfx("10.5.0.0/16"), IPv6: pfx("fd00:5::/32")}
	own := subnet.Subnet{IPv4: pfx("10.5.34.0/24"), IPv6: pfx("fd00:5:22::/64")}
	last := func(p string, typ netstate.RouteType) netstate.Route {
		return netstate.Route{Dst: pfx(p), Type: typ, Metric: netstate.LastMetric}
	}
	network := []netstate.Route{last("10.5.0.0/16", netstate.Unreachable), last("fd00:5::/32", netstate.Unreachable)}
	for _, c := range []struct {
		name      string
		own       subnet.Subnet
		blackhole bool
		want      []netstate.Route
	}{
		{"usual", own, false, network},
		{"blackhole", own, true, append(network[:2:2], last("10.5.34.0/24", netstate.Blackhole), last("fd00:5:22::/64", netstate.Blackhole))},
		{"no lease", subnet.Subnet{}, true, network},
	} {
		if got := LastRoutes(n, c.own, c.blackhole); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s: %v", c.name, got)
		}
	}
	if got := LastRoutes(tunnel.Network{IPv4: n.IPv4}, own, false); len(got) != 1 {
		t.Errorf("IPv4 only: %v", got)
	}
}

func TestTexts(t *testing.T) {
	problems := make(map[string]netstate.Problem)
	for i := range 25 {
		problems[fmt.Sprintf("route %02d", i)] = netstate.Problem{Err: errors.New("no")}
	}
	got := Texts(problems)
	if len(got) != 21 || got[0] != "route 00: no" || got[20] != "and 5 more" {
		t.Errorf("%q", got)
	}
}

// Before Start and after Close there is nothing to set, and that is said; peers
// that are handed over too early are no crime.
func TestKeeperNotStarted(t *testing.T) {
	planned := 0
	k := NewKeeper("test", func(subnet.Lease, []subnet.Lease) (netstate.State, []tunnel.SkippedPeer) {
		planned++
		return netstate.State{}, nil
	}, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	k.SetPeers(nil)
	for _, err := range []error{k.Health(), k.SetOwn(subnet.Lease{})} {
		if err == nil || err.Error() != "the test backend is not started" {
			t.Error(err)
		}
	}
	if err := k.Start(t.Context(), subnet.Lease{}); err == nil || !strings.Contains(err.Error(), "start the test backend: the lease has no IPv4 subnet") {
		t.Error(err)
	}
	if err := k.Close(); err != nil || planned != 0 {
		t.Errorf("close: %v; %d plans", err, planned)
	}
}
