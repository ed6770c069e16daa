package subnet

import (
	"net/netip"
	"strings"
	"testing"
)

func mustKey(t testing.TB, key string) Subnet {
	t.Helper()
	s, err := ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestParseKey(t *testing.T) {
	for key, want := range map[string]Subnet{
		"10.5.34.0-24":                {IPv4: netip.MustParsePrefix("10.5.34.0/24")},
		"10.0.0.0-8":                  {IPv4: netip.MustParsePrefix("10.0.0.0/8")},
		"10.5.34.0-24&fd00:5:22::-64": {netip.MustParsePrefix("10.5.34.0/24"), netip.MustParsePrefix("fd00:5:22::/64")},
		"10.12.13.0-24&fd00:12::-56":  {netip.MustParsePrefix("10.12.13.0/24"), netip.MustParsePrefix("fd00:12::/56")},
	} {
		got, err := ParseKey(key)
		if err != nil || got != want || got.Key() != key {
			t.Errorf("%s: got %v, error %v", key, got, err)
		}
	}
}

func TestParseKeyErrors(t *testing.T) {
	for key, want := range map[string]string{
		"":                             "prefix length",
		"10":                           "prefix length",
		"10.12.13.0":                   "prefix length",
		"10.12.13-24":                  "not an IP address",
		"10.12.13.300-24":              "not an IP address",
		"10.12.013.0-24":               "not an IP address",
		"10.12.13.0-24hi":              "from 1 to 32",
		"10.12.13.0-33":                "from 1 to 32",
		"10.12.13.0--1":                "from 1 to 32",
		"0.0.0.0-0":                    "from 1 to 32",
		"10.12.13.0-024":               `"10.12.13.0-24"`,
		"10.12.13.1-24":                `"10.12.13.0-24"`,
		"fd00::-64":                    "not IPv4",
		"&2001::-56":                   "prefix length",
		"10.12.13.0-24&":               "prefix length",
		"10.12.13.0-24&:12:13:-56":     "not an IP address",
		"10.12.13.0-24&20011::-56":     "not an IP address",
		"10.12.13.0-24&2001-56":        "not an IP address",
		"10.12.13.0-24&2001::":         "prefix length",
		"10.12.13.0-24&2001::-56hi":    "from 1 to 128",
		"10.12.13.0-24&fd00:0::-56":    `"fd00::-56"`,
		"10.12.13.0-24&FD00::-56":      `"fd00::-56"`,
		"10.12.13.0-24&fd00::1-56":     `"fd00::-56"`,
		"10.12.13.0-24&fe80::%1-56":    "not an IP address",
		"10.12.13.0-24&10.0.0.0-8":     "not IPv6",
		"::ffff:10.0.0.0-104":          "not IPv4",
		"10.0.0.0-8&::ffff:1.0.0.0-99": "",
	} {
		got, err := ParseKey(key)
		if err == nil {
			t.Errorf("%q: accepted as %v", key, got)
		} else if !strings.Contains(err.Error(), want) {
			t.Errorf("%q: error %q does not say %q", key, err, want)
		}
	}
}

func FuzzParseKey(f *testing.F) {
	for _, key := range []string{"10.5.34.0-24", "10.5.34.0-24&fd00:5:22::-64", "10.5.34.0-024", "::ffff:10.0.0.0-104"} {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		s, err := ParseKey(key)
		if err != nil {
			if !s.IsZero() {
				t.Fatalf("got %v with error %v", s, err)
			}
			return
		}
		if s.Key() != key {
			t.Fatalf("%q is written back as %q", key, s.Key())
		}
		if s.IPv4 != s.IPv4.Masked() || s.IPv6.IsValid() && s.IPv6 != s.IPv6.Masked() || !s.IPv4.Addr().Is4() || s.IPv6.Addr().Is4In6() {
			t.Fatalf("%q is no pair of masked prefixes: %v", key, s)
		}
		if !s.Overlaps(s) || s.Compare(s) != 0 || !s.Contains(s.IPv4.Addr()) {
			t.Fatalf("%v does not equal itself", s)
		}
	})
}

func TestSubnet(t *testing.T) {
	v4, dual := mustKey(t, "10.5.34.0-24"), mustKey(t, "10.5.34.0-24&fd00:5:22::-64")
	if got, want := v4.String(), "10.5.34.0/24"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := dual.String(), "10.5.34.0/24 fd00:5:22::/64"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (Subnet{}).String(), "no subnet"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	t4, t6 := dual.TunnelAddrs()
	if t4 != netip.MustParseAddr("10.5.34.0") || t6 != netip.MustParseAddr("fd00:5:22::") {
		t.Errorf("tunnel addresses %s, %s", t4, t6)
	}
	if _, t6 := v4.TunnelAddrs(); t6.IsValid() {
		t.Errorf("IPv6 tunnel address %s without an IPv6 subnet", t6)
	}
	if dual.Gateway4() != netip.MustParsePrefix("10.5.34.1/24") || dual.Gateway6() != netip.MustParsePrefix("fd00:5:22::1/64") || v4.Gateway6().IsValid() {
		t.Errorf("gateways %s, %s", dual.Gateway4(), dual.Gateway6())
	}
	for addr, want := range map[string]bool{
		"10.5.34.0": true, "10.5.34.255": true, "10.5.35.0": false, "fd00:5:22::1": true, "fd00:5:22:1::": false, "::ffff:10.5.34.1": false,
	} {
		if got := dual.Contains(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s in %s: %t", addr, dual, got)
		}
	}
	if (Subnet{}).Contains(netip.MustParseAddr("10.5.34.0")) {
		t.Error("the zero Subnet contains an address")
	}
}

func TestOverlaps(t *testing.T) {
	tests := []struct {
		a, b string
		want bool
	}{
		{"10.5.1.0-24", "10.5.1.0-24", true},
		{"10.5.1.0-24", "10.5.2.0-24", false},
		{"10.5.1.0-24", "10.5.0.0-16", true},
		{"10.5.1.0-24", "10.5.1.128-25", true},
		{"10.5.1.0-24&fd00:5:1::-64", "10.5.2.0-24&fd00:5:1::-64", true},
		{"10.5.1.0-24&fd00:5:1::-64", "10.5.2.0-24", false},
		{"10.5.1.0-24", "10.5.2.0-24&fd00:5:1::-64", false},
	}
	for _, tt := range tests {
		a, b := mustKey(t, tt.a), mustKey(t, tt.b)
		if a.Overlaps(b) != tt.want || b.Overlaps(a) != tt.want {
			t.Errorf("%s and %s: %t, %t; want %t", a, b, a.Overlaps(b), b.Overlaps(a), tt.want)
		}
	}
	if (Subnet{}).Overlaps(Subnet{}) {
		t.Error("the zero Subnet overlaps itself")
	}
}
