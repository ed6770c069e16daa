package udp

import (
	"errors"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// stuckAfter is how long a thread may be busy with one batch. A batch takes
// milliseconds at most; waiting is no work.
const stuckAfter = time.Second

// thread is a goroutine of the data path on an operating system thread of its
// own, with a heartbeat.
type thread struct {
	name string
	done chan struct{}

	// busySince is when the batch at hand was begun, in nanoseconds after
	// epoch; 0 while the thread waits for input.
	busySince atomic.Int64
}

// epoch is subtracted from times so that they fit an atomic, and so that they
// come from the monotonic clock.
var epoch = time.Now()

// startThread runs loop until it returns; a non-nil error is handed to failed.
func startThread(name string, failed func(error), loop func(*thread) error) *thread {
	t := &thread{name: name, done: make(chan struct{})}
	go func() {
		defer close(t.done)
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		// Else a pause may take 50 µs longer than asked. 0 is the default, for who
		// has the system's thread next. Neither can fail.
		_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)
		defer unix.Prctl(unix.PR_SET_TIMERSLACK, 0, 0, 0, 0)
		if err := loop(t); err != nil {
			failed(err)
		}
	}()
	return t
}

// busy and idle are the heartbeat: busy before each batch, idle before waiting.
// busy returns the time, in nanoseconds after epoch.
func (t *thread) busy() (now int64) {
	now = int64(time.Since(epoch))
	t.busySince.Store(now)
	return now
}

func (t *thread) idle() { t.busySince.Store(0) }

// health returns an error if the thread has ended or hangs.
func (t *thread) health() error {
	select {
	case <-t.done:
		return fmt.Errorf("the %s thread has ended", t.name)
	default:
	}
	since := t.busySince.Load()
	if since == 0 {
		return nil
	}
	if d := time.Since(epoch) - time.Duration(since); d > stuckAfter {
		return fmt.Errorf("the %s thread has made no progress for %v", t.name, d.Round(100*time.Millisecond))
	}
	return nil
}

// join waits for threads to end.
func join(threads []*thread) {
	for _, t := range threads {
		<-t.done
	}
}

var errNotStarted = errors.New("not started")
