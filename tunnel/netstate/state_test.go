package netstate

import (
	"net/netip"
	"strings"
	"testing"
)

func TestValidate(t *testing.T) {
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	route := Route{Dst: pfx("10.5.0.0/16"), Link: "flannel0"}
	with := func(change func(*Route)) State {
		r := route
		change(&r)
		return State{Routes: []Route{r}}
	}
	for _, c := range []struct {
		name  string
		state State
		want  string // part of the error; empty for none
	}{
		{"nothing", State{}, ""},
		{"all", State{
			Links:   []Link{{Name: "flannel0", MTU: 1472, Up: true}},
			Addrs:   []Addr{{"flannel0", pfx("10.5.34.0/32")}, {"flannel0", pfx("fd00:5:22::/128")}},
			Routes:  []Route{route, {Dst: pfx("10.5.0.0/16"), Metric: LastMetric, Type: Unreachable}},
			Sysctls: []Sysctl{{"net/ipv4/conf/flannel0/rp_filter", "2"}},
		}, ""},
		{"link without name", State{Links: []Link{{MTU: 1}}}, "without a name"},
		{"link twice", State{Links: []Link{{Name: "a"}, {Name: "a"}}}, "link a is given twice"},
		{"negative MTU", State{Links: []Link{{Name: "a", MTU: -1}}}, "negative"},
		{"address without link", State{Addrs: []Addr{{"", pfx("10.5.34.0/32")}}}, "needs a link"},
		{"zero address", State{Addrs: []Addr{{Link: "a"}}}, "valid prefix"},
		{"mapped address", State{Addrs: []Addr{{"a", pfx("::ffff:10.5.34.0/128")}}}, "valid prefix"},
		{"unmasked", with(func(r *Route) { r.Dst = pfx("10.5.1.0/16") }), "not a masked prefix"},
		{"no destination", with(func(r *Route) { r.Dst = netip.Prefix{} }), "not a masked prefix"},
		{"metric", with(func(r *Route) { r.Metric = -1 }), "metric"},
		{"unknown type", with(func(r *Route) { r.Type = 3 }), "unknown type"},
		{"no link", with(func(r *Route) { r.Link = "" }), "no link"},
		{"unreachable with link", with(func(r *Route) { r.Type = Unreachable }), "a destination and a metric only"},
		{"onlink without via", with(func(r *Route) { r.OnLink = true }), "without a next hop"},
		{"mixed families", with(func(r *Route) { r.Via = addr("fd00::1") }), "address family"},
		{"mixed source", with(func(r *Route) { r.Src = addr("fd00::1") }), "address family"},
		{"route twice", State{Routes: []Route{route, {Dst: route.Dst, Type: Unreachable}}}, "same destination and metric"},
		{"IPv6 metric 0 is 1024", State{Routes: []Route{
			{Dst: pfx("fd00:5::/32"), Type: Unreachable}, {Dst: pfx("fd00:5::/32"), Type: Blackhole, Metric: 1024},
		}}, "same destination and metric"},
		{"absolute sysctl", State{Sysctls: []Sysctl{{"/proc/sys/net/ipv4/ip_forward", "1"}}}, "not a path"},
		{"sysctl out of the tree", State{Sysctls: []Sysctl{{"../../etc/passwd", "1"}}}, "not a path"},
	} {
		err := c.state.validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want one with %q", c.name, err, c.want)
		}
	}
}

func TestObjectNames(t *testing.T) {
	pfx := netip.MustParsePrefix
	for _, c := range []struct{ got, want string }{
		{Link{Name: "flannel0"}.String(), "link flannel0"},
		{Addr{"flannel0", pfx("10.5.34.0/32")}.String(), "address 10.5.34.0/32 dev flannel0"},
		{Sysctl{Key: "net/ipv4/ip_forward"}.String(), "sysctl net/ipv4/ip_forward"},
		{Route{Dst: pfx("10.5.7.0/24"), Via: netip.MustParseAddr("10.5.7.0"), Link: "flannel.1", OnLink: true, Metric: 200}.String(),
			"route 10.5.7.0/24 via 10.5.7.0 dev flannel.1 metric 200"},
		{Route{Dst: pfx("10.5.0.0/16"), Type: Unreachable, Metric: LastMetric}.String(), "route unreachable 10.5.0.0/16 metric 2147483647"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}
