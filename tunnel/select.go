package tunnel

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/weftnet/weft/subnet"
)

// Select calls take for each lease of the given backend type that no other
// lease and nothing about this node speaks against, in order of precedence:
// where two overlap, it is called for one at most. take may refuse too. What
// was refused is returned with the reasons, by subnet.
func Select(self Self, typ string, leases []subnet.Lease, take func(subnet.Lease) error) []SkippedPeer {
	var skipped []SkippedPeer
	var taken bart.Lite
	for _, l := range byPrecedence(leases) {
		err := checkLease(self, typ, l)
		if err == nil {
			err = checkPublic(self, l.Attrs.PublicIP, l.Attrs.PublicIPv6)
		}
		for _, p := range []netip.Prefix{l.Subnet.IPv4, l.Subnet.IPv6} {
			if err == nil && p.IsValid() && taken.OverlapsPrefix(p) {
				err = fmt.Errorf("%v overlaps another lease", p)
			}
		}
		if err == nil {
			err = take(l)
		}
		if err != nil {
			skipped = append(skipped, SkippedPeer{Subnet: subnetText(l.Subnet), Why: err.Error()})
			continue
		}
		for _, p := range []netip.Prefix{l.Subnet.IPv4, l.Subnet.IPv6} {
			if p.IsValid() {
				taken.Insert(p)
			}
		}
	}
	slices.SortFunc(skipped, func(a, b SkippedPeer) int { return cmp.Compare(a.Subnet, b.Subnet) })
	return skipped
}

// checkLease tells what speaks against a lease but its public IPs. No backend
// type means udp, as with flannel.
func checkLease(self Self, typ string, l subnet.Lease) error {
	if have := cmp.Or(l.Attrs.BackendType, "udp"); have != typ {
		return fmt.Errorf("its backend is %s, this node's is %s", have, typ)
	}
	if !within(l.Subnet.IPv4, self.Network.IPv4) {
		return fmt.Errorf("%v is no part of the network %v", l.Subnet.IPv4, self.Network.IPv4)
	}
	if l.Subnet.IPv6.IsValid() && !within(l.Subnet.IPv6, self.Network.IPv6) {
		return fmt.Errorf("%v is no part of the network %v", l.Subnet.IPv6, self.Network.IPv6)
	}
	if overlap(l.Subnet, self.Own.Subnet) {
		return fmt.Errorf("it overlaps this node's own subnet %v", subnetText(self.Own.Subnet))
	}
	return nil
}

// checkPublic tells what speaks against the public IPs of another node's lease.
func checkPublic(self Self, public ...netip.Addr) error {
	own := self.Own.Attrs
	for _, a := range public {
		switch {
		case !a.IsValid():
		case a == own.PublicIP || a == own.PublicIPv6:
			return fmt.Errorf("its public IP %v is this node's own", a)
		case self.Network.Contains(a):
			// A packet to this peer would be routed into the tunnel again.
			return fmt.Errorf("its public IP %v lies inside the network", a)
		case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
			return fmt.Errorf("its public IP %v is no address of a host", a)
		}
	}
	return nil
}
