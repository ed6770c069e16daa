package traffic

import (
	"sync"
	"time"
)

// arrivals are the times at which something came in, in order.
type arrivals struct {
	mu  sync.Mutex
	all []time.Time
}

// add puts a time before the last one to that: what waited for a packet that
// was lost and came again was of no use before.
func (a *arrivals) add(at time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.all); n > 0 && at.Before(a.all[n-1]) {
		at = a.all[n-1]
	}
	a.all = append(a.all, at)
}

// Stall is the longest time between two moments in which nothing came in.
func (a *arrivals) Stall(from, until time.Time) (longest time.Duration) {
	a.mu.Lock()
	defer a.mu.Unlock()
	last := from
	for _, at := range a.all {
		if at.After(from) && at.Before(until) {
			longest = max(longest, at.Sub(last))
			last = at
		}
	}
	return max(longest, until.Sub(last))
}
