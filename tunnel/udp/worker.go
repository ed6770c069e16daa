package udp

import (
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// worker carries packets both ways between one queue of the TUN and one socket
// of each address family, and those of a flood from its ring, batch by batch in
// turns. One thread for both ways is woken less often than two, and what one way
// leaves in the cache serves the other; see docs/datapath.md for the figures. More
// CPUs have more workers.
type worker struct {
	closing   *atomic.Bool
	poller    poller
	sender    *sender
	receivers []*receiver
	sendOnly  []*sendBatch // those of further source ports

	ports      []portState // the TUN, the ring, then each socket, as the receivers and sendOnly
	moderation moderation
	err        error // of receiving during a rest
}

// defaultWorkers is how many workers suit a number of CPUs: half of them, for
// the kernel's part of the work and those for whom it is done want some too. On
// two CPUs, one worker was measured to carry more than two.
func defaultWorkers(cpus int) int {
	return min(max(cpus/2, 1), maxWorkers)
}

// Which of the ports is what.
const (
	tunAt = iota
	ringAt
	socketsAt
)

// maxWorkers bounds what they take of memory, 2 MB each and 1 MB for the ring. More
// have not been measured.
const maxWorkers = 4

// newWorker joins a sender and receivers; the poller has the ports in the same
// order, the TUN and the ring first, and those by which is only sent last.
func newWorker(closing *atomic.Bool, poller poller, s *sender, receivers []*receiver, sendOnly []*sendBatch) *worker {
	w := &worker{closing: closing, poller: poller, sender: s, receivers: receivers, sendOnly: sendOnly}
	w.ports = make([]portState, socketsAt+len(receivers)+len(sendOnly))
	restAt := func(batch *sendBatch, port *portState) {
		batch.rest = func(events int16, timeout time.Duration) { w.rest(port, events, timeout) }
	}
	for i, r := range receivers {
		for _, list := range s.batches {
			if len(list) > 0 && list[0].port == r.socket {
				restAt(list[0], &w.ports[socketsAt+i])
			}
		}
	}
	for i, batch := range sendOnly {
		restAt(batch, &w.ports[socketsAt+len(receivers)+i])
	}
	return w
}

// run carries packets until the engine is closed; an error means that it
// cannot go on.
func (w *worker) run(t *thread) error {
	for !w.closing.Load() {
		t.idle()
		w.await()
		now := t.busy()
		if err := w.receive(); err != nil {
			return err
		}
		if err := w.sender.serve(w.ports[tunAt].ready); err != nil {
			return err
		}
		w.moderation.note(now, w.sender.datagrams, w.sender.taken)
		if w.err != nil {
			return w.err
		}
	}
	return nil
}

// await waits until there is something to carry. While a flood of datagrams
// lasts, that takes a time of its own: see moderation.
func (w *worker) await() {
	w.wantAll()
	m, tun, ring := &w.moderation, &w.ports[tunAt], &w.ports[ringAt]
	if !w.sender.drained || !m.tun && !m.ring {
		w.poller.poll(w.ports, 0)
		return
	}
	if m.tun {
		tun.want = 0
	}
	if m.ring {
		ring.want = 0
	}
	w.poller.poll(w.ports, floodPause)
	if m.tun {
		tun.ready = unix.POLLIN // for all we know
	}
}

// wantAll asks for what is waited for as a rule.
func (w *worker) wantAll() {
	for i := range w.ports {
		w.ports[i].want = unix.POLLIN
		if i >= socketsAt+len(w.receivers) {
			w.ports[i].want = unix.POLLERR
		}
	}
}

// receive carries what has arrived at the sockets.
func (w *worker) receive() error {
	for i, r := range w.receivers {
		if err := r.serve(w.ports[socketsAt+i].ready &^ unix.POLLOUT); err != nil {
			return err
		}
	}
	for i, batch := range w.sendOnly {
		if w.ports[socketsAt+len(w.receivers)+i].ready&unix.POLLERR != 0 {
			batch.errors.clear()
		}
	}
	return nil
}

// rest waits, for the sender, for an event at a socket or a time to pass. An
// underlay that is slower than what is sent must not hold up what comes in:
// that is carried meanwhile.
func (w *worker) rest(socket *portState, events int16, timeout time.Duration) {
	for end := time.Now().Add(timeout); timeout > 0 && w.err == nil && !w.closing.Load(); timeout = time.Until(end) {
		w.wantAll()
		w.ports[tunAt].want, w.ports[ringAt].want = 0, 0 // the sender is busy
		socket.want |= events
		w.poller.poll(w.ports, timeout)
		enough := socket.ready&events != 0
		w.err = w.receive()
		if enough {
			return
		}
	}
}
