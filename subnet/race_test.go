package subnet

import (
	"fmt"
	"net/netip"
	"testing"
	"time"
)

func TestAhead(t *testing.T) {
	tab := newTable()
	for i, key := range []string{sub1, sub2} {
		tab.leases.put(entry{key, fmt.Sprint("node", i), otherIP, false}.lease(t, 1))
	}
	for i := range 6 {
		id := fmt.Sprint("node", i)
		tab.alive[id] = Node{ID: id}
	}
	for id, want := range map[string]int{"node0": 0, "node2": 0, "node3": 1, "node5": 3, "zzz": 4} {
		if got := tab.ahead(id); got != want {
			t.Errorf("%d ahead of %s, want %d", got, id, want)
		}
	}
}

func TestRaceWait(t *testing.T) {
	now := time.Now()
	r := race{lostAt: now, jitter: 0.5}
	if got, want := r.until(3).Sub(now), 35*minAttempt/10; got != want {
		t.Errorf("without experience: %v, want %v", got, want)
	}
	for range 20 {
		r.listed(30 * time.Millisecond)
		r.created(70 * time.Millisecond)
	}
	if got := r.until(3).Sub(now); got < 349*time.Millisecond || got > 350*time.Millisecond {
		t.Errorf("with attempts of 100 ms: %v, want 350 ms", got)
	}
	if got := r.until(1000).Sub(now); got != maxRaceWait {
		t.Errorf("with a thousand nodes ahead: %v, want %v", got, maxRaceWait)
	}
}

func TestBackoff(t *testing.T) {
	b := backoff{min: 100 * time.Millisecond, max: time.Second}
	for round := range 2 {
		for _, limit := range []time.Duration{100, 200, 400, 800, 1000, 1000} {
			limit *= time.Millisecond
			if d := b.delay(); d < limit/4 || d > limit {
				t.Errorf("round %d: %v, want between a quarter and all of %v", round, d, limit)
			}
		}
		b.reset()
	}
}

func TestBudget(t *testing.T) {
	b := budget{size: 2, window: time.Minute}
	now := time.Now()
	for _, tt := range []struct {
		after time.Duration
		want  time.Duration
	}{{0, 0}, {10 * time.Second, 0}, {20 * time.Second, 40 * time.Second}, {60 * time.Second, 0}, {61 * time.Second, 9 * time.Second}, {70 * time.Second, 0}} {
		got := b.wait(now.Add(tt.after))
		if got != tt.want {
			t.Errorf("after %v: wait %v, want %v", tt.after, got, tt.want)
		}
		if got == 0 {
			b.spend(now.Add(tt.after))
		}
	}
}

func TestLeaseSet(t *testing.T) {
	set := newLeaseSet([]Lease{{Subnet: mustKey(t, sub3), Revision: 1}, {Subnet: mustKey(t, sub1), Revision: 2}})
	set.put(Lease{Subnet: mustKey(t, sub2), Revision: 3})
	set.put(Lease{Subnet: mustKey(t, sub3), Revision: 4})
	set.put(Lease{Subnet: mustKey(t, "10.5.3.0-25"), Revision: 5})
	check := func(want string) {
		t.Helper()
		var got []int64
		for _, l := range set.sorted {
			got = append(got, l.Revision)
		}
		if fmt.Sprint(got) != want {
			t.Errorf("revisions in order %v, want %s", got, want)
		}
	}
	check("[2 3 4 5]")
	set.remove(mustKey(t, sub1))
	set.remove(mustKey(t, sub1))
	check("[3 4 5]")
	if l, ok := set.get(mustKey(t, sub2)); !ok || l.Revision != 3 {
		t.Errorf("got %+v, %t", l, ok)
	}
	if l, ok := set.get(mustKey(t, sub1)); ok {
		t.Errorf("got a removed lease: %+v", l)
	}
	set.removeOverlapping(Subnet{IPv4: netip.MustParsePrefix("10.5.3.128/25")})
	check("[3 5]")
}
