package subnet

import (
	"math/rand/v2"
	"time"
)

// backoff gives growing, jittered delays between attempts, so that many nodes
// that failed together do not come back together.
type backoff struct {
	min, max time.Duration
	next     time.Duration // upper limit of the next delay
}

func (b *backoff) delay() time.Duration {
	limit := max(b.next, b.min)
	b.next = min(2*limit, b.max)
	return limit/4 + rand.N(limit*3/4)
}

func (b *backoff) reset() { b.next = 0 }

// budget allows something size times in any window.
type budget struct {
	size   int
	window time.Duration
	spent  []time.Time // the last times, oldest first
}

// wait returns how long until the next time, zero if it may be now.
func (b *budget) wait(now time.Time) time.Duration {
	if len(b.spent) < b.size {
		return 0
	}
	return max(0, b.window-now.Sub(b.spent[0]))
}

func (b *budget) spend(now time.Time) {
	b.spent = append(b.spent, now)
	if len(b.spent) > b.size {
		b.spent = b.spent[1:]
	}
}
