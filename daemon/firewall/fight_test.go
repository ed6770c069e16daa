package firewall

import (
	"strings"
	"testing"
	"time"
)

func TestFightSlowsDown(t *testing.T) {
	const resync = 5 * time.Second
	var f fight
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	if got := f.wait(resync); got != settle {
		t.Errorf("before any change: waits %v, want %v", got, settle)
	}
	waits := []time.Duration{ // after each round
		settle, settle, settle, settle, settle, settle, settle, settle,
		2 * settle, 4 * settle, 8 * settle, 16 * settle, resync, resync, resync,
	}
	for i, want := range waits {
		said := f.round(now, resync)
		if fights := strings.Contains(said, "another program"); fights != (i >= 8) {
			t.Errorf("round %d: says %q", i+1, said)
		}
		if got := f.wait(resync); got != want {
			t.Errorf("after round %d: waits %v, want %v", i+1, got, want)
		}
		now = now.Add(2 * resync)
	}
	if f.rest(now, resync) {
		t.Error("the fight is over though the last round was a moment ago")
	}
	now = now.Add(settle + 1)
	if !f.rest(now, resync) {
		t.Error("the fight is not over though the rules have stood")
	}
	if got := f.wait(resync); got != settle {
		t.Errorf("after the fight: waits %v, want %v", got, settle)
	}
	if said := f.round(now, resync); said != "" {
		t.Errorf("a change long after is part of the fight: %q", said)
	}
}

// A timer that is quicker than events settle, as in tests, is no reason to wait less.
func TestFightWithAQuickTimer(t *testing.T) {
	f := fight{rounds: 20}
	if got := f.wait(time.Millisecond); got != settle {
		t.Errorf("waits %v, want %v", got, settle)
	}
}

// Somebody who removes the rules each time is told of.
func TestFightIsTold(t *testing.T) {
	t.Parallel()
	n := newNode(t)
	fw := n.start(t, ModeNFTables, full())
	n.run(t, fw, time.Hour)
	restored, removed := -1, time.Now()
	eventually(t, "the fight is told of", func() bool {
		s := fw.Status()
		// Run may not listen yet: repeat the damage until it is noticed.
		if s.Restored != restored || time.Since(removed) > 4*settle {
			n.sh(t, "nft 'add table inet weft; delete table inet weft'")
			restored, removed = s.Restored, time.Now()
		}
		return strings.Contains(strings.Join(s.Notes, " "), "another program")
	})
}
