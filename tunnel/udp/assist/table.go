package assist

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
)

// table is the map of peers, and what is known to be in it.
type table struct {
	kernel interface { // an ebpf.Map
		Put(key, value any) error
		Delete(key any) error
	}
	slots   slots
	entries map[netip.Prefix]entry
}

// entry is what the kernel has of a peer. One without a public address has no
// slot.
type entry struct {
	public      netip.Addr
	slot        uint32
	sourcePorts bool
}

// set makes the table that of the given peers, in an order in which the entry
// found for an address is at any moment the former one or the new one, never
// one of a shorter prefix that neither table would give: first entries are
// written, the longest prefixes first; then those go that are too many, the
// shortest first. After an error it is known how far it got.
func (t *table) set(peers []Peer) error {
	want, err := byPrefix(peers)
	if err != nil {
		return err
	}
	longestFirst := func(a, b netip.Prefix) int {
		return cmp.Or(cmp.Compare(b.Bits(), a.Bits()), a.Addr().Compare(b.Addr()))
	}
	order := slices.SortedFunc(maps.Keys(want), longestFirst)
	for _, subnet := range order[min(len(order), MaxPeers):] {
		delete(want, subnet)
	}
	for _, subnet := range order[:len(want)] {
		if err := t.put(subnet, want[subnet]); err != nil {
			return fmt.Errorf("tell the kernel of the peer %v: %w", subnet, err)
		}
	}
	for _, subnet := range slices.Backward(slices.SortedFunc(maps.Keys(t.entries), longestFirst)) {
		if _, ok := want[subnet]; ok {
			continue
		}
		if err := t.remove(subnet); err != nil {
			return fmt.Errorf("have the kernel forget the peer %v: %w", subnet, err)
		}
	}
	return nil
}

// byPrefix checks the peers.
func byPrefix(peers []Peer) (map[netip.Prefix]Peer, error) {
	all := make(map[netip.Prefix]Peer, len(peers))
	for _, p := range peers {
		switch {
		case !p.Subnet.IsValid() || !p.Subnet.Addr().Is4():
			return nil, fmt.Errorf("peer %v: its subnet is not IPv4", p.Subnet)
		case p.Public.IsValid() && !p.Public.Is4():
			return nil, fmt.Errorf("peer %v: its public address %v is not IPv4", p.Subnet, p.Public)
		}
		p.Subnet = p.Subnet.Masked()
		if p.Public.IsUnspecified() {
			p.Public = netip.Addr{}
		}
		if _, ok := all[p.Subnet]; ok {
			return nil, fmt.Errorf("peer %v: two have this subnet", p.Subnet)
		}
		all[p.Subnet] = p
	}
	return all, nil
}

// put writes one entry, if it is not there already, and its limit.
func (t *table) put(subnet netip.Prefix, p Peer) error {
	is, ok := t.entries[subnet]
	e := entry{public: p.Public, sourcePorts: p.SourcePorts}
	keep := ok && is.public == p.Public // and so is its slot
	switch {
	case !p.Public.IsValid():
		e = entry{}
	case keep:
		e.slot = is.slot
		t.slots.setLimit(e.slot, limit(p.Limit))
	default:
		e.slot = t.slots.take(limit(p.Limit))
	}
	if ok && e == is {
		return nil
	}
	if err := t.kernel.Put(key(subnet), e.value()); err != nil {
		if e.public.IsValid() && !keep {
			t.slots.give(e.slot)
		}
		return err
	}
	t.entries[subnet] = e
	if ok && is.public.IsValid() && !keep {
		t.slots.give(is.slot)
	}
	return nil
}

// remove deletes one entry.
func (t *table) remove(subnet netip.Prefix) error {
	if err := t.kernel.Delete(key(subnet)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return err
	}
	if e := t.entries[subnet]; e.public.IsValid() {
		t.slots.give(e.slot)
	}
	delete(t.entries, subnet)
	return nil
}

// slot returns the slot of a peer, if it has one.
func (t *table) slot(subnet netip.Prefix) (n uint32, ok bool) {
	e, ok := t.entries[subnet.Masked()]
	return e.slot, ok && e.public.IsValid()
}

// maxLimit is the longest inner packet that the kernel sends, in bytes, whatever
// fits the underlay. Its helpers make no packet longer than SKB_MAX_ALLOC in
// linux/skbuff.h: 16064 bytes with pages of 4 KiB, some hundred less with a large
// CONFIG_MAX_SKB_FRAGS. What has room for the outer IP header only (makeRoom)
// would then be dropped for want of room for the Ethernet header (putHeader).
const maxLimit = 15000

// limit is a Limit as a slot has it.
func limit(n int) uint32 { return uint32(min(max(n, 0), maxLimit)) }

// lpmKey is struct bpf_lpm_trie_key of an IPv4 prefix.
type lpmKey struct {
	Bits uint32
	Addr [4]byte
}

func key(p netip.Prefix) lpmKey { return lpmKey{Bits: uint32(p.Bits()), Addr: p.Addr().As4()} }

// peerValue is struct peer, see maps.go.
type peerValue struct {
	Public      [4]byte
	Slot        uint32
	SourcePorts uint32
}

func (e entry) value() (v peerValue) {
	if e.public.IsValid() {
		v = peerValue{Public: e.public.As4(), Slot: e.slot}
	}
	if e.sourcePorts {
		v.SourcePorts = 1
	}
	return v
}
