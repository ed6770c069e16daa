package tunnel

import (
	"math/rand/v2"
	"sync/atomic"
)

// EchoWindow is how many of the latest probes of a peer may still be answered.
const EchoWindow = 64

// Echoes are the probes (package probe) of one kind sent to one peer, and which
// of them were answered. Whoever probes calls Next and Take, from one goroutine; the
// receiving threads call Note. The zero Echoes is ready.
//
// A nonce is a random number that is the peer's, plus the probe's sequence
// number, which counts from 1: who does not see the probes cannot answer them.
type Echoes struct {
	base     atomic.Uint64 // 0 before the first probe
	sent     atomic.Uint64 // sequence number of the last probe
	answered atomic.Uint64 // one bit for each of the window
}

// Next counts a probe and returns its number and its nonce.
func (e *Echoes) Next() (seq, nonce uint64) {
	if e.base.Load() == 0 {
		e.base.Store(rand.Uint64() | 1)
	}
	seq = e.sent.Load() + 1
	e.answered.And(^bit(seq)) // an answer to the probe before the window's
	e.sent.Store(seq)
	return seq, e.base.Load() + seq
}

// Note notes an answer, and returns false if there is no probe of the window
// that it answers.
func (e *Echoes) Note(nonce uint64) bool {
	base, sent := e.base.Load(), e.sent.Load()
	seq := nonce - base
	if base == 0 || seq == 0 || seq > sent || sent-seq >= EchoWindow {
		return false
	}
	e.answered.Or(bit(seq))
	return true
}

// Take calls f with the number of each probe answered since the last Take, in
// order.
func (e *Echoes) Take(f func(seq uint64)) {
	if e.answered.Load() == 0 { // as mostly
		return
	}
	answered := e.answered.Swap(0)
	sent := e.sent.Load()
	for seq := max(sent, EchoWindow) - EchoWindow + 1; seq <= sent; seq++ {
		if answered&bit(seq) != 0 {
			f(seq)
		}
	}
}

func bit(seq uint64) uint64 { return 1 << (seq % EchoWindow) }
