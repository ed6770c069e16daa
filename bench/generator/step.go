package generator

import (
	"fmt"
	"math"
	"time"

	"golang.org/x/sys/unix"
)

// Step is a span of time with traffic of one kind. Only UDP minds the step's
// number, end and rate; other traffic starts with the first step and goes on
// through all further ones.
type Step struct {
	Number uint32  // from 1; tells the datagrams of one step from the next one's
	Until  int64   // end of the step, in the time of a Window's clock
	Rate   float64 // UDP: datagrams per second; 0 is as many as the sender can
	Window Window  // when to count, not beyond Until
}

// Window is when to count: CLOCK_MONOTONIC in nanoseconds, which is the same
// in all processes of a machine.
type Window struct {
	Start, End int64
}

func (s Step) validate() error {
	if s.Window.End < s.Window.Start || s.Until < s.Window.End {
		return fmt.Errorf("the window is out of order, or ends after the step: %+v", s)
	}
	return nil
}

// Count is what happened within the Window, or nearly: on a busy machine a
// process wakes up late, so that it tells how long it counted.
type Count struct {
	Elapsed time.Duration
	Bytes   uint64 // of payload
	Packets uint64 // UDP, Echo: datagrams, answered ones for the sender of Echo; Connect: connections
	Lost    uint64 // Echo: requests without an answer
	OfStep  uint64 // UDP: datagrams of the whole step, however late they arrived
	HalfRTT Latency
}

// Latency are half round-trip times of Echo, in nanoseconds.
type Latency struct {
	P50, P99, P999, Max int64
}

// countStep sleeps through the step.
func countStep(w worker, s Step) Count {
	SleepUntil(s.Window.Start)
	start, before := Now(), w.count()
	SleepUntil(s.Window.End)
	end, c := Now(), w.count()
	c.Elapsed = time.Duration(end - start)
	c.Bytes -= before.Bytes
	c.Packets -= before.Packets
	c.Lost -= before.Lost
	w.finish(&c, Window{start, end})
	if o, ok := w.(stepper); ok {
		c.OfStep = o.end(s)
	}
	return c
}

// Now is the present time of a Window's clock, without a system call.
func Now() int64 { return epochNanoseconds + int64(time.Since(epoch)) }

// One moment on the clocks of Go and of a Window.
var epoch, epochNanoseconds = sameMoment()

// sameMoment reads both clocks so that a process which is held up in between, on a busy
// machine, is not ahead of others by that from then on.
func sameMoment() (at time.Time, nanoseconds int64) {
	const tries = 100
	closest := int64(math.MaxInt64)
	for range tries {
		before := monotonic()
		now := time.Now()
		if apart := monotonic() - before; apart < closest {
			closest, at, nanoseconds = apart, now, before+apart/2
		}
	}
	return at, nanoseconds
}

func monotonic() int64 {
	var t unix.Timespec
	// It cannot fail: the clock exists and the address is valid.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// SleepUntil waits for a time of a Window's clock.
func SleepUntil(t int64) { time.Sleep(time.Duration(t - Now())) }
