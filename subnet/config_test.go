package subnet

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestParseConfig(t *testing.T) {
	type result struct {
		network  string
		length   int
		min, max string
	}
	tests := []struct {
		name   string
		json   string
		v4, v6 result
	}{
		{"defaults", `{"Network":"10.3.0.0/16"}`, result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{}},
		{"names in any case", `{"network":"10.3.0.0/16","SUBNETLEN":28}`, result{"10.3.0.0/16", 28, "10.3.0.16", "10.3.255.240"}, result{}},
		{"host bits are masked", `{"Network":"10.3.7.9/16"}`, result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{}},
		{"bounds", `{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.8.0","SubnetLen":28}`,
			result{"10.3.0.0/16", 28, "10.3.5.0", "10.3.8.0"}, result{}},
		{"documented example", `{"Network":"10.0.0.0/8","SubnetLen":20,"SubnetMin":"10.10.0.0","SubnetMax":"10.99.0.0","Backend":{"Type":"udp","Port":7890}}`,
			result{"10.0.0.0/8", 20, "10.10.0.0", "10.99.0.0"}, result{}},
		{"first subnet on request", `{"Network":"10.3.0.0/16","SubnetMin":"10.3.0.0"}`, result{"10.3.0.0/16", 24, "10.3.0.0", "10.3.255.0"}, result{}},
		{"zero bounds are none", `{"Network":"10.3.0.0/16","SubnetMin":"0.0.0.0","SubnetMax":"0.0.0.0"}`, result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{}},
		{"null is none", `{"Network":"10.3.0.0/16","SubnetLen":null,"SubnetMin":null,"EnableIPv4":null,"Backend":null}`, result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{}},
		{"one subnet", `{"Network":"10.3.0.0/16","SubnetMin":"10.3.5.0","SubnetMax":"10.3.5.0"}`, result{"10.3.0.0/16", 24, "10.3.5.0", "10.3.5.0"}, result{}},
		{"/22 still has /24", `{"Network":"10.3.0.0/22"}`, result{"10.3.0.0/22", 24, "10.3.1.0", "10.3.3.0"}, result{}},
		{"/23 is split in four", `{"Network":"10.3.0.0/23"}`, result{"10.3.0.0/23", 25, "10.3.0.128", "10.3.1.128"}, result{}},
		{"smallest", `{"Network":"10.3.0.0/28"}`, result{"10.3.0.0/28", 30, "10.3.0.4", "10.3.0.12"}, result{}},
		{"end of the address space", `{"Network":"255.255.0.0/16"}`, result{"255.255.0.0/16", 24, "255.255.1.0", "255.255.255.0"}, result{}},
		{"IPv6 is ignored when off", `{"Network":"10.3.0.0/16","IPv6Network":"fc00::/48"}`, result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{}},
		{"dual stack", `{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48"}`,
			result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{"fc00::/48", 64, "fc00:0:0:1::", "fc00:0:0:ffff::"}},
		{"dual stack bounds", `{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc00:0:0:1::","IPv6SubnetMax":"fc00:0:0:f::","IPv6SubnetLen":124}`,
			result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{"fc00::/48", 124, "fc00:0:0:1::", "fc00:0:0:f::"}},
		{"IPv6 /63 is split in four", `{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/63"}`,
			result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{"fc00::/63", 65, "fc00::8000:0:0:0", "fc00:0:0:1:8000::"}},
		{"smallest IPv6", `{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/124"}`,
			result{"10.3.0.0/16", 24, "10.3.1.0", "10.3.255.0"}, result{"fc00::/124", 126, "fc00::4", "fc00::c"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := ParseConfig([]byte(tt.json))
			if err != nil {
				t.Fatal(err)
			}
			if got := (result{c.Network.String(), c.IPv4.SubnetLen, c.IPv4.Min.String(), c.IPv4.Max.String()}); got != tt.v4 {
				t.Errorf("IPv4: got %v, want %v", got, tt.v4)
			}
			var got result
			if c.DualStack() {
				got = result{c.IPv6Network.String(), c.IPv6.SubnetLen, c.IPv6.Min.String(), c.IPv6.Max.String()}
			}
			if got != tt.v6 {
				t.Errorf("IPv6: got %v, want %v", got, tt.v6)
			}
		})
	}
}

func TestParseConfigBackend(t *testing.T) {
	tests := []struct {
		json, wantType, wantRaw string
		nft                     bool
	}{
		{`{"Network":"10.3.0.0/16"}`, "udp", "", false},
		{`{"Network":"10.3.0.0/16","Backend":null}`, "udp", "", false},
		{`{"Network":"10.3.0.0/16","Backend":{"Type":"VXLAN","VNI":7},"EnableNFTables":true}`, "vxlan", `{"Type":"VXLAN","VNI":7}`, true},
	}
	for _, tt := range tests {
		c, err := ParseConfig([]byte(tt.json))
		if err != nil {
			t.Fatal(err)
		}
		if c.BackendType != tt.wantType || string(c.Backend) != tt.wantRaw || c.EnableNFTables != tt.nft {
			t.Errorf("%s: type %q, raw %s, nftables %t", tt.json, c.BackendType, c.Backend, c.EnableNFTables)
		}
	}
}

// TestParseConfigErrors checks that an error names the field, its value, and
// what is allowed.
func TestParseConfigErrors(t *testing.T) {
	tests := []struct {
		json string
		want []string
	}{
		{``, []string{"JSON object", "10.5.0.0/16"}},
		{`[]`, []string{"JSON object"}},
		{`{`, []string{"JSON object"}},
		{`{}`, []string{"Network is missing", "10.5.0.0/16"}},
		{`{"Network":""}`, []string{"Network is missing"}},
		{`{"Network":"10.5.0.0"}`, []string{"Network", `"10.5.0.0"`, "IPv4 prefix"}},
		{`{"Network":"fd00::/48"}`, []string{"Network", `"fd00::/48"`, "IPv4 prefix"}},
		{`{"Network":7}`, []string{"Network", "7", "string"}},
		{`{"Network":"10.5.0.0/29"}`, []string{"Network", `"10.5.0.0/29"`, "1 to 28"}},
		{`{"Network":"0.0.0.0/0"}`, []string{"Network", `"0.0.0.0/0"`, "1 to 28"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":31}`, []string{"SubnetLen 31", "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":17}`, []string{"SubnetLen 17", "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":-1}`, []string{"SubnetLen -1", "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":"24"}`, []string{`SubnetLen "24"`, "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetLen":24.5}`, []string{`SubnetLen 24.5`, "18 to 30"}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.6.1.0"}`, []string{`SubnetMin "10.6.1.0"`, "10.5.0.0/16"}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.1.7"}`, []string{`SubnetMin "10.5.1.7"`, `"10.5.1.0"`}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"nonsense"}`, []string{`SubnetMin "nonsense"`, `"10.5.1.0"`}},
		{`{"Network":"10.5.0.0/16","SubnetMax":"10.4.255.0"}`, []string{`SubnetMax "10.4.255.0"`, "10.5.0.0/16"}},
		{`{"Network":"10.5.0.0/16","SubnetMax":"10.5.2.1"}`, []string{`SubnetMax "10.5.2.1"`, `"10.5.2.0"`}},
		{`{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.3.0"}`, []string{"SubnetMin 10.5.9.0", "SubnetMax 10.5.3.0"}},
		{`{"Network":"10.5.0.0/16","EnableIPv4":"yes"}`, []string{`EnableIPv4 "yes"`, "true or false"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":1}`, []string{`EnableIPv6 1`, "true or false"}},
		{`{"Network":"10.5.0.0/16","EnableNFTables":1}`, []string{`EnableNFTables 1`, "true or false"}},
		{`{"EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48"}`, []string{"EnableIPv4 false", "dual stack", "flannel"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true}`, []string{"IPv6Network is missing"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"10.6.0.0/16"}`, []string{"IPv6Network", "IPv6 prefix"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"::ffff:10.6.0.0/104"}`, []string{"IPv6Network", "IPv6 prefix"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/125"}`, []string{"IPv6Network", "1 to 124"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetLen":127}`, []string{"IPv6SubnetLen 127", "50 to 126"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMin":"fc01::"}`, []string{"IPv6SubnetMin", "fc00::/48"}},
		{`{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","IPv6SubnetMax":"fc00::1"}`, []string{"IPv6SubnetMax", `"fc00::"`}},
		{`{"Network":"10.5.0.0/16","Backend":"udp"}`, []string{`Backend "udp"`, "object"}},
		{`{"Network":"10.5.0.0/16","Backend":{"Port":1}}`, []string{"Backend.Type is missing", `"udp"`}},
		{`{"Network":"10.5.0.0/16","Backend":{"Type":1}}`, []string{"Backend.Type 1", "string"}},
	}
	for _, tt := range tests {
		c, err := ParseConfig([]byte(tt.json))
		if err == nil {
			t.Errorf("%s: accepted as %+v", tt.json, c)
			continue
		}
		for _, w := range tt.want {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%s: error %q does not say %q", tt.json, err, w)
			}
		}
	}
}

func TestUnknownFields(t *testing.T) {
	got := UnknownFields([]byte(`{"Netwrok":"10.5.0.0/16","subnetlen":24,"Backend":{"Type":"udp","Prot":1},"A":1}`))
	if want := []string{"A", "Netwrok"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func mustConfig(t testing.TB, json string) *Config {
	t.Helper()
	c, err := ParseConfig([]byte(json))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

const (
	ipv4Only  = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.8.0","SubnetMax":"10.5.15.0"}`
	dualStack = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.8.0","SubnetMax":"10.5.15.0","EnableIPv6":true,"IPv6Network":"fd00:5::/48","IPv6SubnetMin":"fd00:5:0:8::","IPv6SubnetMax":"fd00:5:0:f::"}`
)

func TestFitsAndCovers(t *testing.T) {
	tests := []struct {
		config, key  string
		fits, covers bool
	}{
		{ipv4Only, "10.5.8.0-24", true, true},
		{ipv4Only, "10.5.15.0-24", true, true},
		{ipv4Only, "10.5.7.0-24", false, true},
		{ipv4Only, "10.5.16.0-24", false, true},
		{ipv4Only, "10.5.8.0-25", false, true},
		{ipv4Only, "10.5.8.0-23", false, true},
		{ipv4Only, "10.6.8.0-24", false, false},
		{ipv4Only, "10.0.0.0-8", false, false},
		{ipv4Only, "10.5.8.0-24&fd00:5:0:8::-64", false, false},
		{dualStack, "10.5.8.0-24&fd00:5:0:8::-64", true, true},
		{dualStack, "10.5.8.0-24", false, true},
		{dualStack, "10.5.8.0-24&fd00:5:0:7::-64", false, true},
		{dualStack, "10.5.8.0-24&fd00:6:0:8::-64", false, false},
		{dualStack, "10.5.8.0-24&fd00:5:0:8::-65", false, true},
	}
	for _, tt := range tests {
		c, s := mustConfig(t, tt.config), mustKey(t, tt.key)
		if c.Fits(s) != tt.fits || c.Covers(s) != tt.covers {
			t.Errorf("%s in %s: fits %t, covers %t; want %t, %t", s, c.Network, c.Fits(s), c.Covers(s), tt.fits, tt.covers)
		}
	}
}

func FuzzParseConfig(f *testing.F) {
	f.Add([]byte(ipv4Only))
	f.Add([]byte(dualStack))
	f.Add([]byte(`{"network":"255.255.0.0/16","SubnetLen":30,"Backend":{"Type":"vxlan"}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		UnknownFields(data)
		c, err := ParseConfig(data)
		if err != nil {
			if c != nil || err.Error() == "" {
				t.Fatalf("got config %v with error %q", c, err)
			}
			return
		}
		for _, r := range []struct {
			Range
			network netip.Prefix
		}{{c.IPv4, c.Network}, {c.IPv6, c.IPv6Network}} {
			if !r.network.IsValid() {
				continue
			}
			low, high := netip.PrefixFrom(r.Min, r.SubnetLen), netip.PrefixFrom(r.Max, r.SubnetLen)
			if low != low.Masked() || high != high.Masked() || !covers(r.network, low) || !covers(r.network, high) ||
				r.Possible() < 1 || r.network != r.network.Masked() {
				t.Fatalf("network %s, subnets of /%d from %s to %s", r.network, r.SubnetLen, r.Min, r.Max)
			}
		}
		s, err := allocate(c, nil, func(n uint64) uint64 { return n - 1 })
		if err != nil || !c.Fits(s) || !c.Covers(s) {
			t.Fatalf("allocate in an empty network: %s, error %v", s, err)
		}
	})
}
