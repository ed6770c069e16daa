package tunnel

import (
	"errors"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/subnet"
)

func TestSelect(t *testing.T) {
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	lease := func(v4, public string, change ...func(*subnet.Lease)) subnet.Lease {
		l := subnet.Lease{Subnet: subnet.Subnet{IPv4: pfx(v4)}, Attrs: subnet.Attrs{PublicIP: addr(public), BackendType: "vxlan"}}
		for _, c := range change {
			c(&l)
		}
		return l
	}
	self := Self{
		Own:     lease("10.5.1.0/24", "192.0.2.1"),
		Network: Network{IPv4: pfx("10.5.0.0/16"), IPv6: pfx("fd00:5::/32")},
	}
	v6 := func(p string) func(*subnet.Lease) { return func(l *subnet.Lease) { l.Subnet.IPv6 = pfx(p) } }
	typ := func(s string) func(*subnet.Lease) { return func(l *subnet.Lease) { l.Attrs.BackendType = s } }

	var taken []string
	skipped := Select(self, "vxlan", []subnet.Lease{
		lease("10.5.2.0/24", "192.0.2.2"),
		lease("10.5.2.0/23", "192.0.2.3"), // the longer prefix wins
		lease("10.5.4.0/24", "192.0.2.4", v6("fd00:5:4::/64")),
		lease("10.5.5.0/24", "192.0.2.5", v6("fd00:5:4::/64")),
		lease("10.5.6.0/24", "192.0.2.6", v6("fd00:6:4::/64")),
		lease("10.5.7.0/24", "192.0.2.7", typ("udp")),
		lease("10.5.8.0/24", "192.0.2.8", typ("")),
		lease("10.6.0.0/24", "192.0.2.9"),
		lease("10.5.1.128/25", "192.0.2.10"),
		lease("10.5.10.0/24", "192.0.2.1"),
		lease("10.5.11.0/24", "10.5.3.3"),
		lease("10.5.12.0/24", "127.0.0.1"),
		lease("10.5.13.0/24", "192.0.2.13"), // refused by take, and so not in the way of the next one
		lease("10.5.12.0/22", "192.0.2.14"),
	}, func(l subnet.Lease) error {
		if l.Subnet.IPv4 == pfx("10.5.13.0/24") {
			return errors.New("no")
		}
		taken = append(taken, l.Subnet.IPv4.String())
		return nil
	})
	if want := []string{"10.5.2.0/24", "10.5.4.0/24", "10.5.12.0/22"}; !slices.Equal(taken, want) {
		t.Errorf("taken: %q", taken)
	}
	want := []SkippedPeer{
		{"10.5.1.128/25", "it overlaps this node's own subnet 10.5.1.0/24"},
		{"10.5.10.0/24", "its public IP 192.0.2.1 is this node's own"},
		{"10.5.11.0/24", "its public IP 10.5.3.3 lies inside the network"},
		{"10.5.12.0/24", "its public IP 127.0.0.1 is no address of a host"},
		{"10.5.13.0/24", "no"},
		{"10.5.2.0/23", "10.5.2.0/23 overlaps another lease"},
		{"10.5.5.0/24 fd00:5:4::/64", "fd00:5:4::/64 overlaps another lease"},
		{"10.5.6.0/24 fd00:6:4::/64", "fd00:6:4::/64 is no part of the network fd00:5::/32"},
		{"10.5.7.0/24", "its backend is udp, this node's is vxlan"},
		{"10.5.8.0/24", "its backend is udp, this node's is vxlan"},
		{"10.6.0.0/24", "10.6.0.0/24 is no part of the network 10.5.0.0/16"},
	}
	if !slices.Equal(skipped, want) {
		t.Errorf("skipped:\n%v\nwant\n%v", skipped, want)
	}
}
