package vtep

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables"
)

// maxElements go into one netlink message, whose attributes hold 64 KiB.
const maxElements = 500

// elements are the peers of one family.
func (f family) elements(peers []netip.Addr) (list []nftables.SetElement) {
	for _, a := range peers {
		if a.Is4() == f.is4 {
			list = append(list, nftables.SetElement{Key: a.AsSlice()})
		}
	}
	return list
}

func addPeers(conn *nftables.Conn, set *nftables.Set, list []nftables.SetElement) {
	for part := range slices.Chunk(list, maxElements) {
		// It fails for sets of another kind only.
		_ = conn.SetAddElements(set, part)
	}
}

func deletePeers(conn *nftables.Conn, set *nftables.Set, list []nftables.SetElement) {
	for part := range slices.Chunk(list, maxElements) {
		_ = conn.SetDeleteElements(set, part)
	}
}

// updatePeers makes both sets hold the peers, and touches nothing else.
func updatePeers(conn *nftables.Conn, peers []netip.Addr) (changed bool, err error) {
	for _, f := range families {
		set := &nftables.Set{Table: ownTable(), Name: f.set, KeyType: f.key}
		have, err := conn.GetSetElements(set)
		if err != nil {
			return false, fmt.Errorf("list set %s: %w", set.Name, err)
		}
		stale := make(map[string]nftables.SetElement, len(have))
		for _, e := range have {
			stale[string(e.Key)] = nftables.SetElement{Key: e.Key}
		}
		var missing, gone []nftables.SetElement
		for _, e := range f.elements(peers) {
			if _, found := stale[string(e.Key)]; !found {
				missing = append(missing, e)
			}
			delete(stale, string(e.Key))
		}
		for _, e := range stale {
			gone = append(gone, e)
		}
		addPeers(conn, set, missing)
		deletePeers(conn, set, gone)
		changed = changed || len(missing)+len(gone) > 0
	}
	if !changed {
		return false, nil
	}
	if err := conn.Flush(); err != nil {
		return false, fmt.Errorf("change the peers: %w", err)
	}
	return true, nil
}
