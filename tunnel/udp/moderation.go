package udp

import "time"

// A flood of datagrams is read from the TUN in batches, with a pause before each,
// as a network card moderates its interrupts: who sends does not pay for waking
// this thread again and again, and longer batches cost less for each packet, here
// and at the other end. Whatever else comes to the same queue waits as long. What
// arrives at a socket does not: it ends the pause.
const (
	floodPause = 50 * time.Microsecond

	// A flood is so many datagrams in a window: 100 thousand a second, of which
	// five come during a pause.
	floodWindow    = time.Millisecond
	floodDatagrams = 100
)

// moderation tells whether a flood of datagrams lasts.
type moderation struct {
	began     int64 // of the window, in nanoseconds after epoch
	datagrams int   // in it
	on        bool
}

// note takes note of datagrams that were read, none maybe, at a time in
// nanoseconds after epoch.
func (m *moderation) note(now int64, datagrams int) {
	if window := now - m.began; window >= int64(floodWindow) {
		// A window that is twice as long and more was ended by silence.
		m.on = m.datagrams >= floodDatagrams && window < 2*int64(floodWindow)
		m.began, m.datagrams = now, 0
	}
	m.datagrams += datagrams
}
