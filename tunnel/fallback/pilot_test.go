package fallback

import (
	"testing"
	"time"
)

// For how long this process stood still is told once, and moments do not count.
func TestStoodStill(t *testing.T) {
	const ms = time.Millisecond
	pl := &pilot{}
	last := time.Now()
	for i, step := range []struct {
		after  time.Duration
		unread bool
		want   time.Duration
	}{
		{tick, false, 0},
		{pause - ms, false, 0},
		{pause, false, pause},
		{10 * time.Second, true, 10 * time.Second},
		{tick, true, 0},
		{tick - ms, true, 0},
		{ms, false, 0}, // received in time
		{60 * ms, true, 0},
		{60 * ms, true, 120 * ms},
		{60 * ms, true, 0},
		{60 * ms, true, 120 * ms},
		{tick, false, 0},
	} {
		now := last.Add(step.after)
		if got := pl.stoodStill(last, now, step.unread); got != step.want {
			t.Errorf("step %d: %v, want %v", i, got, step.want)
		}
		last = now
	}
}
