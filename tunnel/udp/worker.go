package udp

import "sync/atomic"

// worker carries packets both ways between one queue of the TUN and one socket
// of each address family, batch by batch in turns. One thread for both ways is
// woken less often than two, and what one way leaves in the cache serves the
// other; see docs/datapath.md for the figures. More CPUs have more workers.
type worker struct {
	closing   *atomic.Bool
	poller    poller
	sender    *sender
	receivers []*receiver

	ready []int16 // of the TUN, then of each socket
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

func newWorker(closing *atomic.Bool, poller poller, s *sender, receivers []*receiver) *worker {
	return &worker{closing: closing, poller: poller, sender: s, receivers: receivers, ready: make([]int16, 1+len(receivers))}
}

// run carries packets until the engine is closed; an error means that it
// cannot go on.
func (w *worker) run(t *thread) error {
	for !w.closing.Load() {
		t.idle()
		w.poller.poll(w.ready)
		t.busy()
		for i, r := range w.receivers {
			if err := r.serve(w.ready[1+i]); err != nil {
				return err
			}
		}
		if err := w.sender.serve(w.ready[0]); err != nil {
			return err
		}
	}
	return nil
}
