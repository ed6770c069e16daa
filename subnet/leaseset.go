package subnet

import (
	"slices"
	"sort"
)

// leaseSet holds leases by subnet, in their order. Its leases are not written
// to.
type leaseSet struct {
	sorted []*Lease
}

func newLeaseSet(leases []Lease) leaseSet {
	set := leaseSet{make([]*Lease, 0, len(leases))}
	for _, l := range leases {
		set.sorted = append(set.sorted, &l)
	}
	slices.SortFunc(set.sorted, func(a, b *Lease) int { return a.Subnet.Compare(b.Subnet) })
	return set
}

// find returns where the lease of s is or would be.
func (set *leaseSet) find(s Subnet) (int, bool) {
	return sort.Find(len(set.sorted), func(i int) int { return s.Compare(set.sorted[i].Subnet) })
}

func (set *leaseSet) get(s Subnet) (Lease, bool) {
	if i, ok := set.find(s); ok {
		return *set.sorted[i], true
	}
	return Lease{}, false
}

func (set *leaseSet) put(l Lease) {
	i, ok := set.find(l.Subnet)
	if !ok {
		set.sorted = slices.Insert(set.sorted, i, nil)
	}
	set.sorted[i] = &l
}

func (set *leaseSet) remove(s Subnet) {
	if i, ok := set.find(s); ok {
		set.sorted = slices.Delete(set.sorted, i, i+1)
	}
}

// removeOverlapping removes what shares addresses with s.
func (set *leaseSet) removeOverlapping(s Subnet) {
	set.sorted = slices.DeleteFunc(set.sorted, func(l *Lease) bool { return l.Subnet.Overlaps(s) })
}
