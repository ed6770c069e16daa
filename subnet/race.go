package subnet

import (
	"math/rand/v2"
	"time"
)

// race is the wait after a create that lost to another node's. When many nodes
// register at once, each success makes all others fail; tried at random, most
// attempts would be in vain. So those without a lease queue up in the order of
// their IDs, and each waits for those ahead of it, for as long as an attempt
// takes it. As they leave the queue the wait becomes shorter: the rate of
// attempts follows that of successes.
type race struct {
	lostAt  time.Time // zero while nothing was lost
	jitter  float64   // of one attempt, 0 to 1
	attempt time.Duration
	listing time.Duration // the part of attempt that listing took
}

const (
	minAttempt = 5 * time.Millisecond
	// maxRaceWait bounds the wait for nodes that do not want a lease after all.
	maxRaceWait = 10 * time.Second
)

func (r *race) lose(now time.Time) {
	r.lostAt, r.jitter = now, rand.Float64()
}

// listed and created note how long the parts of an attempt took.
func (r *race) listed(d time.Duration)  { r.listing = d }
func (r *race) created(d time.Duration) { r.attempt = max(minAttempt, (r.attempt+r.listing+d)/2) }

// until returns when the next attempt is due, with so many nodes ahead.
func (r *race) until(ahead int) time.Time {
	wait := time.Duration((float64(ahead) + r.jitter) * float64(max(r.attempt, minAttempt)))
	return r.lostAt.Add(min(wait, maxRaceWait))
}

// ahead counts the nodes in the queue before this one: those that are announced
// but have no lease.
func (t *table) ahead(id string) int {
	leased := make(map[string]bool, len(t.leases.sorted))
	for _, l := range t.leases.sorted {
		leased[l.Attrs.NodeID] = true
	}
	n := 0
	for other := range t.alive {
		if other < id && !leased[other] {
			n++
		}
	}
	return n
}
