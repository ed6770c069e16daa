package traffic_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

// steadyLead is by how long startSteady has the stream advance.
const steadyLead = 100 * time.Millisecond

func startSteady(t *testing.T) (*traffic.Steady, *lab.Namespace, context.Context) {
	t.Helper()
	a, b, addr, _ := twoEnds(t)
	s, err := traffic.StartSteady(t.Context(), a, b, addr, traffic.SegmentPortion)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	if err := s.Advance(ctx, steadyLead); err != nil {
		t.Fatal(err)
	}
	return s, b, ctx
}

// A path that is cut for a while is a stall of at least that time, and no byte
// is lost.
func TestSteadyMeasuresAStall(t *testing.T) {
	s, b, ctx := startSteady(t)
	const cut = 300 * time.Millisecond
	before := time.Now()
	if err := b.LinkDown("eth0"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(cut) // what is to be measured
	if err := b.LinkUp("eth0"); err != nil {
		t.Fatal(err)
	}
	if err := s.Advance(ctx, 200*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	after := time.Now()
	// TCP repeats after a time that doubles, so that the stall is longer.
	if got := s.Stall(before, after); got < cut-10*time.Millisecond || got > after.Sub(before) {
		t.Errorf("cut for %v, measured %v of %v", cut, got, after.Sub(before))
	}
	if got := s.Stall(after, after); got != 0 {
		t.Errorf("within no time %v", got)
	}
	r, err := s.Finish(ctx)
	if err != nil || r.Bytes < 300_000 || r.Sent != r.Received || r.Elapsed < cut {
		t.Errorf("%+v, %v", r, err)
	}
}

// However late its ends are served, it never sends more than its rate.
func TestSteadyIsSteady(t *testing.T) {
	began := time.Now()
	s, _, ctx := startSteady(t)
	start := time.Now()
	if err := s.Advance(ctx, 500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < steadyLead+500*time.Millisecond {
		t.Errorf("half a second's bytes, and those of %v before, came within %v", steadyLead, took)
	}
	if stall := s.Stall(start, time.Now()); stall <= 0 || stall > 5*time.Second {
		t.Errorf("the longest gap is %v", stall)
	}
	if _, err := s.Finish(ctx); err != nil {
		t.Error(err)
	}
}

func TestSteadyEndsWithItsContext(t *testing.T) {
	a, b, addr, _ := twoEnds(t)
	ctx, cancel := context.WithCancel(t.Context())
	s, err := traffic.StartSteady(ctx, a, b, addr, traffic.FullPortion)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := s.Advance(t.Context(), time.Hour); err == nil {
		t.Error("it goes on")
	}
	if _, err := s.Finish(ctx); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

// Only the direction in question counts.
func TestPulse(t *testing.T) {
	a, b, addr, _ := twoEnds(t)
	p, err := traffic.StartPulse(t.Context(), a, b, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	const cut = 200 * time.Millisecond
	before := time.Now()
	if err := b.LinkDown("eth0"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(cut) // what is to be measured
	if err := b.LinkUp("eth0"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(50 * time.Millisecond)
	p.Close()
	if got, most := p.Stall(before, time.Now()), time.Since(before); got < cut-10*time.Millisecond || got > most {
		t.Errorf("cut for %v, measured %v", cut, got)
	}
}
