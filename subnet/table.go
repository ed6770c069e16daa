package subnet

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// table is what the registry is known to hold: a snapshot, and what the watch
// and our own writes changed since.
type table struct {
	revision int64 // everything up to it is known; some of what follows may be
	leases   map[Subnet]Lease
	alive    map[string]Node
	bad      map[string]BadEntry // by key

	// lost holds leases of which only the registry's loss of its data tells
	// that they are gone. Their owners write them again; until lostUntil they
	// count as if they had.
	lost      map[Subnet]Lease
	lostUntil time.Time // zero while nothing is lost
}

// lostGrace is how long owners may take to write their leases again after the
// registry lost its data: each notices within its watch's sign of contact.
const lostGrace = time.Minute

func newTable() *table {
	return &table{
		leases: map[Subnet]Lease{}, alive: map[string]Node{},
		bad: map[string]BadEntry{}, lost: map[Subnet]Lease{},
	}
}

// replace takes a snapshot for all that is known. Revisions lower than before
// mean that the registry lost data: leases missing then are kept for a while.
func (t *table) replace(s *Snapshot, now time.Time) (lostData bool) {
	old := t.leases
	lostData = s.Revision < t.revision
	t.leases = make(map[Subnet]Lease, len(s.Leases))
	for _, l := range s.Leases {
		t.leases[l.Subnet] = l
	}
	t.bad = make(map[string]BadEntry, len(s.Bad))
	for _, b := range s.Bad {
		t.bad[b.Key] = b
		t.keepReadable(b, old)
	}
	t.alive = map[string]Node{}
	maps.Copy(t.alive, s.Alive)
	t.revision = s.Revision
	if lostData {
		maps.Copy(t.lost, old)
		t.lostUntil = now.Add(lostGrace)
	}
	t.settleLost()
	return lostData
}

// settleLost drops the lost leases that are there again, or whose place is
// taken.
func (t *table) settleLost() {
	for lost := range t.lost {
		if _, again := t.leases[lost]; again {
			delete(t.lost, lost)
			continue
		}
		for s := range t.leases {
			if s.Overlaps(lost) {
				delete(t.lost, lost)
				break
			}
		}
	}
}

// keepReadable leaves a lease in place whose value became unreadable: its
// owner is about to write it again.
func (t *table) keepReadable(b BadEntry, old map[Subnet]Lease) {
	dir, name, _ := cutLast(b.Key, "/")
	if !strings.HasSuffix(dir, "/subnets") {
		return
	}
	if s, err := ParseKey(name); err == nil {
		if l, ok := old[s]; ok {
			t.leases[s] = l
		}
	}
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// apply takes what a watch reports and tells whether that was news.
func (t *table) apply(ch Changes) bool {
	if ch.Revision <= t.revision {
		return false // a snapshot taken meanwhile had it
	}
	t.revision = ch.Revision
	for _, l := range ch.Put {
		// Our own write may be known before what preceded it.
		if old, ok := t.leases[l.Subnet]; !ok || old.Revision < l.Revision {
			t.put(l)
		}
	}
	for _, s := range ch.Deleted {
		t.clearBad("/subnets/" + s.Key())
		if t.leases[s].Revision <= ch.Revision {
			delete(t.leases, s)
		}
	}
	for _, n := range ch.Up {
		t.clearBad("/weft/alive/" + n.ID)
		t.alive[n.ID] = n
	}
	for _, id := range ch.Down {
		t.clearBad("/weft/alive/" + id)
		delete(t.alive, id)
	}
	for _, b := range ch.Bad {
		if b.Err == nil {
			delete(t.bad, b.Key)
		} else {
			t.bad[b.Key] = b
		}
	}
	return len(ch.Put)+len(ch.Deleted)+len(ch.Up)+len(ch.Down)+len(ch.Bad) > 0
}

// put notes a lease, written by us or by others.
func (t *table) put(l Lease) {
	t.clearBad("/subnets/" + l.Subnet.Key())
	t.leases[l.Subnet] = l
	for s := range t.lost {
		if s.Overlaps(l.Subnet) {
			delete(t.lost, s)
		}
	}
}

func (t *table) clearBad(suffix string) {
	for key := range t.bad {
		if strings.HasSuffix(key, suffix) {
			delete(t.bad, key)
		}
	}
}

// badLease returns the unreadable value of a subnet's key, if it has one.
func (t *table) badLease(s Subnet) (BadEntry, bool) {
	for key, b := range t.bad {
		if strings.HasSuffix(key, "/subnets/"+s.Key()) {
			return b, true
		}
	}
	return BadEntry{}, false
}

// forgetLost drops the lost leases when their owners had time enough, and
// tells whether that time has come.
func (t *table) forgetLost(now time.Time) bool {
	if !elapsed(&t.lostUntil, now) {
		return false
	}
	clear(t.lost)
	return true
}

// sorted returns the leases of all maps in order of their subnets.
func sorted(all ...map[Subnet]Lease) []Lease {
	var leases []Lease
	for _, m := range all {
		leases = slices.AppendSeq(leases, maps.Values(m))
	}
	slices.SortFunc(leases, func(a, b Lease) int { return a.Subnet.Compare(b.Subnet) })
	return leases
}
