package firewall

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

func TestRulesOfOneFamily(t *testing.T) {
	cfg := full()
	cfg.Network6, cfg.Subnet6, cfg.Tunnel6 = netip.Prefix{}, netip.Prefix{}, netip.Addr{}
	cfg.Direct = []string{"eth0"}
	got := cfg.rules()
	want := rule.Sets{IPv4: rule.Set{
		Postrouting: []rule.Rule{
			{Src: v4.subnet, Dst: v4.subnet, Action: rule.Return},
			{Src: v4.network, Dst: v4.network, Action: rule.KeepSource},
			{Dst: v4.subnet, Action: rule.Return},
			{Src: v4.network, Dst: netip.MustParsePrefix("224.0.0.0/4"), Action: rule.KeepSource},
			{Src: v4.network, Action: rule.Masquerade, RandomFully: true},
			{Dst: v4.network, Action: rule.SNAT, To: v4.tunnel, RandomFully: true},
		},
		Clamp: []rule.Rule{
			{Out: "flannel0", Action: rule.ClampMSS},
			{In: "flannel0", Action: rule.ClampMSS},
		},
		Raw: []rule.Rule{
			{In: "eth0", Src: v4.subnet, Action: rule.Return},
			{In: "flannel0", Src: v4.network, Dst: v4.subnet, Action: rule.Accept},
			{In: "eth0", Src: v4.network, Dst: v4.subnet, Action: rule.Accept},
		},
		Overlay: []rule.Rule{
			{Out: "flannel0", Src: v4.network, Dst: v4.network, Action: rule.Accept},
			{In: "flannel0", Src: v4.network, Dst: v4.network, Action: rule.Accept},
			{Out: "eth0", Src: v4.network, Dst: v4.network, Action: rule.Accept},
			{In: "eth0", Src: v4.network, Dst: v4.network, Action: rule.Accept},
		},
		Forward: []rule.Rule{
			{Src: v4.network, Action: rule.Accept},
			{Dst: v4.network, Action: rule.Accept},
		},
	}}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("rules are\n%+v\nwant\n%+v", got, want)
	}
}

func TestRulesSwitchedOff(t *testing.T) {
	cfg := full()
	cfg.Masquerade, cfg.Forward, cfg.ClampMSS = false, false, false
	if got := cfg.rules(); !got.IPv4.Empty() || !got.IPv6.Empty() {
		t.Errorf("with everything off: %+v", got)
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []struct {
		change func(*Config)
		want   string // in the error; empty for none
	}{
		{func(c *Config) {}, ""},
		{func(c *Config) { *c = Config{} }, ""},
		{func(c *Config) { c.Masquerade, c.Tunnel4 = false, netip.Addr{} }, ""},
		{func(c *Config) { c.Network4 = netip.MustParsePrefix("10.5.1.0/16") }, "IPv4 network 10.5.1.0/16"},
		{func(c *Config) { c.Network4 = v6.network }, "IPv4 network fd00:5::/48"},
		{func(c *Config) { c.Network6 = v4.network }, "IPv6 network 10.5.0.0/16"},
		{func(c *Config) { c.Subnet4 = netip.Prefix{} }, "IPv4 subnet"},
		{func(c *Config) { c.Subnet4 = netip.MustParsePrefix("10.6.1.0/24") }, "IPv4 subnet 10.6.1.0/24"},
		{func(c *Config) { c.Subnet4 = netip.MustParsePrefix("10.0.0.0/8") }, "IPv4 subnet 10.0.0.0/8"},
		{func(c *Config) { c.Subnet6 = v4.subnet }, "IPv6 subnet 10.5.34.0/24"},
		{func(c *Config) { c.Tunnel4 = v4.remote }, "IPv4 tunnel address 10.5.2.2"},
		{func(c *Config) { c.Tunnel6 = netip.Addr{} }, "IPv6 tunnel address"},
		{func(c *Config) { c.Devices = []string{"flannel0", ""} }, `device ""`},
		{func(c *Config) { c.Direct = []string{"a b"} }, `device "a b"`},
		{func(c *Config) { c.Devices = []string{"a -j DROP"} }, `device "a -j DROP"`},
		{func(c *Config) { c.Devices = []string{"sixteen-letters-"} }, `device "sixteen-letters-"`},
	} {
		cfg := full()
		c.change(&cfg)
		err := cfg.validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", cfg, err, c.want)
		}
	}
}
