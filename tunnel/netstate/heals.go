package netstate

import "time"

// An object that is put back more than fightLimit times within fightWindow is
// being fought over with another program. It is then put back ever more
// seldom, so that neither the log nor the CPU pays for the quarrel.
const (
	fightWindow = time.Minute
	fightLimit  = 10
	minBackOff  = time.Second
	maxBackOff  = time.Minute
)

// heals counts how often each object was put back.
type heals map[string]*healCount

type healCount struct {
	since, last time.Time // first of this window, and last
	count       int       // in this window
	backOff     time.Duration
}

// note counts one heal; it returns true when that begins a fight.
func (h heals) note(object string, now time.Time) (fight bool) {
	c := h[object]
	if c == nil || c.quiet(now) {
		c = &healCount{since: now}
		h[object] = c
	}
	if now.Sub(c.since) > fightWindow {
		c.since, c.count = now, 0
	}
	c.last = now
	c.count++
	switch {
	case c.backOff > 0:
		c.backOff = min(2*c.backOff, maxBackOff)
	case c.count > fightLimit:
		c.backOff = minBackOff
		return true
	}
	return false
}

// blocked returns how long the object is still to be left as it is.
func (h heals) blocked(object string, now time.Time) time.Duration {
	c := h[object]
	if c == nil {
		return 0
	}
	return max(0, c.backOff-now.Sub(c.last))
}

// forget drops the objects that have been left in peace.
func (h heals) forget(now time.Time) {
	for object, c := range h {
		if c.quiet(now) {
			delete(h, object)
		}
	}
}

// quiet: nobody has touched the object for a window after it could last be
// put back.
func (c *healCount) quiet(now time.Time) bool {
	return now.Sub(c.last) > fightWindow+c.backOff
}
