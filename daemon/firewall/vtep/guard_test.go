package vtep

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix
)

func full() Config {
	return Config{
		Port:     8472,
		Devices:  []string{"flannel.1", "flannel-v6.1"},
		Networks: []netip.Prefix{pfx("10.5.0.0/16"), pfx("fd00:5::/32")},
		Subnets:  []netip.Prefix{pfx("10.5.1.0/24"), pfx("fd00:5:1::/64")},
		Peers:    []netip.Addr{addr("192.0.2.2"), addr("2001:db8:57::2"), addr("192.0.2.3"), addr("192.0.2.2")},
	}
}

// apply makes c so and returns what nft shows, without counters.
func apply(t *testing.T, ns *lab.Namespace, g *Guard, c Config) (shown string, changed bool) {
	t.Helper()
	check(t, ns.Do(func() (err error) { changed, err = g.Apply(c); return }))
	return show(t, ns), changed
}

func show(t *testing.T, ns *lab.Namespace) string {
	t.Helper()
	out, err := ns.Output("nft", "--stateless", "list", "ruleset")
	check(t, err)
	return out
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

const fullRules = `table inet weft-vtep {
	set peers4 {
		type ipv4_addr
		elements = { 192.0.2.2, 192.0.2.3 }
	}

	set peers6 {
		type ipv6_addr
		elements = { 2001:db8:57::2 }
	}

	chain port {
		type filter hook input priority filter; policy accept;
		udp dport 8472 ip saddr != @peers4 counter drop
		udp dport 8472 ip6 saddr != @peers6 counter drop
	}

	chain source {
		type filter hook prerouting priority raw; policy accept;
		iifname "flannel.1" ip saddr 10.5.1.0/24 counter drop
		iifname "flannel.1" ip saddr != 10.5.0.0/16 counter drop
		iifname "flannel-v6.1" ip saddr 10.5.1.0/24 counter drop
		iifname "flannel-v6.1" ip saddr != 10.5.0.0/16 counter drop
		iifname "flannel.1" ip6 saddr fd00:5:1::/64 counter drop
		iifname "flannel.1" ip6 saddr != fd00:5::/32 counter drop
		iifname "flannel-v6.1" ip6 saddr fd00:5:1::/64 counter drop
		iifname "flannel-v6.1" ip6 saddr != fd00:5::/32 counter drop
	}
}
`

func TestRules(t *testing.T) {
	ns := labtest.Namespace(t, "guard")
	_, err := ns.Output("nft", "add table inet other")
	check(t, err)
	var g Guard
	shown, changed := apply(t, ns, &g, full())
	if shown != "table inet other {\n}\n"+fullRules || !changed {
		t.Errorf("changed %v:\n%s", changed, shown)
	}
	if _, changed := apply(t, ns, &g, full()); changed {
		t.Error("written twice")
	}
	four := full()
	four.Networks, four.Subnets, four.Devices = four.Networks[:1], four.Subnets[:1], four.Devices[:1]
	shown, _ = apply(t, ns, &g, four)
	for _, rule := range []string{`iifname "flannel.1" ip saddr != 10.5.0.0/16 counter drop`, `meta nfproto ipv6 iifname "flannel.1" counter drop`} {
		if strings.Count(shown, rule) != 1 {
			t.Errorf("not once %s in\n%s", rule, shown)
		}
	}
	for range 2 { // the second time there is nothing left
		check(t, ns.Do(Remove))
		if shown := show(t, ns); shown != "table inet other {\n}\n" {
			t.Errorf("left:\n%s", shown)
		}
	}
}

// A change of peers touches nothing but the sets: the rules and their counters
// stay.
func TestPeersChange(t *testing.T) {
	ns := labtest.Namespace(t, "guard")
	var g Guard
	apply(t, ns, &g, full())
	handles := func() string {
		out, err := ns.Output("sh", "-c", "nft -a list chain inet weft-vtep port | grep handle")
		check(t, err)
		return out
	}
	before := handles()
	c := full()
	c.Peers = []netip.Addr{addr("192.0.2.3"), addr("192.0.2.4")}
	shown, changed := apply(t, ns, &g, c)
	if !changed || !strings.Contains(shown, "elements = { 192.0.2.3, 192.0.2.4 }") || strings.Contains(shown, "2001:db8:57::2") {
		t.Errorf("changed %v:\n%s", changed, shown)
	}
	if after := handles(); after != before {
		t.Errorf("rules were made anew:\n%s\n%s", before, after)
	}
	many := full()
	many.Peers = nil
	for i := range 3000 {
		many.Peers = append(many.Peers,
			netip.AddrFrom4([4]byte{198, 18, byte(i >> 8), byte(i)}),
			netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 14: byte(i >> 8), 15: byte(i)}))
	}
	for _, from := range []int{0, 2000} {
		c := many
		c.Peers = many.Peers[from:]
		shown, _ := apply(t, ns, &g, c)
		if n := strings.Count(shown, "198.18."); n != len(c.Peers)/2 {
			t.Errorf("%d IPv4 peers, want %d", n, len(c.Peers)/2)
		}
	}
}

// Whatever another program does to the table is put back.
func TestReconcile(t *testing.T) {
	ns := labtest.Namespace(t, "guard")
	var g Guard
	reconcile := func() (changed bool) {
		t.Helper()
		check(t, ns.Do(func() (err error) { changed, err = g.Reconcile(); return }))
		return changed
	}
	if reconcile() {
		t.Error("changed something before there was a wish")
	}
	apply(t, ns, &g, full())
	for _, meddle := range []string{
		"delete table inet weft-vtep",
		"flush ruleset",
		"flush chain inet weft-vtep port",
		"insert rule inet weft-vtep port accept",
		"flush set inet weft-vtep peers4",
		"add element inet weft-vtep peers4 { 203.0.113.1 }",
		"add chain inet weft-vtep more",
	} {
		_, err := ns.Output("nft", meddle)
		check(t, err)
		if !reconcile() || show(t, ns) != fullRules {
			t.Errorf("after %s:\n%s", meddle, show(t, ns))
		}
		if reconcile() {
			t.Errorf("after %s: written twice", meddle)
		}
	}
	// A process that starts anew takes over what the former left.
	var next Guard
	if shown, _ := apply(t, ns, &next, full()); shown != fullRules {
		t.Errorf("taken over:\n%s", shown)
	}
}

func TestConfigErrors(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no port":         func(c *Config) { c.Port = 0 },
		"device name":     func(c *Config) { c.Devices = []string{"a-name-too-long-for-one"} },
		"masked":          func(c *Config) { c.Networks = []netip.Prefix{pfx("10.5.1.0/16")} },
		"not a masked":    func(c *Config) { c.Subnets = []netip.Prefix{{}} },
		"peer address":    func(c *Config) { c.Peers = []netip.Addr{{}} },
		"peer address ::": func(c *Config) { c.Peers = []netip.Addr{addr("::ffff:192.0.2.1")} },
	} {
		c := full()
		change(&c)
		var g Guard
		if _, err := g.Apply(c); err == nil || !strings.Contains(err.Error(), strings.Fields(name)[0]) {
			t.Errorf("%s: %v", name, err)
		}
	}
	c := full()
	clone := c.clone()
	c.Peers[0] = addr("203.0.113.9")
	if slices.Contains(clone.Peers, addr("203.0.113.9")) || len(clone.Peers) != 3 {
		t.Errorf("clone: %v", fmt.Sprint(clone.Peers))
	}
}
