package udp

import (
	"time"

	"github.com/weftnet/weft/tunnel/udp/assist"
)

// A flood of datagrams is taken in batches, with a pause before each, as a network
// card moderates its interrupts: who sends does not pay for waking this thread again
// and again, and longer batches cost less for each packet, here and at the other end.
// Whatever else comes to a queue of the TUN that has a flood waits as long. What
// arrives at a socket does not: it ends the pause.
const (
	floodPause = 50 * time.Microsecond

	// A flood in the TUN is so many datagrams in a window: 100 thousand a second, of
	// which five come during a pause. What is in the ring is one by itself.
	floodWindow    = time.Millisecond
	floodDatagrams = 100
)

// moderation tells whether a flood of datagrams lasts.
type moderation struct {
	tun, ring bool // it comes by the one or the other

	began     int64 // of the window, in nanoseconds after epoch
	datagrams int   // in it, from the TUN
	taken     int64 // when packets were taken from the ring, in nanoseconds after epoch
}

// note takes note of datagrams that were read from the TUN and of packets that were
// taken from the ring, none maybe, at a time in nanoseconds after epoch.
func (m *moderation) note(now int64, datagrams, taken int) {
	if window := now - m.began; window >= int64(floodWindow) {
		// A window that is twice as long and more was ended by silence.
		m.tun = m.datagrams >= floodDatagrams && window < 2*int64(floodWindow)
		m.began, m.datagrams = now, 0
	}
	m.datagrams += datagrams
	if taken > 0 {
		m.taken, m.ring = now, true
	} else if now-m.taken >= int64(assist.RingSilence) {
		m.ring = false
	}
}
