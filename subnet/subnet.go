package subnet

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// ParseKey parses the last element of a lease's key: "10.5.34.0-24", or
// "10.5.34.0-24&fd00:5:22::-64" in a dual-stack network. Only the spelling
// that Key writes is accepted, so that two keys never name one subnet.
func ParseKey(key string) (Subnet, error) {
	v4, v6, dual := strings.Cut(key, "&")
	var s Subnet
	var err error
	if s.IPv4, err = parseKeyPrefix(v4); err != nil {
		return Subnet{}, fmt.Errorf("parse lease key %q: %w", key, err)
	}
	if !s.IPv4.Addr().Is4() {
		return Subnet{}, fmt.Errorf("parse lease key %q: %s is not IPv4; want a key such as 10.5.34.0-24 or 10.5.34.0-24&fd00:5:22::-64", key, v4)
	}
	if !dual {
		return s, nil
	}
	if s.IPv6, err = parseKeyPrefix(v6); err != nil {
		return Subnet{}, fmt.Errorf("parse lease key %q: %w", key, err)
	}
	if !s.IPv6.Addr().Is6() || s.IPv6.Addr().Is4In6() {
		return Subnet{}, fmt.Errorf("parse lease key %q: %s is not IPv6; want a key such as 10.5.34.0-24&fd00:5:22::-64", key, v6)
	}
	return s, nil
}

// parseKeyPrefix parses "address-bits" in its one accepted spelling.
func parseKeyPrefix(s string) (netip.Prefix, error) {
	addrText, bitsText, ok := strings.Cut(s, "-")
	if !ok {
		return netip.Prefix{}, fmt.Errorf("%q has no prefix length; want address-length, such as 10.5.34.0-24", s)
	}
	addr, err := netip.ParseAddr(addrText)
	if err != nil || addr.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is not an IP address", addrText)
	}
	bits, err := strconv.Atoi(bitsText)
	if err != nil || bits < 1 || bits > addr.BitLen() {
		return netip.Prefix{}, fmt.Errorf("prefix length %q is not a number from 1 to %d", bitsText, addr.BitLen())
	}
	p := netip.PrefixFrom(addr, bits).Masked()
	if want := keyPrefix(p); want != s {
		return netip.Prefix{}, fmt.Errorf("%q should be written %q", s, want)
	}
	return p, nil
}

func keyPrefix(p netip.Prefix) string {
	return p.Addr().String() + "-" + strconv.Itoa(p.Bits())
}

// Key is the last element of the lease's key in etcd, as flannel writes it.
func (s Subnet) Key() string {
	if !s.IPv6.IsValid() {
		return keyPrefix(s.IPv4)
	}
	return keyPrefix(s.IPv4) + "&" + keyPrefix(s.IPv6)
}

// String is "10.5.34.0/24" or "10.5.34.0/24 fd00:5:22::/64".
func (s Subnet) String() string {
	switch {
	case !s.IPv4.IsValid():
		return "no subnet"
	case !s.IPv6.IsValid():
		return s.IPv4.String()
	}
	return s.IPv4.String() + " " + s.IPv6.String()
}

// IsZero tells that s holds no prefix.
func (s Subnet) IsZero() bool { return s == Subnet{} }

// Overlaps tells whether s and o share an address of either family.
func (s Subnet) Overlaps(o Subnet) bool {
	return s.IPv4.Overlaps(o.IPv4) || s.IPv6.Overlaps(o.IPv6)
}

// Contains tells whether a, an IPv4 or IPv6 address, lies in s.
func (s Subnet) Contains(a netip.Addr) bool {
	return s.IPv4.Contains(a) || s.IPv6.Contains(a)
}

// TunnelAddrs returns the addresses that a node has on its tunnel devices, one
// per family: the network addresses of its subnet, which no container gets.
// The IPv6 one is the zero Addr unless s is dual stack.
func (s Subnet) TunnelAddrs() (v4, v6 netip.Addr) {
	return s.IPv4.Addr(), s.IPv6.Addr()
}

// Gateway4 returns the first address of the IPv4 subnet, which the bridge of
// the containers has, with the subnet's length: "10.5.34.1/24".
func (s Subnet) Gateway4() netip.Prefix { return gateway(s.IPv4) }

// Gateway6 is Gateway4 for IPv6; the zero Prefix unless s is dual stack.
func (s Subnet) Gateway6() netip.Prefix { return gateway(s.IPv6) }

func gateway(p netip.Prefix) netip.Prefix {
	if !p.IsValid() {
		return netip.Prefix{}
	}
	return netip.PrefixFrom(p.Addr().Next(), p.Bits())
}

// Compare orders subnets by IPv4 address and length, then likewise by IPv6.
func (s Subnet) Compare(o Subnet) int {
	if c := comparePrefix(s.IPv4, o.IPv4); c != 0 {
		return c
	}
	return comparePrefix(s.IPv6, o.IPv6)
}

func comparePrefix(a, b netip.Prefix) int {
	if c := a.Addr().Compare(b.Addr()); c != 0 {
		return c
	}
	return a.Bits() - b.Bits()
}
