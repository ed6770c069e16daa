package generator

import (
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	const rate = 1_000_000 // a datagram each microsecond, 100 in a group, so a batch
	p := newPace(rate, 5000)
	for _, c := range []struct {
		now  int64
		n    int
		wake int64
	}{
		{5000, 0, 5000 + 64_001},
		{5000 + 63_000, 0, 5000 + 64_001},
		{5000 + 64_001, 64, 0},
		{5000 + 64_001, 0, 5000 + 128_001},
		{5000 + 400_000, 64, 0}, // late: 336 are due, a batch at a time
		{5000 + 400_000, 64, 0},
		// Later than a sender may make up for: of 10 ms, 2 ms.
		{5000 + 10_400_000, 64, 0},
	} {
		n, wake := p.due(c.now)
		if n != c.n || wake != c.wake {
			t.Errorf("at %d: %d datagrams or wait until %d, want %d, %d", c.now, n, wake, c.n, c.wake)
		}
		p.sent(n)
	}
	made := 0
	for n, _ := p.due(5000 + 10_400_000); n > 0; n, _ = p.due(5000 + 10_400_000) {
		p.sent(n)
		made += n
	}
	if most := int(arrears / time.Microsecond); made < most-2*batch || made > most {
		t.Errorf("after a pause %d datagrams go at once", made)
	}
	if n, _ := newPace(0, 0).due(0); n != batch {
		t.Errorf("without a limit %d are due", n)
	}
	if n, wake := newPace(10, 0).due(1); n != 0 || wake != 100_000_001 {
		t.Errorf("ten a second: %d, %d", n, wake)
	}
}

// A pace keeps its rate over a long time, whatever the rate.
func TestPaceKeepsTheRate(t *testing.T) {
	for _, rate := range []float64{10, 400, 1000, 12345, 333_333, 2_000_000} {
		p := newPace(rate, 0)
		for now := int64(0); now <= int64(time.Second)+10; {
			n, wake := p.due(now)
			if n > 0 {
				p.sent(n)
			} else if now >= wake {
				t.Fatalf("rate %v: nothing to do, and no time to wait at %d", rate, now)
			} else {
				now = wake
			}
		}
		if p.count < int(rate)-p.group || p.count > int(rate)+p.group {
			t.Errorf("%d datagrams in a second at a rate of %v", p.count, rate)
		}
	}
}

// A sender that wakes up late each time, as all do, still sends at a low rate.
func TestPaceOfALateSender(t *testing.T) {
	p := newPace(100, 0)
	for now := int64(0); now < int64(time.Second); {
		n, wake := p.due(now)
		p.sent(n)
		if n == 0 {
			now = wake + int64(50*time.Microsecond)
		}
	}
	if p.count < 95 || p.count > 100 {
		t.Errorf("%d datagrams in a second at a rate of 100", p.count)
	}
}

// A rate at which nothing is ever due is waited for, not for ever.
func TestPaceOfHardlyAnything(t *testing.T) {
	for _, rate := range []float64{1e-6, 1e-12, 1e-300} {
		now := int64(1e13)
		p := newPace(rate, now)
		for range 3 {
			now += int64(5 * time.Millisecond)
			n, wake := p.due(now)
			if wait := time.Duration(wake - now); n != 0 || wait <= 0 || wait > 2*time.Hour {
				t.Errorf("rate %v: %d are due, or to wait %v", rate, n, wait)
			}
		}
	}
}
