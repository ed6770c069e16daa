package assist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

// fakeTrie is the kernel's map of peers.
type fakeTrie struct {
	values map[lpmKey]peerValue
	fail   int    // fails with the so manieth operation from here on, if above 0
	after  func() // each operation
}

var errTrie = errors.New("the map's fault")

func (f *fakeTrie) do(op func()) error {
	if f.fail--; f.fail == 0 {
		return errTrie
	}
	op()
	f.after()
	return nil
}

func (f *fakeTrie) Put(k, v any) error {
	return f.do(func() { f.values[k.(lpmKey)] = v.(peerValue) })
}

func (f *fakeTrie) Delete(k any) error { return f.do(func() { delete(f.values, k.(lpmKey)) }) }

// find is the kernel's longest match, zero if there is none.
func (f *fakeTrie) find(a netip.Addr) peerValue {
	for bits := 32; bits >= 0; bits-- {
		p, _ := a.Prefix(bits)
		if v, ok := f.values[key(p)]; ok {
			return v
		}
	}
	return peerValue{}
}

// fakeMemory is the kernel's array of slots.
type fakeMemory []byte

func (m fakeMemory) ReadAt(b []byte, at int64) (int, error)  { return copy(b, m[at:]), nil }
func (m fakeMemory) WriteAt(b []byte, at int64) (int, error) { return copy(m[at:], b), nil }

// newTable makes an empty table with room for so many slots.
func newTable(slotCount int) (*table, *fakeTrie) {
	f := &fakeTrie{values: make(map[lpmKey]peerValue), after: func() {}}
	return &table{
		kernel:  f,
		slots:   slots{memory: make(fakeMemory, slotCount*slotLen)},
		entries: make(map[netip.Prefix]entry),
	}, f
}

func (t *table) traffic(p netip.Prefix) (tx, rx Count) {
	n, ok := t.slot(p)
	if !ok {
		return tx, rx
	}
	return t.slots.traffic(n)
}

func TestTable(t *testing.T) {
	tab, kernel := newTable(64)
	one, two := pfx("10.5.1.0/24"), pfx("10.5.2.0/24")
	check(t, tab.set([]Peer{{Subnet: one, Public: addr("192.0.2.1"), Limit: 1400, SourcePorts: true}, {Subnet: two}}))
	if got, want := kernel.find(addr("10.5.1.7")), (peerValue{Public: [4]byte{192, 0, 2, 1}, SourcePorts: 1}); got != want {
		t.Errorf("peer %+v, want %+v", got, want)
	}
	if got := kernel.find(addr("10.5.2.7")); got != (peerValue{}) || len(kernel.values) != 2 {
		t.Errorf("user space's peer %+v of %v", got, kernel.values)
	}
	count := func(n uint64) { store64(tab.slots.memory, slotTxPackets, n); store64(tab.slots.memory, slotRxBytes, n) }
	count(7)

	// What stays the same takes no system call, and keeps its counters.
	kernel.after = func() { t.Error("a system call for what is there already") }
	check(t, tab.set([]Peer{{Subnet: pfx("10.5.1.9/24"), Public: addr("192.0.2.1"), Limit: 1300, SourcePorts: true}, {Subnet: two, Public: netip.IPv4Unspecified()}}))
	if got := binary.NativeEndian.Uint32(tab.slots.memory.(fakeMemory)[slotLimit:]); got != 1300 {
		t.Errorf("limit %v, want 1300", got)
	}
	kernel.after = func() {}
	if tx, rx := tab.traffic(one); tx.Packets != 7 || rx.Bytes != 7 {
		t.Errorf("counters %v %v, want 7 packets sent and 7 bytes received", tx, rx)
	}
	check(t, tab.set([]Peer{{Subnet: one, Public: addr("192.0.2.1")}}))
	if tx, _ := tab.traffic(one); tx.Packets != 7 || kernel.find(addr("10.5.1.7")).SourcePorts != 0 || len(kernel.values) != 1 {
		t.Errorf("after another change: %v packets sent, %+v", tx.Packets, kernel.values)
	}

	// Another node with this subnet starts at zero.
	check(t, tab.set([]Peer{{Subnet: one, Public: addr("192.0.2.9")}}))
	if tx, rx := tab.traffic(one); tx != (Count{}) || rx != (Count{}) {
		t.Errorf("another node's counters: %v %v", tx, rx)
	}
	check(t, tab.set(nil))
	if len(kernel.values) != 0 || len(tab.entries) != 0 {
		t.Errorf("left: %v %v", kernel.values, tab.entries)
	}
	if tx, rx := tab.traffic(one); tx != (Count{}) || rx != (Count{}) {
		t.Errorf("nobody's counters: %v %v", tx, rx)
	}

	// So do those that take the places of others.
	check(t, tab.set([]Peer{{Subnet: one, Public: addr("192.0.2.1")}, {Subnet: two, Public: addr("192.0.2.2")}}))
	for _, subnet := range []netip.Prefix{one, two} {
		if tx, rx := tab.traffic(subnet); tx != (Count{}) || rx != (Count{}) {
			t.Errorf("counters of the new %v: %v %v", subnet, tx, rx)
		}
	}
	if tab.slots.used != 2 {
		t.Errorf("%d slots were needed, want 2", tab.slots.used)
	}
}

func TestTableRefuses(t *testing.T) {
	for name, peers := range map[string][]Peer{
		"no subnet":   {{Public: addr("192.0.2.1")}},
		"IPv6 subnet": {{Subnet: pfx("fd00::/64")}},
		"IPv6 public": {{Subnet: pfx("10.5.1.0/24"), Public: addr("2001:db8::1")}},
		"two of one":  {{Subnet: pfx("10.5.1.0/24")}, {Subnet: pfx("10.5.1.1/24")}},
	} {
		tab, kernel := newTable(64)
		check(t, tab.set([]Peer{{Subnet: pfx("10.5.7.0/24")}}))
		if err := tab.set(peers); err == nil || len(kernel.values) != 1 {
			t.Errorf("%s: %v, %v", name, err, kernel.values)
		}
	}
}

func TestTableFull(t *testing.T) {
	many := func(public string) (peers []Peer) {
		for i := range MaxPeers + 3 {
			subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(i >> 8), byte(i), 0}), 24)
			if i < 2 {
				subnet = netip.PrefixFrom(subnet.Addr(), 8+i) // the shortest go first
			}
			peers = append(peers, Peer{Subnet: subnet.Masked(), Public: addr(public)})
		}
		return peers
	}
	tab, kernel := newTable(places)
	most := 0
	kernel.after = func() { most = max(most, len(kernel.values)) }
	for _, public := range []string{"192.0.2.1", "192.0.2.2"} {
		check(t, tab.set(many(public)))
		if len(kernel.values) != MaxPeers {
			t.Errorf("%d peers, want %d", len(kernel.values), MaxPeers)
		}
		if _, ok := kernel.values[key(pfx("10.0.0.0/8"))]; ok {
			t.Error("the shortest prefix is there")
		}
	}
	check(t, tab.set([]Peer{{Subnet: pfx("192.168.0.0/16"), Public: addr("192.0.2.1")}}))
	if tab.slots.used > places || most > places {
		t.Errorf("%d slots and %d entries, more than %d", tab.slots.used, most, places)
	}
}

// At each moment an address is found to be its former peer's or its new one's.
func TestTableBetween(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	peers := func() (list []Peer) {
		seen := map[netip.Prefix]bool{}
		for range random.IntN(12) {
			subnet, _ := netip.AddrFrom4([4]byte{10, byte(random.IntN(2)) << 7, byte(random.IntN(4)) << 6, 0}).Prefix(8 + random.IntN(12))
			if seen[subnet] {
				continue
			}
			seen[subnet] = true
			p := Peer{Subnet: subnet}
			if random.IntN(4) > 0 {
				p.Public = addr(fmt.Sprintf("192.0.2.%d", random.IntN(3)+1))
			}
			list = append(list, p)
		}
		return list
	}
	var probes []netip.Addr
	for i := range 64 {
		probes = append(probes, netip.AddrFrom4([4]byte{10, byte(i>>3) << 5, byte(i) << 5, 1}))
	}
	publics := func(f *fakeTrie) (list [][4]byte) {
		for _, a := range probes {
			list = append(list, f.find(a).Public)
		}
		return list
	}
	tab, kernel := newTable(64)
	for range 2000 {
		next := peers()
		target, want := newTable(64)
		check(t, target.set(next))
		from, to := publics(kernel), publics(want)
		kernel.after = func() {
			for i, is := range publics(kernel) {
				if is != from[i] && is != to[i] {
					t.Fatalf("%v is found to be at %v between %v and %v", probes[i], is, from[i], to[i])
				}
			}
			used := map[uint32]bool{}
			for k, v := range kernel.values {
				if v.Public != [4]byte{} && used[v.Slot] {
					t.Fatalf("%v shares its slot with another peer", k)
				}
				used[v.Slot] = used[v.Slot] || v.Public != [4]byte{}
			}
		}
		// It may be interrupted, and then go another way or on.
		kernel.fail = random.IntN(16)
		if err := tab.set(next); err != nil {
			if !errors.Is(err, errTrie) {
				t.Fatal(err)
			}
			if random.IntN(2) == 0 {
				continue
			}
			kernel.fail, from = 0, publics(kernel)
			check(t, tab.set(next))
		}
		kernel.fail = 0
		if len(kernel.values) != len(want.values) {
			t.Fatalf("%d entries, want %d", len(kernel.values), len(want.values))
		}
		for i, is := range publics(kernel) {
			if is != to[i] {
				t.Fatalf("%v is found to be at %v, want %v", probes[i], is, to[i])
			}
		}
		if inUse := int(tab.slots.used) - len(tab.slots.free); inUse > len(next) {
			t.Fatalf("%d slots in use by %d peers", inUse, len(next))
		}
	}
}
