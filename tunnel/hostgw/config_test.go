package hostgw

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/weftnet/weft/tunnel"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix
)

func TestConfig(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*Config)
		sides  int
		want   string // part of the error
	}{
		{"dual stack", func(*Config) {}, 2, ""},
		{"IPv4", func(c *Config) { c.Network.IPv6 = netip.Prefix{} }, 1, ""},
		{"no IPv6 on the underlay", func(c *Config) { c.Underlay.IPv6 = netip.Addr{} }, 1, ""},
		{"no address", func(c *Config) { c.Underlay.IPv4, c.Underlay.IPv6 = netip.Addr{}, netip.Addr{} }, 0, "eth0 has no address to carry 10.5.0.0/16"},
		{"translated", func(c *Config) { c.Underlay.PublicIPv4 = addr("203.0.113.1") }, 0, "cannot pass address translation; use udp or vxlan"},
		{"inside", func(c *Config) { c.Underlay.IPv4, c.Underlay.PublicIPv4 = addr("10.5.1.1"), addr("10.5.1.1") }, 0, "lies inside the network"},
		{"no network", func(c *Config) { c.Network.IPv4 = netip.Prefix{} }, 0, "no IPv4 prefix"},
	} {
		cfg := Config{
			Underlay: tunnel.Underlay{
				Name: "eth0", MTU: 1500, IPv4: addr("192.0.2.1"), PublicIPv4: addr("192.0.2.1"),
				IPv6: addr("2001:db8::1"), PublicIPv6: addr("2001:db8::1"),
			},
			Network: tunnel.Network{IPv4: pfx("10.5.0.0/16"), IPv6: pfx("fd00:5::/32")},
			Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
		}
		c.change(&cfg)
		b, err := New(cfg)
		switch {
		case c.want == "" && (err != nil || len(b.sides) != c.sides):
			t.Errorf("%s: %+v, %v", c.name, b, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
}
