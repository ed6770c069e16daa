package subnet

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"
)

// contents lists a table's leases as "key@revision", the lost ones after a
// question mark.
func contents(t *table) string {
	var out []string
	for _, l := range t.leases.sorted {
		out = append(out, fmt.Sprintf("%s@%d", l.Subnet.Key(), l.Revision))
	}
	for _, l := range t.lost.sorted {
		out = append(out, "?"+l.Subnet.Key())
	}
	return fmt.Sprint(out)
}

func at(t *testing.T, key string, revision int64) Lease {
	return Lease{Subnet: mustKey(t, key), Revision: revision}
}

func unreadable(key string, revision int64) BadEntry {
	return BadEntry{Key: "/some/prefix/" + key, Revision: revision, Err: errors.New("unreadable")}
}

func TestTableApply(t *testing.T) {
	one, two := mustKey(t, sub1), mustKey(t, sub2)
	start := &Snapshot{Revision: 20, Leases: []Lease{at(t, sub1, 10)}}
	tests := []struct {
		name    string
		changes Changes
		news    bool
		want    string
	}{
		{"put", Changes{Revision: 21, Put: []Lease{at(t, sub2, 21)}}, true, "[10.5.1.0-24@10 10.5.2.0-24@21 10.5.4.0-24@30]"},
		{"delete", Changes{Revision: 21, Deleted: []Subnet{one}}, true, "[10.5.4.0-24@30]"},
		{"delete of what is not there", Changes{Revision: 21, Deleted: []Subnet{two}}, true, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
		{"sign of contact", Changes{Revision: 25}, false, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
		{"put before the snapshot", Changes{Revision: 15, Put: []Lease{at(t, sub2, 15)}}, false, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
		{"delete before the snapshot", Changes{Revision: 9, Deleted: []Subnet{one}}, false, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
		{"put before our own write", Changes{Revision: 25, Put: []Lease{at(t, sub4, 25)}}, true, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
		{"delete before our own write", Changes{Revision: 25, Deleted: []Subnet{mustKey(t, sub4)}}, true, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
		{"put after our own write", Changes{Revision: 31, Put: []Lease{at(t, sub4, 31)}}, true, "[10.5.1.0-24@10 10.5.4.0-24@31]"},
		{"delete after our own write", Changes{Revision: 31, Deleted: []Subnet{mustKey(t, sub4)}}, true, "[10.5.1.0-24@10]"},
		{"unreadable", Changes{Revision: 21, Bad: []BadEntry{unreadable("subnets/"+sub1, 21)}}, true, "[10.5.1.0-24@10 10.5.4.0-24@30]"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tab := newTable()
			tab.replace(start, time.Now())
			tab.put(at(t, sub4, 30)) // our own write, ahead of the watch
			if news := tab.apply(tt.changes); news != tt.news {
				t.Errorf("news: %t, want %t", news, tt.news)
			}
			if got := contents(tab); got != tt.want {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestTableUnreadable(t *testing.T) {
	tab := newTable()
	tab.replace(&Snapshot{Revision: 20, Leases: []Lease{at(t, sub1, 10)}}, time.Now())
	keys := func() []string {
		var k []string
		for key := range tab.bad {
			k = append(k, key)
		}
		slices.Sort(k)
		return k
	}
	// The last readable value stays, also across a list, until the key is gone.
	tab.apply(Changes{Revision: 21, Bad: []BadEntry{unreadable("subnets/"+sub1, 21), unreadable("subnets/nonsense", 21), unreadable("weft/alive/x", 21)}})
	tab.replace(&Snapshot{Revision: 22, Bad: []BadEntry{unreadable("subnets/"+sub1, 21), unreadable("subnets/"+sub2, 22), unreadable("weft/alive/x", 21)}}, time.Now())
	if got, want := contents(tab), "[10.5.1.0-24@10]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if b, ok := tab.badLease(mustKey(t, sub1)); !ok || b.Revision != 21 {
		t.Errorf("got %+v, %t", b, ok)
	}
	tab.apply(Changes{Revision: 23, Deleted: []Subnet{mustKey(t, sub1)}, Down: []string{"x"}})
	if got, want := contents(tab), "[]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got, want := fmt.Sprint(keys()), "[/some/prefix/subnets/10.5.2.0-24]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	tab.apply(Changes{Revision: 24, Put: []Lease{at(t, sub2, 24)}})
	if got := keys(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
	tab.apply(Changes{Revision: 25, Bad: []BadEntry{unreadable("subnets/nonsense", 25)}})
	tab.apply(Changes{Revision: 26, Bad: []BadEntry{{Key: "/some/prefix/subnets/nonsense", Revision: 26}}})
	if got := keys(); len(got) != 0 {
		t.Errorf("got %v, want none", got)
	}
}

// TestTableLost has the registry lose its data.
func TestTableLost(t *testing.T) {
	now := time.Now()
	tab := newTable()
	if tab.replace(&Snapshot{Revision: 100, Leases: []Lease{at(t, sub1, 10), at(t, sub2, 20), at(t, sub3, 30), at(t, sub4, 40)}}, now) {
		t.Error("the first list lost data")
	}
	if !tab.replace(&Snapshot{Revision: 50, Leases: []Lease{at(t, sub1, 10)}}, now) {
		t.Error("a lower revision lost no data")
	}
	check := func(want string) {
		t.Helper()
		if got := contents(tab); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	check("[10.5.1.0-24@10 ?10.5.2.0-24 ?10.5.3.0-24 ?10.5.4.0-24]")
	tab.apply(Changes{Revision: 51, Put: []Lease{at(t, sub2, 51)}})
	tab.apply(Changes{Revision: 52, Put: []Lease{at(t, "10.5.3.128-25", 52)}})
	check("[10.5.1.0-24@10 10.5.2.0-24@51 10.5.3.128-25@52 ?10.5.4.0-24]")
	tab.replace(&Snapshot{Revision: 53, Leases: []Lease{at(t, sub1, 10)}}, now)
	check("[10.5.1.0-24@10 ?10.5.4.0-24]")
	if tab.forgetLost(now.Add(lostGrace - 1)) {
		t.Error("forgotten too early")
	}
	if !tab.forgetLost(now.Add(lostGrace)) || tab.forgetLost(now.Add(2*lostGrace)) {
		t.Error("not forgotten once")
	}
	check("[10.5.1.0-24@10]")
}
