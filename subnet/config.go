package subnet

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// Config is the network config of a cluster, the JSON under <prefix>/config,
// with flannel's defaults filled in. ParseConfig makes it.
type Config struct {
	Network     netip.Prefix
	IPv6Network netip.Prefix // the zero Prefix unless EnableIPv6
	IPv4        Range        // within Network
	IPv6        Range        // within IPv6Network

	EnableNFTables bool

	BackendType string          // lower case; "udp" where the config names no backend
	Backend     json.RawMessage // the Backend object, nil if there is none
}

// Range is what a network gives to nodes: subnets with prefixes of SubnetLen
// bits, from the one that begins at Min to the one that begins at Max.
type Range struct {
	SubnetLen int
	Min, Max  netip.Addr
}

// configJSON has the fields of flannel's config, each to be parsed by itself
// so that an error can name it. encoding/json matches names in any case.
type configJSON struct {
	EnableIPv4, EnableIPv6, EnableNFTables json.RawMessage

	Network, SubnetLen, SubnetMin, SubnetMax                 json.RawMessage
	IPv6Network, IPv6SubnetLen, IPv6SubnetMin, IPv6SubnetMax json.RawMessage

	Backend json.RawMessage
}

// ParseConfig parses and checks a network config. Its defaults and limits are
// flannel's (pkg/subnet/config.go there); fields it does not know are ignored.
// An error names the field, its value and what is allowed.
func ParseConfig(data []byte) (*Config, error) {
	var j configJSON
	if err := json.Unmarshal(data, &j); err != nil {
		return nil, fmt.Errorf("parse network config: want a JSON object such as {\"Network\": \"10.5.0.0/16\"}: %w", err)
	}
	c, err := j.config()
	if err != nil {
		return nil, fmt.Errorf("parse network config: %w", err)
	}
	return c, nil
}

func (j *configJSON) config() (*Config, error) {
	enable4, err := parseBool("EnableIPv4", j.EnableIPv4, true)
	if err != nil {
		return nil, err
	}
	enable6, err := parseBool("EnableIPv6", j.EnableIPv6, false)
	if err != nil {
		return nil, err
	}
	if !enable4 {
		return nil, errors.New("EnableIPv4 false: only true is supported, with EnableIPv6 true for dual stack, " +
			"since the key of a lease begins with its IPv4 subnet and flannel reads no other")
	}
	c := &Config{}
	if c.EnableNFTables, err = parseBool("EnableNFTables", j.EnableNFTables, false); err != nil {
		return nil, err
	}
	c.Network, c.IPv4, err = ipv4Fields.parse(j.Network, j.SubnetLen, j.SubnetMin, j.SubnetMax)
	if err != nil {
		return nil, err
	}
	if enable6 {
		c.IPv6Network, c.IPv6, err = ipv6Fields.parse(j.IPv6Network, j.IPv6SubnetLen, j.IPv6SubnetMin, j.IPv6SubnetMax)
		if err != nil {
			return nil, err
		}
	}
	c.Backend = notNull(j.Backend)
	if c.BackendType, err = parseBackendType(c.Backend); err != nil {
		return nil, err
	}
	return c, nil
}

// DualStack tells whether nodes lease an IPv6 subnet too.
func (c *Config) DualStack() bool { return c.IPv6Network.IsValid() }

// Fits tells whether a subnet could have been chosen under this config.
func (c *Config) Fits(s Subnet) bool {
	return c.IPv4.fits(s.IPv4) && (c.IPv6.fits(s.IPv6) || !c.DualStack() && !s.IPv6.IsValid())
}

// Covers tells whether all of s lies in the cluster network.
func (c *Config) Covers(s Subnet) bool {
	return covers(c.Network, s.IPv4) && (!s.IPv6.IsValid() || covers(c.IPv6Network, s.IPv6))
}

func covers(network, p netip.Prefix) bool {
	return p.IsValid() && network.Contains(p.Addr()) && network.Bits() <= p.Bits()
}

func (r Range) fits(p netip.Prefix) bool {
	return p.IsValid() && p.Bits() == r.SubnetLen && p.Addr().BitLen() == r.Min.BitLen() &&
		r.Min.Compare(p.Addr()) <= 0 && p.Addr().Compare(r.Max) <= 0
}

// rangeFields holds the names and limits of one family's fields.
type rangeFields struct {
	network, length, min, max string // names

	family    string
	example   string
	isFamily  func(netip.Addr) bool
	defLen    int // of subnets, in a network of at most defLen-2 bits
	maxLen    int // of subnets; they hold at least a device on the tunnel and a bridge
	maxNetLen int // four subnets of maxLen fit
}

var (
	ipv4Fields = rangeFields{
		network: "Network", length: "SubnetLen", min: "SubnetMin", max: "SubnetMax",
		family: "IPv4", example: "10.5.0.0/16", isFamily: netip.Addr.Is4,
		defLen: 24, maxLen: 30, maxNetLen: 28,
	}
	ipv6Fields = rangeFields{
		network: "IPv6Network", length: "IPv6SubnetLen", min: "IPv6SubnetMin", max: "IPv6SubnetMax",
		family: "IPv6", example: "fd00:5::/48", isFamily: func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() },
		defLen: 64, maxLen: 126, maxNetLen: 124,
	}
)

func (f rangeFields) parse(network, length, lowest, highest json.RawMessage) (netip.Prefix, Range, error) {
	n, err := f.parseNetwork(network)
	if err != nil {
		return netip.Prefix{}, Range{}, err
	}
	var r Range
	if r.SubnetLen, err = f.parseLen(length, n); err != nil {
		return netip.Prefix{}, Range{}, err
	}
	// The first subnet is left out unless SubnetMin asks for it: its first
	// address is the network's own.
	size := one128.shl(n.Addr().BitLen() - r.SubnetLen)
	second := addrOf(valueOf(n.Addr()).add(size), n.Addr())
	if r.Min, err = f.parseBound(f.min, lowest, second, n, r.SubnetLen); err != nil {
		return netip.Prefix{}, Range{}, err
	}
	last := firstAddr(lastAddr(n), r.SubnetLen)
	if r.Max, err = f.parseBound(f.max, highest, last, n, r.SubnetLen); err != nil {
		return netip.Prefix{}, Range{}, err
	}
	if r.Max.Less(r.Min) {
		return netip.Prefix{}, Range{}, fmt.Errorf("%s %s: must not be above %s %s", f.min, r.Min, f.max, r.Max)
	}
	return n, r, nil
}

func (f rangeFields) parseNetwork(raw json.RawMessage) (netip.Prefix, error) {
	s, err := parseString(f.network, raw)
	if err != nil {
		return netip.Prefix{}, err
	}
	if s == "" {
		return netip.Prefix{}, fmt.Errorf("%s is missing: want an %s prefix such as %q", f.network, f.family, f.example)
	}
	p, err := netip.ParsePrefix(s)
	if err != nil || !f.isFamily(p.Addr()) {
		return netip.Prefix{}, fmt.Errorf("%s %q: want an %s prefix such as %q", f.network, s, f.family, f.example)
	}
	p = p.Masked() // as flannel does
	if p.Bits() == 0 || p.Bits() > f.maxNetLen {
		return netip.Prefix{}, fmt.Errorf("%s %q: the prefix length must be 1 to %d, so that four subnets fit", f.network, s, f.maxNetLen)
	}
	return p, nil
}

func (f rangeFields) parseLen(raw json.RawMessage, network netip.Prefix) (int, error) {
	var n int
	if raw = notNull(raw); raw != nil {
		if err := json.Unmarshal(raw, &n); err != nil {
			return 0, fmt.Errorf("%s %s: want a number from %d to %d", f.length, show(raw), network.Bits()+2, f.maxLen)
		}
	}
	if n == 0 {
		return max(f.defLen, network.Bits()+2), nil
	}
	if n < network.Bits()+2 || n > f.maxLen {
		return 0, fmt.Errorf("%s %d: must be %d to %d, so that four subnets of at least four addresses fit into %s %s",
			f.length, n, network.Bits()+2, f.maxLen, f.network, network)
	}
	return n, nil
}

// parseBound parses SubnetMin or SubnetMax. Flannel takes the zero address for
// a missing one.
func (f rangeFields) parseBound(name string, raw json.RawMessage, def netip.Addr, network netip.Prefix, bits int) (netip.Addr, error) {
	s, err := parseString(name, raw)
	if err != nil {
		return netip.Addr{}, err
	}
	if s == "" {
		return def, nil
	}
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil || !f.isFamily(a) || a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%s %q: want an %s address such as %q", name, s, f.family, def)
	case a.IsUnspecified():
		return def, nil
	case !network.Contains(a):
		return netip.Addr{}, fmt.Errorf("%s %q: must lie in %s %s", name, s, f.network, network)
	case a != firstAddr(a, bits):
		return netip.Addr{}, fmt.Errorf("%s %q: must be the first address of a /%d subnet, such as %q", name, s, bits, firstAddr(a, bits))
	}
	return a, nil
}

// firstAddr is the first address of the subnet of a that has bits.
func firstAddr(a netip.Addr, bits int) netip.Addr {
	return netip.PrefixFrom(a, bits).Masked().Addr()
}

func parseBool(name string, raw json.RawMessage, def bool) (bool, error) {
	if raw = notNull(raw); raw == nil {
		return def, nil
	}
	var b bool
	if err := json.Unmarshal(raw, &b); err != nil {
		return false, fmt.Errorf("%s %s: want true or false", name, show(raw))
	}
	return b, nil
}

func parseString(name string, raw json.RawMessage) (string, error) {
	if raw = notNull(raw); raw == nil {
		return "", nil
	}
	var s string
	if err := json.Unmarshal(raw, &s); err != nil {
		return "", fmt.Errorf("%s %s: want a string", name, show(raw))
	}
	return s, nil
}

func parseBackendType(raw json.RawMessage) (string, error) {
	if raw == nil {
		return "udp", nil
	}
	var b struct{ Type json.RawMessage }
	if err := json.Unmarshal(raw, &b); err != nil {
		return "", fmt.Errorf("%s %s: want an object such as {\"Type\": \"udp\"}", "Backend", show(raw))
	}
	t, err := parseString("Backend.Type", b.Type)
	if err != nil {
		return "", err
	}
	if t == "" {
		return "", fmt.Errorf("%s is missing: want one such as \"udp\", \"vxlan\" or \"host-gw\"", "Backend.Type")
	}
	return strings.ToLower(t), nil
}

// show cuts a value short enough for an error message.
func show(raw json.RawMessage) string {
	const limit = 60
	if len(raw) > limit {
		return string(raw[:limit]) + "…"
	}
	return string(raw)
}

// UnknownFields returns the top-level fields of a network config that
// ParseConfig ignores, sorted: most likely they are misspelt.
func UnknownFields(data []byte) []string {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return nil
	}
	var unknown []string
	known := reflect.TypeFor[configJSON]()
	for name := range fields {
		if _, ok := known.FieldByNameFunc(func(f string) bool { return strings.EqualFold(f, name) }); !ok {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	return unknown
}
