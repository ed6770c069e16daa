package udp

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// worker carries packets both ways between one queue of the TUN and one socket
// of each address family, batch by batch in turns. One thread for both ways is
// woken less often than two, and what one way leaves in the cache serves the
// other; see docs/datapath.md for the figures. More CPUs have more workers.
type worker struct {
	closing   *atomic.Bool
	poller    poller
	sender    *sender
	receivers []*receiver

	ports []portState // the TUN, then each socket
	err   error       // of receiving during a rest
}

// defaultWorkers is how many workers suit a number of CPUs: half of them, for
// the kernel's part of the work and those for whom it is done want some too. On
// two CPUs, one worker was measured to carry more than two.
func defaultWorkers(cpus int) int {
	return min(max(cpus/2, 1), maxWorkers)
}

// maxWorkers bounds what they take of memory, 2 MB each. More have not been
// measured.
const maxWorkers = 4

// newWorker joins a sender and receivers; the poller has the ports in the same
// order, the TUN first.
func newWorker(closing *atomic.Bool, poller poller, s *sender, receivers []*receiver) *worker {
	w := &worker{closing: closing, poller: poller, sender: s, receivers: receivers, ports: make([]portState, 1+len(receivers))}
	for i, r := range receivers {
		for _, batch := range s.batches {
			if batch != nil && batch.port == r.socket {
				batch.rest = func(events int16, timeout time.Duration) { w.rest(&w.ports[1+i], events, timeout) }
			}
		}
	}
	return w
}

// run carries packets until the engine is closed; an error means that it
// cannot go on.
func (w *worker) run(t *thread) error {
	for !w.closing.Load() {
		t.idle()
		for i := range w.ports {
			w.ports[i].want = unix.POLLIN
		}
		w.poller.poll(w.ports, 0)
		t.busy()
		if err := w.receive(); err != nil {
			return err
		}
		if err := w.sender.serve(w.ports[0].ready); err != nil {
			return err
		}
		if w.err != nil {
			return w.err
		}
	}
	return nil
}

// receive carries what has arrived at the sockets.
func (w *worker) receive() error {
	for i, r := range w.receivers {
		if err := r.serve(w.ports[1+i].ready &^ unix.POLLOUT); err != nil {
			return err
		}
	}
	return nil
}

// rest waits, for the sender, for an event at a socket or a time to pass. An
// underlay that is slower than what is sent must not hold up what comes in:
// that is carried meanwhile.
func (w *worker) rest(socket *portState, events int16, timeout time.Duration) {
	for end := time.Now().Add(timeout); timeout > 0 && w.err == nil && !w.closing.Load(); timeout = time.Until(end) {
		for i := range w.ports {
			w.ports[i].want = unix.POLLIN
		}
		w.ports[0].want = 0 // the sender is busy
		socket.want |= events
		w.poller.poll(w.ports, timeout)
		enough := socket.ready&events != 0
		w.err = w.receive()
		if enough {
			return
		}
	}
}
