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
	leases   leaseSet
	alive    map[string]Node     // by ID
	bad      map[string]BadEntry // by key

	aliveShown bool // alive is part of a View, so that it is not to be written to

	// lost holds leases of which only the registry's loss of its data tells
	// that they are gone. Their owners write them again; until lostUntil they
	// count as if they had.
	lost      leaseSet
	lostUntil time.Time // zero while nothing is lost
}

// lostGrace is how long owners may take to write their leases again after the
// registry lost its data: each notices within its watch's sign of contact.
const lostGrace = time.Minute

func newTable() *table {
	return &table{alive: map[string]Node{}, bad: map[string]BadEntry{}}
}

// replace takes a snapshot for all that is known. Revisions lower than before
// mean that the registry lost data: leases missing then are kept for a while.
func (t *table) replace(s *Snapshot, now time.Time) (lostData bool) {
	old := t.leases
	lostData = s.Revision < t.revision
	t.leases = newLeaseSet(s.Leases)
	t.bad = make(map[string]BadEntry, len(s.Bad))
	for _, b := range s.Bad {
		t.bad[b.Key] = b
		t.keepReadable(b, old)
	}
	t.alive, t.aliveShown = make(map[string]Node, len(s.Alive)), false
	maps.Copy(t.alive, s.Alive)
	t.revision = s.Revision
	if lostData {
		t.lost = leaseSet{slices.Clone(old.sorted)}
		t.lostUntil = now.Add(lostGrace)
	}
	t.settleLost()
	return lostData
}

// settleLost drops the lost leases that are there again, and then those whose
// place is taken: few, if any.
func (t *table) settleLost() {
	t.lost.sorted = slices.DeleteFunc(t.lost.sorted, func(l *Lease) bool {
		_, again := t.leases.get(l.Subnet)
		return again
	})
	t.lost.sorted = slices.DeleteFunc(t.lost.sorted, func(l *Lease) bool {
		return slices.ContainsFunc(t.leases.sorted, func(o *Lease) bool { return o.Subnet.Overlaps(l.Subnet) })
	})
}

// keepReadable leaves a lease in place whose value became unreadable: its
// owner is about to write it again.
func (t *table) keepReadable(b BadEntry, old leaseSet) {
	dir, name, _ := cutLast(b.Key, "/")
	if !strings.HasSuffix(dir, "/subnets") {
		return
	}
	if s, err := ParseKey(name); err == nil {
		if l, ok := old.get(s); ok {
			t.leases.put(l)
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
		if old, ok := t.leases.get(l.Subnet); !ok || old.Revision < l.Revision {
			t.put(l)
		}
	}
	for _, s := range ch.Deleted {
		t.clearBad("/subnets/" + s.Key())
		if old, _ := t.leases.get(s); old.Revision <= ch.Revision {
			t.leases.remove(s)
		}
	}
	if t.aliveShown && len(ch.Up)+len(ch.Down) > 0 {
		t.alive, t.aliveShown = maps.Clone(t.alive), false
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
	t.leases.put(l)
	t.lost.removeOverlapping(l.Subnet)
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
	t.lost = leaseSet{}
	return true
}
