package netstate

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// settle is how long events are collected before they are looked into,
	// and minGap is the least time between two comparisons on account of
	// events, so that an endless stream of them costs little.
	settle = 5 * time.Millisecond
	minGap = 50 * time.Millisecond

	// backstop is when everything is compared without any event.
	backstop = 10 * time.Second
)

// Reconciler keeps one State. Make it with New, end it with Close.
type Reconciler struct {
	log    *slog.Logger
	kernel *kernel

	applies     chan apply
	withdrawals chan withdrawal
	dirty       chan struct{} // capacity 1: something that matters has happened
	stop        chan struct{}
	stopped     sync.WaitGroup
	close       sync.Once

	interest atomic.Pointer[interest]
	passes   atomic.Uint64 // comparisons so far

	mu       sync.Mutex
	problems []Problem

	backstop time.Duration // the constant, but in tests

	// The rest belongs to the worker.
	want       *State // nil before the first Apply
	heals      heals
	neighbours bool // their events are asked for
}

type apply struct {
	state State
	done  chan error
}

// Problem is an object that is not as the State wants it.
type Problem struct {
	Object string    // "route 10.5.0.0/16 dev flannel0"
	Err    error     // why, and what to do
	Since  time.Time // when it was first seen so

	// Pending: it waits for something that is expected to come back, such as
	// a link that does not exist now. Apply does not report it.
	Pending bool
}

// New makes a Reconciler for the network namespace of the calling thread, and
// starts the goroutines that heal; until the first Apply there is nothing to
// heal. A caller in another namespace than the process must have locked its
// goroutine to the thread; Apply and the rest may then be called from any.
func New(log *slog.Logger) (*Reconciler, error) { return newReconciler(log, backstop) }

func newReconciler(log *slog.Logger, backstop time.Duration) (*Reconciler, error) {
	k, err := openKernel()
	if err != nil {
		return nil, err
	}
	r := &Reconciler{
		log:         log,
		kernel:      k,
		applies:     make(chan apply),
		withdrawals: make(chan withdrawal),
		dirty:       make(chan struct{}, 1),
		stop:        make(chan struct{}),
		backstop:    backstop,
		heals:       make(heals),
	}
	r.interest.Store(&interest{})
	ready := make(chan error, 1)
	r.stopped.Go(func() { r.work(ready) })
	if err := <-ready; err != nil {
		r.stopped.Wait()
		k.close()
		return nil, err
	}
	r.stopped.Go(r.listen)
	return r, nil
}

// Apply replaces the desired state and reconciles once before it returns. All
// objects are attempted whatever fails; the error is the first one that is not
// pending, it names the object and says what to do. Also after an error the
// state is kept and retried.
//
// A State that cannot be valid is refused as a whole, and the former one kept.
func (r *Reconciler) Apply(s State) error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("desired network state: %w", err)
	}
	a := apply{s.clone(), make(chan error, 1)}
	select {
	case r.applies <- a:
		return <-a.done
	case <-r.stop:
		return errors.New("apply network state: closed")
	}
}

// Status lists what is not as desired, as of the last comparison; empty when
// all is well.
func (r *Reconciler) Status() []Problem {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.problems)
}

// Close stops healing and leaves everything as it is. Closing twice is no
// error.
func (r *Reconciler) Close() error {
	r.close.Do(func() {
		close(r.stop)
		r.kernel.events.Close() // wakes listen
		r.stopped.Wait()
		r.kernel.close()
	})
	return nil
}

// work is the goroutine that compares and writes, on a thread of the kernel's
// namespace.
func (r *Reconciler) work(ready chan<- error) {
	moved, err := r.kernel.ns.enter()
	if !moved {
		defer runtime.UnlockOSThread()
	} // else the thread ends with the goroutine
	ready <- err
	if err != nil {
		return
	}

	timer := time.NewTimer(r.backstop)
	defer timer.Stop()
	var last time.Time
	dirty := r.dirty
	var settled <-chan time.Time // when events are looked into; nil while there are none
	for {
		select {
		case <-r.stop:
			return
		case a := <-r.applies:
			r.want = &a.state
			a.done <- r.pass(false)
		case w := <-r.withdrawals:
			w.done <- r.withdraw(w.routes)
			continue
		case <-dirty:
			// Events go on being collected in the meantime, and r.dirty holds
			// that there were some.
			dirty, settled = nil, time.After(max(settle, minGap-time.Since(last)))
			continue
		case <-settled:
			dirty, settled = r.dirty, nil
			r.pass(true)
		case <-timer.C:
			r.pass(true)
		}
		last = time.Now()
		timer.Reset(r.nextTry())
	}
}

// nextTry is the backstop, or earlier when the back-off of a fight ends.
func (r *Reconciler) nextTry() time.Duration {
	next := r.backstop
	now := time.Now()
	for object := range r.heals {
		if wait := r.heals.blocked(object, now); wait > 0 {
			next = min(next, wait)
		}
	}
	return next
}

// pass compares once and reports: to the log when healing, else by the error.
func (r *Reconciler) pass(healing bool) error {
	if r.want == nil {
		return nil
	}
	r.watchNeighbours()
	// Whatever is made below must already count as interesting when its event
	// arrives.
	r.interest.Store(newInterest(*r.want, nil))
	p := &pass{kernel: r.kernel, want: *r.want, heals: r.heals, healing: healing, now: time.Now()}
	p.run()
	r.passes.Add(1)
	r.interest.Store(newInterest(*r.want, p.links))

	r.mu.Lock()
	before := r.problems
	r.problems = p.problems
	carryOver(before, r.problems)
	r.mu.Unlock()

	r.report(p, before)
	return p.firstError()
}

// carryOver keeps the time since when a lasting problem has existed.
func carryOver(before, now []Problem) {
	since := make(map[string]time.Time, len(before))
	for _, p := range before {
		since[p.Object] = p.Since
	}
	for i := range now {
		if t, ok := since[now[i].Object]; ok {
			now[i].Since = t
		}
	}
}
