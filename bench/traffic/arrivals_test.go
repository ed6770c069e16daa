package traffic

import (
	"testing"
	"time"
)

func TestStall(t *testing.T) {
	start := time.Now()
	at := func(ms int) time.Time { return start.Add(time.Duration(ms) * time.Millisecond) }
	var a arrivals
	for _, ms := range []int{1, 2, 9, 5, 10, 40, 41} { // 5 waited for 9
		a.add(at(ms))
	}
	for _, c := range []struct{ from, until, want int }{
		{0, 41, 30},
		{0, 10, 7}, // from 2 to 9
		{3, 10, 6}, // of that gap, the part within
		{10, 35, 25},
		{41, 50, 9}, // nothing more came
		{60, 61, 1},
		{5, 5, 0},
	} {
		if got := a.Stall(at(c.from), at(c.until)); got != time.Duration(c.want)*time.Millisecond {
			t.Errorf("from %d ms until %d: %v, want %d ms", c.from, c.until, got, c.want)
		}
	}
}
