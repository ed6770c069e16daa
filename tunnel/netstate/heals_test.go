package netstate

import (
	"testing"
	"time"
)

func TestFightIsNoticedOnceAndSlowedDown(t *testing.T) {
	h := make(heals)
	now := time.Unix(0, 0)
	for i := range fightLimit {
		if h.note("route", now) {
			t.Fatalf("heal %d is called a fight", i+1)
		}
		if w := h.blocked("route", now); w != 0 {
			t.Fatalf("heal %d is followed by a wait of %v", i+1, w)
		}
		now = now.Add(100 * time.Millisecond)
	}
	if !h.note("route", now) {
		t.Fatal("one heal too many is not called a fight")
	}
	for _, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60} {
		want *= time.Second
		if w := h.blocked("route", now); w != want {
			t.Fatalf("wait of %v, want %v", w, want)
		}
		if w := h.blocked("route", now.Add(want-time.Second)); w != time.Second {
			t.Fatalf("a second before the end the wait is %v", w)
		}
		now = now.Add(want)
		if w := h.blocked("route", now); w != 0 {
			t.Fatalf("wait of %v after the back-off", w)
		}
		if h.note("route", now) {
			t.Fatal("the fight is called one a second time")
		}
	}
}

func TestHealsSpreadOutAreNoFight(t *testing.T) {
	h := make(heals)
	now := time.Unix(0, 0)
	for i := range 100 {
		if h.note("route", now) {
			t.Fatalf("heal %d is called a fight", i+1)
		}
		now = now.Add(fightWindow / (fightLimit - 1))
	}
}

func TestPeaceIsForgiven(t *testing.T) {
	h := make(heals)
	now := time.Unix(0, 0)
	for range fightLimit + 1 {
		h.note("route", now)
	}
	now = now.Add(fightWindow + minBackOff)
	h.forget(now)
	if len(h) != 1 {
		t.Fatal("forgotten too early")
	}
	now = now.Add(time.Second)
	if h.note("route", now) || h.blocked("route", now) != 0 {
		t.Fatal("an old fight counts still")
	}
	h.note("other", now)
	now = now.Add(fightWindow + time.Second)
	if h.forget(now); len(h) != 0 {
		t.Fatalf("%d objects are still remembered", len(h))
	}
}

func TestFightsAreApart(t *testing.T) {
	h := make(heals)
	now := time.Unix(0, 0)
	for range fightLimit + 1 {
		h.note("a", now)
	}
	if w := h.blocked("b", now); w != 0 {
		t.Fatalf("b waits %v for the fight over a", w)
	}
}
