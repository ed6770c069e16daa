package udp

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

func TestNewSettings(t *testing.T) {
	for _, c := range []struct {
		name    string
		backend string
		change  func(*Config)
		port    uint16
		mtu     int
		err     string // part of it
	}{
		{"defaults", "", nil, 8285, 1472, ""},
		{"null", "null", nil, 8285, 1472, ""},
		{"other fields", `{"Type":"udp","Fallback":"vxlan"}`, nil, 8285, 1472, ""},
		{"port", `{"Port":9999}`, nil, 9999, 1472, ""},
		{"MTU", `{"MTU":1400}`, nil, 8285, 1400, ""},
		{"MTU 0", `{"MTU":0}`, nil, 8285, 1472, ""},
		{"MTU beyond the underlay's", `{"MTU":9000}`, nil, 8285, 1472, ""},
		{"IPv6 underlay", "", func(c *Config) {
			c.Underlay.IPv4, c.Underlay.PublicIPv4 = netip.Addr{}, netip.Addr{}
			c.Underlay.IPv6, c.Underlay.PublicIPv6 = addr("2001:db8::1"), addr("2001:db8::1")
		}, 8285, 1452, ""},
		{"jumbo", "", func(c *Config) { c.Underlay.MTU = 65536 }, 8285, 65508, ""},
		{"port 0", `{"Port":0}`, nil, 0, 0, "Backend.Port is 0: a UDP port is from 1 to 65535"},
		{"port too high", `{"Port":65536}`, nil, 0, 0, "Backend.Port is 65536"},
		{"port of another type", `{"Port":"8285"}`, nil, 0, 0, "read Backend of the network config"},
		{"no JSON", `{`, nil, 0, 0, "read Backend of the network config"},
		{"MTU too low", `{"MTU":1279}`, nil, 0, 0, "Backend.MTU is 1279: it may be from 1280 to 65535"},
		{"MTU too low for IPv4", `{"MTU":575}`, func(c *Config) { c.Network.IPv6 = tunnel.Network{}.IPv6 }, 0, 0, "Backend.MTU is 575: it may be from 576"},
		{"source ports", `{"SourcePorts":16}`, nil, 8285, 1472, ""},
		{"one source port", `{"SourcePorts":1}`, nil, 8285, 1472, ""},
		{"the last source ports", `{"Port":65532,"SourcePorts":4}`, nil, 65532, 1472, ""},
		{"no source port", `{"SourcePorts":0}`, nil, 0, 0, "Backend.SourcePorts is 0: it may be from 1, which is the default, to 16"},
		{"too many source ports", `{"SourcePorts":17}`, nil, 0, 0, "Backend.SourcePorts is 17"},
		{"source ports beyond the last", `{"Port":65533,"SourcePorts":4}`, nil, 0, 0, "beginning with Backend.Port, 65533, there are only 3 ports"},
		{"source ports of another type", `{"SourcePorts":true}`, nil, 0, 0, "read Backend of the network config"},
		{"underlay too small", "", func(c *Config) { c.Underlay.MTU = 1300 }, 0, 0, "the MTU of eth0 is 1300, which leaves 1272 bytes"},
		{"no address", "", func(c *Config) { c.Underlay.IPv4 = netip.Addr{} }, 0, 0, "underlay eth0 has no address"},
		{"underlay inside the network", "", func(c *Config) { c.Underlay.IPv4 = addr("10.5.200.1") }, 0, 0, "10.5.200.1 of eth0 lies inside the network"},
		{"unknown feature", "", func(c *Config) { c.Disable = []Feature{"gro"} }, 0, 0, `unknown feature "gro": there are vnet_hdr, tso`},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log logBuffer
			cfg := testConfig(1, setup{}, &log)
			cfg.Backend = json.RawMessage(c.backend)
			if c.change != nil {
				c.change(&cfg)
			}
			b, err := New(cfg)
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Errorf("error %v, want %q", err, c.err)
				}
				return
			}
			check(t, err)
			if b.port != c.port || b.MTU() != c.mtu {
				t.Errorf("port %d, MTU %d; want %d, %d", b.port, b.MTU(), c.port, c.mtu)
			}
			if warned := log.count("does not fit"); (warned > 0) != (c.name == "MTU beyond the underlay's") {
				t.Errorf("log:\n%s", &log)
			}
		})
	}
}

func TestData(t *testing.T) {
	b, err := New(testConfig(1, setup{}, new(logBuffer)))
	check(t, err)
	if typ, v4, v6 := b.Data(); typ != "udp" || string(v4) != `{"weft":1}` || v6 != nil {
		t.Errorf("announces %s %s %s", typ, v4, v6)
	}
	if b.Health() == nil {
		t.Error("healthy before the start")
	}
	if b.SetOwn(testLease(1, setup{})) == nil {
		t.Error("a lease can be set before the start")
	}
	check(t, b.Close())
}

// A lease that cannot be served is logged once, many of them in few lines.
func TestSkippedIsLogged(t *testing.T) {
	var log logBuffer
	b, err := New(testConfig(1, setup{}, &log))
	check(t, err)
	var list []subnet.Lease
	for n := 2; n < 52; n++ {
		l := testLease(n, setup{})
		l.Attrs.BackendType = "vxlan"
		list = append(list, l)
	}
	for range 3 {
		b.SetPeers(list)
	}
	if n := log.count("a lease cannot be served"); n != 10 || log.count("leases=40") != 1 {
		t.Errorf("%d lines:\n%s", n, &log)
	}
	if n := len(b.Status().Skipped); n != 50 {
		t.Errorf("the status names %d", n)
	}
}

// FuzzSettings reads the Backend object, which anyone who can write etcd chose.
func FuzzSettings(f *testing.F) {
	f.Add(`{"Type":"udp","Port":8285,"MTU":1400}`, true)
	f.Fuzz(func(t *testing.T, raw string, dualStack bool) {
		s, err := parseSettings(json.RawMessage(raw), dualStack)
		if err == nil && (s.Port < 1 || s.Port+s.SourcePorts-1 > 65535 || s.SourcePorts < 1 || s.SourcePorts > 16 ||
			s.MTU != 0 && (s.MTU < minMTU || s.MTU > 65535)) {
			t.Errorf("%+v", s)
		}
	})
}
