package subnet

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
)

// FullError says that no subnet of one family is free.
type FullError struct {
	Network  netip.Prefix
	Leases   int   // that take part of the range, of whatever length
	Possible int64 // subnets of the configured length in the range
}

func (e *FullError) Error() string {
	return fmt.Sprintf("network %s full: %d leases of %d possible", e.Network, e.Leases, e.Possible)
}

// allocate chooses a subnet at random among all of the config's range that
// overlap none of taken. rnd returns a random number below n. The IPv6 part is
// the zero Prefix unless dual stack. An error is a *FullError.
func allocate(c *Config, taken []Subnet, rnd func(n uint64) uint64) (Subnet, error) {
	var s Subnet
	var err error
	if s.IPv4, err = c.IPv4.allocate(c.Network, taken, Subnet.ipv4, rnd); err != nil {
		return Subnet{}, err
	}
	if !c.DualStack() {
		return s, nil
	}
	if s.IPv6, err = c.IPv6.allocate(c.IPv6Network, taken, Subnet.ipv6, rnd); err != nil {
		return Subnet{}, err
	}
	return s, nil
}

func (s Subnet) ipv4() netip.Prefix { return s.IPv4 }
func (s Subnet) ipv6() netip.Prefix { return s.IPv6 }

// span is a run of subnets of a range, by index; both ends are included.
type span struct{ first, last uint64 }

// maxSpan is the highest index used. Of ranges with more subnets, which only
// IPv6 has, the rest is never chosen.
const maxSpan = 1<<62 - 1

// allocate numbers the range's subnets from 0, finds the free runs between the
// taken ones, and picks one number among the free.
func (r Range) allocate(network netip.Prefix, taken []Subnet, family func(Subnet) netip.Prefix, rnd func(uint64) uint64) (netip.Prefix, error) {
	end := min(r.index(r.Max), maxSpan)
	var used []span
	for _, s := range taken {
		if u, ok := r.span(family(s), end); ok {
			used = append(used, u)
		}
	}
	leases := len(used)
	slices.SortFunc(used, func(a, b span) int { return cmp.Compare(a.first, b.first) })
	// Sentinel: what lies behind the range is used.
	used = append(used, span{end + 1, end + 1})

	var free []span
	var count, next uint64 // next is the lowest index not yet known as used or free
	for _, u := range used {
		if u.first > next {
			free = append(free, span{next, u.first - 1})
			count += u.first - next
		}
		next = max(next, u.last+1)
	}
	if count == 0 {
		return netip.Prefix{}, &FullError{Network: network, Leases: leases, Possible: r.Possible()}
	}
	n := rnd(count)
	for _, f := range free {
		if size := f.last - f.first + 1; n >= size {
			n -= size
			continue
		}
		return r.at(f.first + n), nil
	}
	return netip.Prefix{}, fmt.Errorf("choose a subnet of %s: random number %d out of range", network, n)
}

// span returns the subnets of the range, up to the one at end, that p overlaps.
func (r Range) span(p netip.Prefix, end uint64) (span, bool) {
	if !p.IsValid() {
		return span{}, false
	}
	first, last := p.Addr(), lastAddr(p)
	if last.Less(r.Min) || lastAddr(netip.PrefixFrom(r.Max, r.SubnetLen)).Less(first) {
		return span{}, false
	}
	if first.Less(r.Min) {
		first = r.Min
	}
	s := span{r.index(first), min(r.index(last), end)}
	return s, s.first <= end
}

// index is the number of the range's subnet that holds a, which is not below
// the range. 0 is the subnet at Min.
func (r Range) index(a netip.Addr) uint64 {
	return valueOf(a).sub(valueOf(r.Min)).shr(a.BitLen() - r.SubnetLen).clamp()
}

// at is the inverse of index.
func (r Range) at(i uint64) netip.Prefix {
	offset := uint128{lo: i}.shl(r.Min.BitLen() - r.SubnetLen)
	return netip.PrefixFrom(addrOf(valueOf(r.Min).add(offset), r.Min), r.SubnetLen)
}

// Possible is the number of subnets that the range gives, at most MaxInt64.
func (r Range) Possible() int64 {
	return int64(min(r.index(r.Max), math.MaxInt64-1)) + 1
}
