package subnet

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// entry is a lease in short.
type entry struct {
	key, id, ip string
	reserved    bool
}

func (e entry) lease(t testing.TB, revision int64) Lease {
	t.Helper()
	l := Lease{Subnet: mustKey(t, e.key), Reservation: e.reserved, Revision: revision}
	l.Attrs.NodeID = e.id
	if e.ip != "" {
		l.Attrs.PublicIP = netip.MustParseAddr(e.ip)
	}
	return l
}

// The node that decides: ID "me", public IP 192.0.2.1, in a network of the four
// subnets 10.5.1.0/24 to 10.5.4.0/24, of which the lowest free is chosen.
const (
	me, myIP     = "me", "192.0.2.1"
	fourSubnets  = `{"Network":"10.5.0.0/16","SubnetMax":"10.5.4.0"}`
	fourDual     = `{"Network":"10.5.0.0/16","SubnetMax":"10.5.4.0","EnableIPv6":true,"IPv6Network":"fd00:5::/48"}`
	sub1, sub2   = "10.5.1.0-24", "10.5.2.0-24"
	sub3, sub4   = "10.5.3.0-24", "10.5.4.0-24"
	otherIP      = "192.0.2.2"
	flannelOwner = "the flannel node at " + otherIP
)

type decideTest struct {
	name   string
	config string // fourSubnets if empty
	leases []entry
	bad    []string // keys with unreadable values
	alive  []string // IDs
	prev   []string
	own    entry // held in this run
	set    func(s *situation)
	want   string   // verb and subnet
	why    []string // parts of the reason
}

func (tt decideTest) run(t *testing.T) {
	if tt.config == "" {
		tt.config = fourSubnets
	}
	s := &situation{
		config:    mustConfig(t, tt.config),
		table:     newTable(),
		node:      Node{ID: me, Hostname: "my-host", PublicIP: myIP},
		attrs:     Attrs{PublicIP: netip.MustParseAddr(myIP), NodeID: me},
		announced: true,
		random:    func(uint64) uint64 { return 0 },
	}
	for i, e := range tt.leases {
		s.table.leases.put(e.lease(t, int64(i+1)))
	}
	for _, key := range tt.bad {
		key = "/prefix/subnets/" + key
		s.table.bad[key] = BadEntry{Key: key, Revision: 77, Err: errors.New("unreadable")}
	}
	for _, id := range tt.alive {
		s.table.alive[id] = Node{ID: id, Hostname: "host-of-" + id, PublicIP: otherIP}
	}
	for _, key := range tt.prev {
		s.previous = append(s.previous, mustKey(t, key))
	}
	if tt.own.key != "" {
		s.own = tt.own.lease(t, 1)
	}
	if tt.set != nil {
		tt.set(s)
	}
	d := s.decide()
	got := map[verb]string{
		keep:   "keep " + d.lease.Subnet.String(),
		create: "create " + d.subnet.String(),
		update: "update " + d.lease.Subnet.String(),
		remove: "remove " + d.lease.Subnet.String(),
		wait:   "wait for " + d.rival.Subnet.String(),
	}[d.verb]
	if got != tt.want {
		t.Errorf("got %q because %q, want %q", got, d.why, tt.want)
	}
	for _, w := range tt.why {
		if !strings.Contains(d.why, w) {
			t.Errorf("reason %q does not say %q", d.why, w)
		}
	}
	if d.verb == update && d.lease.Revision == 0 {
		t.Error("update of a lease without a revision")
	}
}

// TestAcquire has no subnet held in this run yet.
func TestAcquire(t *testing.T) {
	newSubnet := func(key string) func(*situation) {
		return func(s *situation) { s.avoid, s.renumber = mustKey(t, key), true }
	}
	renumber := func(s *situation) { s.renumber = true }
	for _, tt := range []decideTest{
		{name: "empty network", want: "create 10.5.1.0/24", why: []string{"free"}},
		{name: "next free", leases: []entry{{sub1, "a", otherIP, false}, {sub2, "", otherIP, false}}, want: "create 10.5.3.0/24"},
		{name: "reservations of others are left alone", leases: []entry{{sub1, "", otherIP, true}, {sub2, "", "", true}}, want: "create 10.5.3.0/24"},
		{name: "unreadable entries are left alone", bad: []string{sub1}, want: "create 10.5.2.0/24"},
		{name: "leases outside the network count for nothing", leases: []entry{{"10.0.0.0-8", "", otherIP, false}}, want: "create 10.5.1.0/24"},
		{name: "full", leases: []entry{{"10.5.0.0-22", "a", otherIP, false}, {sub4, "", otherIP, false}}, want: "wait for no subnet",
			why: []string{"network 10.5.0.0/16 full: 2 leases of 4 possible"}},

		{name: "own lease by ID", leases: []entry{{sub2, me, myIP, false}}, want: "update 10.5.2.0/24", why: []string{"already"}},
		{name: "own lease by ID after a change of address", leases: []entry{{sub2, me, "192.0.2.99", false}}, want: "update 10.5.2.0/24"},
		{name: "own lease of flannel", leases: []entry{{sub2, "", myIP, false}}, want: "update 10.5.2.0/24", why: []string{"public IP"}},
		{name: "reinstalled host", leases: []entry{{sub2, "before", myIP, false}}, want: "update 10.5.2.0/24", why: []string{"dead", "before"}},
		{name: "ID before public IP", leases: []entry{{sub1, "", myIP, false}, {sub2, me, otherIP, false}}, want: "update 10.5.2.0/24"},
		{name: "lease before reservation", leases: []entry{{sub1, me, myIP, true}, {sub2, "", myIP, false}}, want: "update 10.5.2.0/24"},
		{name: "of two own leases the last held stays", leases: []entry{{sub1, me, myIP, false}, {sub2, me, myIP, false}}, prev: []string{sub2},
			want: "remove 10.5.1.0/24", why: []string{"10.5.2.0/24"}},
		{name: "of two own leases the first stays", leases: []entry{{sub1, me, myIP, false}, {sub2, me, myIP, false}}, want: "remove 10.5.2.0/24"},
		{name: "own lease before the previous subnet", leases: []entry{{sub1, me, myIP, false}}, prev: []string{sub3}, want: "update 10.5.1.0/24"},
		{name: "public IP of a live node", leases: []entry{{sub2, "a", myIP, false}}, alive: []string{"a"}, want: "wait for no subnet",
			why: []string{"node me (my-host, 192.0.2.1)", "node a (host-of-a, 192.0.2.2)", "10.5.2.0/24", "--public-ip"}},
		{name: "own lease, though its public IP is also a live node's", leases: []entry{{sub1, "a", myIP, false}, {sub2, me, myIP, false}}, alive: []string{"a"}, want: "update 10.5.2.0/24"},
		{name: "no public IP is no one's", leases: []entry{{sub1, "", "", false}}, want: "create 10.5.2.0/24"},

		{name: "reservation by ID", leases: []entry{{sub3, me, "", true}}, prev: []string{sub2}, want: "update 10.5.3.0/24", why: []string{"reserved"}},
		{name: "reservation by public IP", leases: []entry{{sub3, "", myIP, true}}, prev: []string{sub2}, want: "update 10.5.3.0/24"},
		{name: "reservation as it should be", leases: []entry{{sub3, me, myIP, true}}, want: "keep 10.5.3.0/24"},
		{name: "reservation that does not fit", leases: []entry{{"10.5.9.0-24", me, myIP, true}}, prev: []string{sub2}, want: "create 10.5.2.0/24"},

		{name: "lease outside the network", leases: []entry{{"10.9.1.0-24", me, myIP, false}}, want: "remove 10.9.1.0/24", why: []string{"fit"}},
		{name: "lease of another length", leases: []entry{{"10.5.1.0-25", me, myIP, false}}, want: "remove 10.5.1.0/25"},
		{name: "flannel's lease of another length", leases: []entry{{"10.5.1.0-25", "", myIP, false}}, want: "remove 10.5.1.0/25"},

		{name: "previous subnet", prev: []string{sub3}, want: "create 10.5.3.0/24", why: []string{"before"}},
		{name: "previous subnet that does not fit, then one that does", prev: []string{"10.9.1.0-24", sub3}, want: "create 10.5.3.0/24"},
		{name: "previous subnet of another node", leases: []entry{{sub3, "a", otherIP, false}}, alive: []string{"a"}, prev: []string{sub3}, want: "wait for 10.5.3.0/24",
			why: []string{"subnet 10.5.3.0/24 of this node me (my-host, 192.0.2.1)", "held by node a (host-of-a, 192.0.2.2)", "--new-subnet"}},
		{name: "previous subnet of a dead node", leases: []entry{{sub3, "a", otherIP, false}}, prev: []string{sub3}, want: "wait for 10.5.3.0/24", why: []string{"not running"}},
		{name: "previous subnet of flannel", leases: []entry{{sub3, "", otherIP, false}}, prev: []string{sub3}, want: "wait for 10.5.3.0/24", why: []string{flannelOwner}},
		{name: "previous subnet within another", leases: []entry{{"10.5.2.0-23", "", otherIP, false}}, prev: []string{sub3}, want: "wait for 10.5.2.0/23",
			why: []string{"10.5.3.0/24", flannelOwner + " as 10.5.2.0/23"}},
		{name: "previous subnet reserved", leases: []entry{{sub3, "", otherIP, true}}, prev: []string{sub3}, want: "wait for 10.5.3.0/24", why: []string{"reservation for 192.0.2.2"}},
		{name: "previous subnet reserved for no one", leases: []entry{{sub3, "", "", true}}, prev: []string{sub3}, want: "wait for 10.5.3.0/24", why: []string{"reservation for no node"}},
		{name: "previous subnet unreadable", bad: []string{sub3}, prev: []string{sub3}, want: "wait for 10.5.3.0/24", why: []string{"cannot be read"}},
		{name: "previous subnet taken, renumbering", leases: []entry{{sub3, "a", otherIP, false}}, prev: []string{sub3, sub4}, set: renumber, want: "create 10.5.4.0/24"},
		{name: "previous subnet unreadable, renumbering", bad: []string{sub3}, prev: []string{sub3}, set: renumber, want: "create 10.5.1.0/24"},

		{name: "new subnet asked for", leases: []entry{{sub1, me, myIP, false}}, prev: []string{sub1, sub2}, set: newSubnet(sub1), want: "create 10.5.2.0/24", why: []string{"free"}},
		{name: "new subnet is a reservation", leases: []entry{{sub1, me, myIP, false}, {sub4, "", myIP, true}}, set: newSubnet(sub1), want: "update 10.5.4.0/24"},
		{name: "new subnet in a full network", leases: []entry{{sub1, me, myIP, false}, {"10.5.2.0-23", "", otherIP, false}, {sub4, "", otherIP, false}}, set: newSubnet(sub1), want: "wait for no subnet"},

		{name: "dual stack", config: fourDual, want: "create 10.5.1.0/24 fd00:5:0:1::/64"},
		{name: "IPv6 came", config: fourDual, leases: []entry{{sub3, me, myIP, false}}, want: "remove 10.5.3.0/24"},
		{name: "IPv6 came, IPv4 stays", config: fourDual, prev: []string{sub3}, want: "create 10.5.3.0/24 fd00:5:0:1::/64"},
		{name: "IPv6 went, IPv4 stays", prev: []string{sub3 + "&fd00:5:0:7::-64"}, want: "create 10.5.3.0/24"},
		{name: "previous dual stack", config: fourDual, prev: []string{sub3 + "&fd00:5:0:7::-64"}, want: "create 10.5.3.0/24 fd00:5:0:7::/64"},
		{name: "previous IPv6 taken", config: fourDual, leases: []entry{{sub1 + "&fd00:5:0:7::-64", "a", otherIP, false}}, prev: []string{sub3 + "&fd00:5:0:7::-64"}, want: "wait for 10.5.1.0/24 fd00:5:0:7::/64"},
	} {
		t.Run(tt.name, tt.run)
	}
}

// TestDefend has sub1 held in this run.
func TestDefend(t *testing.T) {
	own := entry{sub1, me, myIP, false}
	reserved := entry{sub1, me, myIP, true}
	for _, tt := range []decideTest{
		{name: "well", own: own, leases: []entry{own}, want: "keep 10.5.1.0/24"},
		{name: "to be renewed", own: own, leases: []entry{own}, set: func(s *situation) { s.renew = true }, want: "update 10.5.1.0/24", why: []string{"renewed"}},
		{name: "a reservation needs no renewal", own: reserved, leases: []entry{reserved}, set: func(s *situation) { s.renew = true }, want: "keep 10.5.1.0/24"},
		{name: "made a reservation", own: own, leases: []entry{reserved}, want: "keep 10.5.1.0/24"},
		{name: "attributes changed", own: own, leases: []entry{own}, set: func(s *situation) { s.attrs.BackendType = "udp" }, want: "update 10.5.1.0/24"},
		{name: "address changed", own: own, leases: []entry{own}, set: func(s *situation) { s.attrs.PublicIP = netip.MustParseAddr("192.0.2.9") }, want: "update 10.5.1.0/24"},
		{name: "address changed, not announced", own: own, leases: []entry{own},
			set: func(s *situation) { s.announced, s.attrs.PublicIP = false, netip.MustParseAddr("192.0.2.9") }, want: "update 10.5.1.0/24"},
		{name: "flannel ran here", own: own, leases: []entry{{sub1, "", myIP, false}}, want: "update 10.5.1.0/24"},
		{name: "gone", own: own, want: "create 10.5.1.0/24", why: []string{"gone"}},
		{name: "unreadable", own: own, leases: []entry{own}, bad: []string{sub1}, want: "update 10.5.1.0/24", why: []string{"unreadable"}},

		{name: "taken by a live node", own: own, leases: []entry{{sub1, "a", otherIP, false}}, alive: []string{"a"}, want: "wait for 10.5.1.0/24",
			why: []string{"this node me (my-host, 192.0.2.1)", "node a (host-of-a, 192.0.2.2)"}},
		{name: "taken by flannel", own: own, leases: []entry{{sub1, "", otherIP, false}}, want: "wait for 10.5.1.0/24", why: []string{flannelOwner}},
		{name: "taken by a node just dead", own: own, leases: []entry{{sub1, "a", otherIP, false}}, want: "wait for 10.5.1.0/24", why: []string{"node a (192.0.2.2), which is not running"}},
		{name: "taken by a node long dead", own: own, leases: []entry{{sub1, "a", otherIP, false}}, set: func(s *situation) { s.longDead = "a" }, want: "update 10.5.1.0/24", why: []string{"dead"}},
		{name: "taken by another node than the long dead", own: own, leases: []entry{{sub1, "b", otherIP, false}}, set: func(s *situation) { s.longDead = "a" }, want: "wait for 10.5.1.0/24"},
		{name: "taken by a node that came back to life", own: own, leases: []entry{{sub1, "a", otherIP, false}}, alive: []string{"a"}, set: func(s *situation) { s.longDead = "a" }, want: "wait for 10.5.1.0/24"},
		{name: "taken by a clone", own: own, leases: []entry{{sub2, "x", otherIP, false}, {sub1, me, otherIP, false}}, alive: []string{me}, set: func(s *situation) { s.announced = false },
			want: "wait for 10.5.1.0/24", why: []string{"node me (host-of-me, 192.0.2.2)"}},
		{name: "a clone has gone", own: own, leases: []entry{{sub2, "x", otherIP, false}, {sub1, me, otherIP, false}}, want: "update 10.5.1.0/24"},
		{name: "gone, and part of another's", own: own, leases: []entry{{"10.5.0.0-20", "", otherIP, false}}, want: "wait for 10.5.0.0/20"},
		{name: "overlapped", own: own, leases: []entry{own, {"10.5.0.0-20", "", otherIP, false}}, want: "keep 10.5.1.0/24"},
		{name: "taken, renumbering", own: own, leases: []entry{{sub1, "", otherIP, false}}, prev: []string{sub1}, set: func(s *situation) { s.renumber = true }, want: "create 10.5.2.0/24"},
	} {
		t.Run(tt.name, tt.run)
	}
}

// TestIPv6Identity has nodes without a public IPv4.
func TestIPv6Identity(t *testing.T) {
	s := &situation{node: Node{ID: me}, attrs: Attrs{PublicIPv6: netip.MustParseAddr("2001:db8::1")}}
	for _, tt := range []struct {
		v4, v6 string
		want   bool
	}{
		{"", "2001:db8::1", true},
		{"", "2001:db8::2", false},
		{"192.0.2.1", "2001:db8::1", false},
		{"", "", false},
	} {
		l := entry{sub1, "", tt.v4, false}.lease(t, 1)
		if tt.v6 != "" {
			l.Attrs.PublicIPv6 = netip.MustParseAddr(tt.v6)
		}
		if got := s.ours(l); got != tt.want {
			t.Errorf("lease of %q, %q is ours: %t, want %t", tt.v4, tt.v6, got, tt.want)
		}
	}
}
