package labtest

import (
	"errors"
	"testing"
)

func TestLossless(t *testing.T) {
	const last = ^uint32(0) // behind which the count goes round
	for _, c := range []struct {
		name   string
		drops  []uint32 // as counted before and after each exchange
		fails  int      // exchanges, from the first on
		done   int
		passes bool
	}{
		{"nothing is lost", []uint32{5}, 0, 1, true},
		{"nothing is lost here", []uint32{5, 6}, 0, 1, true},
		{"lost, not by the machine", []uint32{5, 5}, 9, 1, false},
		{"lost, with something of the machine's", []uint32{5, 6, 6}, 1, 2, true},
		{"the count goes round", []uint32{last, 0, 0}, 1, 2, true},
		{"lost again, not by the machine", []uint32{5, 6, 6, 6}, 9, 2, false},
		{"lost between two exchanges", []uint32{5, 6, 7, 7}, 9, 2, false},
		{"lost again and again", []uint32{0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6}, 5, 6, true},
		{"lost all the time", []uint32{0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5, 6}, 9, 6, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			lost := errors.New("lost")
			read, done := 0, 0
			err := lossless(t, func() uint32 { read++; return c.drops[read-1] }, func() error {
				if done++; done <= c.fails {
					return lost
				}
				return nil
			})
			if done != c.done || c.passes != (err == nil) || !c.passes && !errors.Is(err, lost) {
				t.Errorf("after %d exchanges: %v", done, err)
			}
		})
	}
}

// Each CPU has a line, and may have dropped nothing.
func TestBacklogDrops(t *testing.T) {
	if first, then := backlogDrops(t), backlogDrops(t); then-first > 1<<31 {
		t.Errorf("%d, then %d", first, then)
	}
}
