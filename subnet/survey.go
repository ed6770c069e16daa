package subnet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// survey is what there is around our own lease.
type survey struct {
	peers    []Lease    // in order of their subnets
	bad      []BadEntry // by key
	warnings []string   // what is wrong about leases that touch ours
}

func (s *situation) survey() survey {
	v := survey{
		peers: make([]Lease, 0, len(s.table.leases.sorted)+len(s.table.lost.sorted)),
		bad:   slices.Collect(maps.Values(s.table.bad)),
	}
	for _, l := range s.table.leases.sorted {
		v.add(s, l)
	}
	for _, l := range s.table.lost.sorted {
		v.add(s, l)
	}
	if len(s.table.lost.sorted) > 0 {
		slices.SortFunc(v.peers, func(a, b Lease) int { return a.Subnet.Compare(b.Subnet) })
	}
	slices.SortFunc(v.bad, func(a, b BadEntry) int { return strings.Compare(a.Key, b.Key) })
	return v
}

// add puts one lease where it belongs. Ours are nobody's peers, also if we do
// not use them.
func (v *survey) add(s *situation, l *Lease) {
	switch {
	case s.ours(*l):
		if l.Subnet != s.own.Subnet && l.Reservation && !s.config.Fits(l.Subnet) {
			v.skip(l, "this reservation for this node does not fit the network config")
		}
		return
	case !s.config.Covers(l.Subnet):
		v.skip(l, "lies outside the network "+Subnet{s.config.Network, s.config.IPv6Network}.String())
		return
	case s.sameIP(*l):
		// Packets for it would come back to us.
		if s.lives(*l) {
			v.warn("the public IP of %s is that of %s, which holds %s", s.self(), s.owner(*l), l.Subnet)
		}
	case l.Attrs.PublicIP.IsValid() || l.Attrs.PublicIPv6.IsValid():
		v.peers = append(v.peers, *l)
	}
	if l.Subnet != s.own.Subnet && l.Subnet.Overlaps(s.own.Subnet) {
		v.warn("subnet %s of %s overlaps %s, held by %s", s.own.Subnet, s.self(), l.Subnet, s.owner(*l))
	}
}

func (v *survey) skip(l *Lease, why string) {
	// The prefix is the registry's to know.
	key := "subnets/" + l.Subnet.Key()
	v.bad = append(v.bad, BadEntry{Key: key, Revision: l.Revision, Err: fmt.Errorf("lease %s: %s", l.Subnet, why)})
}

func (v *survey) warn(format string, args ...any) {
	v.warnings = append(v.warnings, fmt.Sprintf(format, args...))
}
