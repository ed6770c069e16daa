package tunnel

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix
)

var network = Network{IPv4: pfx("10.5.0.0/16"), IPv6: pfx("fd00:5::/32")}

func self() Self {
	return Self{
		Own: subnet.Lease{
			Subnet: subnet.Subnet{IPv4: pfx("10.5.1.0/24"), IPv6: pfx("fd00:5:1::/64")},
			Attrs:  subnet.Attrs{PublicIP: addr("192.0.2.1"), PublicIPv6: addr("2001:db8::1")},
		},
		Network: network,
		IPv4:    true, IPv6: true,
	}
}

func weft(ipv4, ipv6, public, publicV6 string) subnet.Lease {
	l := subnet.Lease{Attrs: subnet.Attrs{BackendType: "udp", BackendData: Announcement()}}
	l.Subnet.IPv4 = pfx(ipv4)
	if ipv6 != "" {
		l.Subnet.IPv6 = pfx(ipv6)
	}
	if public != "" {
		l.Attrs.PublicIP = addr(public)
	}
	if publicV6 != "" {
		l.Attrs.PublicIPv6 = addr(publicV6)
	}
	return l
}

func flannel(l subnet.Lease) subnet.Lease {
	l.Attrs.BackendData = json.RawMessage("null")
	return l
}

func TestNewTableChoosesEndpointAndFamilies(t *testing.T) {
	dual := weft("10.5.2.0/24", "fd00:5:2::/64", "192.0.2.2", "2001:db8::2")
	only6 := weft("10.5.2.0/24", "fd00:5:2::/64", "", "2001:db8::2")
	for _, c := range []struct {
		name       string
		ipv4, ipv6 bool // of this node
		lease      subnet.Lease
		endpoint   string // "" for a peer that is skipped
		subnetV6   string
	}{
		{"IPv4 is preferred", true, true, dual, "192.0.2.2", "fd00:5:2::/64"},
		{"IPv6 where we have no IPv4", false, true, dual, "2001:db8::2", "fd00:5:2::/64"},
		{"IPv6 where the peer has no IPv4", true, true, only6, "2001:db8::2", "fd00:5:2::/64"},
		{"nothing in common", true, false, only6, "", ""},
		{"flannel gets no inner IPv6", true, true, flannel(dual), "192.0.2.2", "invalid Prefix"},
		{"flannel gets no outer IPv6", false, true, flannel(dual), "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := self()
			s.IPv4, s.IPv6 = c.ipv4, c.ipv6
			table := NewTable(s, []subnet.Lease{c.lease}, nil)
			if c.endpoint == "" {
				if len(table.Peers()) != 0 || len(table.Skipped()) != 1 {
					t.Fatalf("peers %v, skipped %v", table.Peers(), table.Skipped())
				}
				return
			}
			p := table.Lookup(addr("10.5.2.7"))
			if p == nil {
				t.Fatalf("no peer, skipped %v", table.Skipped())
			}
			if p.Endpoint != addr(c.endpoint) || p.Subnet.IPv6.String() != c.subnetV6 {
				t.Errorf("endpoint %v, IPv6 subnet %v", p.Endpoint, p.Subnet.IPv6)
			}
			if got := table.Lookup(addr("fd00:5:2::7")) != nil; got != (c.subnetV6 != "invalid Prefix") {
				t.Errorf("IPv6 is routed: %v", got)
			}
		})
	}
}

func TestAnnounced(t *testing.T) {
	for data, want := range map[string]Announced{
		`{"weft":1}`:                {Weft: 1},
		` { "weft" : 1, "x": [] } `: {Weft: 1},
		`{"weft":2}`:                {Weft: 2},
		`{"weft":1,"probe":1}`:      {Weft: 1, Probe: 1},
		`{"weft":1,"no_udp":true}`:  {Weft: 1, NoUDP: true},

		`{"weft":1,"source_ports":true}`:                             {Weft: 1, SourcePorts: true},
		`{"weft":1,"assist":true}`:                                   {Weft: 1, Assist: true},
		`{"weft":1,"source_ports":true,"assist":true}`:               {Weft: 1, SourcePorts: true, Assist: true},
		`{"assist":true}`:                                            {},
		`{"source_ports":true}`:                                      {},
		`{"VNI":1,"probe":1,"weft":1,"VtepMAC":"02:00:00:00:00:01"}`: {Weft: 1, Probe: 1},
		"": {}, "null": {}, "{}": {}, `{"weft":-1}`: {}, `{"weft":"1"}`: {}, `{"weft":`: {}, "1": {},
		`{"VNI":1,"VtepMAC":"02:00:00:00:00:01"}`: {},
		`{"probe":1}`: {}, // nobody but weft knows it
	} {
		if got := ReadAnnounced(json.RawMessage(data)); got != want {
			t.Errorf("%s announces %+v, want %+v", data, got, want)
		}
	}
}

// What nodes of large clusters announce is read without parsing JSON.
func TestCommonAnnouncementsAreCheap(t *testing.T) {
	for _, a := range []Announced{{Weft: WireVersion}, {Weft: WireVersion, Assist: true}} {
		data, err := json.Marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(100, func() { ReadAnnounced(data) }); n != 0 || ReadAnnounced(data) != a {
			t.Errorf("%s is read as %+v with %v allocations", data, ReadAnnounced(data), n)
		}
	}
}

// Where an IPv6 packet of 1280 bytes does not fit the underlay, a peer over IPv6
// is sent IPv4 only, and one over IPv4 both.
func TestNarrowUnderlay(t *testing.T) {
	self := self()
	self.No6In6 = true
	for _, c := range []struct {
		public, publicV6 string
		want             bool
	}{{"192.0.2.2", "", true}, {"192.0.2.2", "2001:db8::2", true}, {"", "2001:db8::2", false}} {
		table := NewTable(self, []subnet.Lease{weft("10.5.2.0/24", "fd00:5:2::/64", c.public, c.publicV6)}, nil)
		if table.Lookup(addr("10.5.2.7")) == nil || (table.Lookup(addr("fd00:5:2::7")) != nil) != c.want {
			t.Errorf("%s %s: peers %+v", c.public, c.publicV6, table.Peers())
		}
	}
}

func TestNewTableSkips(t *testing.T) {
	vxlan := weft("10.5.2.0/24", "", "192.0.2.2", "")
	vxlan.Attrs.BackendType = "vxlan"
	for _, c := range []struct {
		name  string
		lease subnet.Lease
		why   string
	}{
		{"other backend", vxlan, "its backend is vxlan, this node's is udp"},
		{"outside the network", weft("10.6.2.0/24", "", "192.0.2.2", ""), "10.6.2.0/24 is no part of the network 10.5.0.0/16"},
		{"larger than the network", weft("10.0.0.0/8", "", "192.0.2.2", ""), "10.0.0.0/8 is no part of the network 10.5.0.0/16"},
		{"IPv6 outside the network", weft("10.5.2.0/24", "fd01::/64", "192.0.2.2", ""), "fd01::/64 is no part of the network fd00:5::/32"},
		{"our subnet", weft("10.5.1.128/25", "", "192.0.2.2", ""), "it overlaps this node's own subnet 10.5.1.0/24 fd00:5:1::/64"},
		{"our IPv6 subnet", weft("10.5.2.0/24", "fd00:5:1::/64", "192.0.2.2", ""), "it overlaps this node's own subnet 10.5.1.0/24 fd00:5:1::/64"},
		{"our endpoint", weft("10.5.2.0/24", "", "192.0.2.1", ""), "its public IP 192.0.2.1 is this node's own"},
		{"our IPv6 endpoint", weft("10.5.2.0/24", "", "192.0.2.2", "2001:db8::1"), "its public IP 2001:db8::1 is this node's own"},
		{"endpoint in the network", weft("10.5.2.0/24", "", "10.5.9.9", ""), "its public IP 10.5.9.9 lies inside the network"},
		{"IPv6 endpoint in the network", weft("10.5.2.0/24", "", "", "fd00:5:9::9"), "its public IP fd00:5:9::9 lies inside the network"},
		{"no host", weft("10.5.2.0/24", "", "127.0.0.1", ""), "its public IP 127.0.0.1 is no address of a host"},
		{"no endpoint", weft("10.5.2.0/24", "", "", ""), "no address family for the tunnel in common (its public IPs: none)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			table := NewTable(self(), []subnet.Lease{c.lease}, nil)
			want := []SkippedPeer{{Subnet: subnetText(c.lease.Subnet), Why: c.why}}
			if !slices.Equal(table.Skipped(), want) || len(table.Peers()) != 0 {
				t.Errorf("skipped %q, peers %v; want %q", table.Skipped(), table.Peers(), want)
			}
			if a := c.lease.Attrs.PublicIP; a.IsValid() && table.At(a) != nil {
				t.Errorf("packets from %v would be taken", a)
			}
		})
	}
}

func TestNewTableOfLeasesThatOverlap(t *testing.T) {
	wide := weft("10.5.2.0/23", "", "192.0.2.2", "")
	narrow := weft("10.5.3.0/24", "", "192.0.2.3", "")
	older := weft("10.5.4.0/24", "", "192.0.2.4", "")
	older.Revision = 7
	newer := weft("10.5.4.0/24", "fd00:5:4::/64", "192.0.2.4", "")
	newer.Revision = 8
	leases := []subnet.Lease{wide, narrow, older, newer}
	for range 2 {
		table := NewTable(self(), leases, nil)
		if p := table.Lookup(addr("10.5.3.1")); p == nil || p.Endpoint != addr("192.0.2.3") {
			t.Errorf("10.5.3.1 belongs to %+v", p)
		}
		if p := table.Lookup(addr("10.5.2.1")); p != nil {
			t.Errorf("10.5.2.1 belongs to %+v", p)
		}
		if p := table.Lookup(addr("fd00:5:4::1")); p == nil {
			t.Error("the newer lease is not served")
		}
		want := []SkippedPeer{
			{"10.5.2.0/23", "10.5.2.0/23 overlaps another lease, 10.5.3.0/24"},
			{"10.5.4.0/24", "10.5.4.0/24 overlaps another lease, 10.5.4.0/24"},
		}
		if !slices.Equal(table.Skipped(), want) {
			t.Errorf("skipped %q", table.Skipped())
		}
		slices.Reverse(leases) // the order of arrival does not matter
	}
}

func TestTableLookups(t *testing.T) {
	shared := weft("10.5.3.0/24", "", "192.0.2.2", "")
	table := NewTable(self(), []subnet.Lease{weft("10.5.2.0/24", "fd00:5:2::/64", "192.0.2.2", "2001:db8::2"), shared}, nil)
	for a, want := range map[string]string{
		"10.5.2.0": "10.5.2.0/24", "10.5.2.255": "10.5.2.0/24", "fd00:5:2::1": "10.5.2.0/24",
		"10.5.3.1": "10.5.3.0/24", "10.5.1.1": "", "10.5.4.1": "", "fd00:5:3::1": "", "8.8.8.8": "",
	} {
		got := ""
		if p := table.Lookup(addr(a)); p != nil {
			got = p.Subnet.IPv4.String()
			if !p.Owns(addr(a)) {
				t.Errorf("%s: the peer does not own it", a)
			}
		}
		if got != want {
			t.Errorf("%s belongs to %q, want %q", a, got, want)
		}
	}
	for a, want := range map[string]int{"192.0.2.2": 2, "2001:db8::2": 1, "192.0.2.3": 0, "::ffff:192.0.2.2": 0} {
		peers := table.At(addr(a))
		if len(peers) != want {
			t.Errorf("%d peers at %s, want %d", len(peers), a, want)
		}
		for _, p := range peers {
			if !p.At(addr(a)) {
				t.Errorf("%v denies to be at %s", p.Subnet, a)
			}
		}
	}
	for a, want := range map[string]bool{"10.5.1.0": true, "10.5.1.9": true, "fd00:5:1::": true, "10.5.2.1": false, "fd00:5:2::1": false} {
		if table.Owns(addr(a)) != want {
			t.Errorf("Owns(%s) is not %v", a, want)
		}
	}
	var none Table
	if none.HasLease() || none.Owns(addr("10.5.1.1")) || none.Lookup(addr("10.5.2.1")) != nil || !table.HasLease() {
		t.Error("a table without a lease must own nothing")
	}
}

func TestStateSurvives(t *testing.T) {
	lease := weft("10.5.2.0/24", "", "192.0.2.2", "")
	first := NewTable(self(), []subnet.Lease{lease}, nil)
	state := first.Lookup(addr("10.5.2.1")).State
	renewed := lease
	renewed.Revision++
	second := NewTable(self(), []subnet.Lease{weft("10.5.3.0/24", "", "192.0.2.3", ""), renewed}, first)
	if got := second.Lookup(addr("10.5.2.1")).State; got != state {
		t.Error("the state is lost by a renewal")
	}
	if second.Lookup(addr("10.5.3.1")).State == state {
		t.Error("two peers share one state")
	}
	moved := weft("10.5.2.0/24", "", "192.0.2.9", "")
	if third := NewTable(self(), []subnet.Lease{moved}, second); third.Lookup(addr("10.5.2.1")).State == state {
		t.Error("the state of another endpoint is kept")
	}
}

func TestLapsing(t *testing.T) {
	var l Lapsing
	if v := l.Get(); v != 0 {
		t.Fatalf("a zero Lapsing holds %d", v)
	}
	until := time.Now().Add(time.Hour)
	l.Set(65535, until)
	if v, u := l.Until(); v != 65535 || until.Sub(u).Abs() > time.Millisecond {
		t.Errorf("holds %d until %v, want 65535 until %v", v, u, until)
	}
	l.Set(1400, time.Now().Add(-time.Second))
	if v := l.Get(); v != 0 {
		t.Errorf("holds %d after its time", v)
	}
}

// Tables are replaced while others read them: this is for the race detector.
func TestTableSwap(t *testing.T) {
	var current atomic.Pointer[Table]
	current.Store(NewTable(self(), nil, nil))
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			select {
			case <-stop:
				return
			default:
			}
			if p := current.Load().Lookup(addr("10.5.2.1")); p != nil {
				p.State.Tx.Count(1, 100)
			}
		}
	}()
	leases := []subnet.Lease{weft("10.5.2.0/24", "", "192.0.2.2", "")}
	current.Store(NewTable(self(), leases, current.Load()))
	state := current.Load().Lookup(addr("10.5.2.1")).State
	for i := range 500 {
		leases = append(leases[:1], weft(fmt.Sprintf("10.5.%d.0/24", 3+i%200), "", "192.0.2.3", ""))
		current.Store(NewTable(self(), leases, current.Load()))
	}
	for state.Tx.Packets.Load() == 0 {
		runtime.Gosched()
	}
	close(stop)
	<-done
	if current.Load().Lookup(addr("10.5.2.1")).State != state {
		t.Error("the state was lost")
	}
}

// manyLeases are n leases, dual stack, in 10.0.0.0/8.
func manyLeases(n int) (leases []subnet.Lease) {
	for i := range n {
		v4 := fmt.Sprintf("10.%d.%d.0/24", 64+i/256, i%256)
		v6 := fmt.Sprintf("fd00:5:%x::/64", 2+i)
		l := weft(v4, v6, fmt.Sprintf("198.18.%d.%d", i/256, i%256), "")
		l.Attrs.BackendData = json.RawMessage(`{"weft":1,"assist":true}`) // each of its own, as from etcd
		leases = append(leases, l)
	}
	return leases
}

// A table of 10,000 peers, and the one it replaces, must fit into a small part
// of the daemon's 100 MB.
func TestTableIsSmall(t *testing.T) {
	leases := manyLeases(10_000)
	s := self()
	s.Network.IPv4 = pfx("10.0.0.0/8")
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	first := NewTable(s, leases, nil)
	second := NewTable(s, leases, first)
	runtime.GC()
	runtime.ReadMemStats(&after)
	if len(second.Peers()) != len(leases) {
		t.Fatalf("%d peers, skipped %v", len(second.Peers()), second.Skipped())
	}
	const limit = 24 << 20
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > limit {
		t.Errorf("two tables of 10,000 peers take %d bytes, the limit is %d", used, limit)
	} else {
		t.Logf("two tables of 10,000 peers take %d bytes", used)
	}
	runtime.KeepAlive(first)
	runtime.KeepAlive(second)
}

// What a lease event costs in a large cluster, and what a packet does.
func BenchmarkNewTable(b *testing.B) {
	leases := manyLeases(10_000)
	s := self()
	s.Network.IPv4 = pfx("10.0.0.0/8")
	table := NewTable(s, leases, nil)
	b.ReportAllocs()
	for b.Loop() {
		table = NewTable(s, leases, table)
	}
}

func BenchmarkLookup(b *testing.B) {
	s := self()
	s.Network.IPv4 = pfx("10.0.0.0/8")
	table := NewTable(s, manyLeases(10_000), nil)
	var inner [256]netip.Addr
	for i := range inner {
		inner[i] = netip.AddrFrom4([4]byte{10, byte(64 + i*7%39), byte(i * 31), 9})
	}
	b.ReportAllocs()
	i := 0
	for b.Loop() {
		if table.Lookup(inner[i%256]) == nil {
			b.Fatal(inner[i%256])
		}
		i++
	}
}
