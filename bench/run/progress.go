package run

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// clearLine returns to the start of the line and erases it (ECMA-48 EL).
const clearLine = "\r\x1b[K"

// progress says what runs, how far the run is and how long it will take: on a
// terminal in one line, else with a line for each round.
type progress struct {
	w        io.Writer
	terminal bool

	began time.Time
	total time.Duration // of all parts, as estimated
	done  time.Duration // of those that are done, as estimated
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w, began: time.Now()}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	return p
}

// say prints a line.
func (p *progress) say(format string, args ...any) {
	if p.terminal {
		fmt.Fprint(p.w, clearLine)
	}
	fmt.Fprintf(p.w, format+"\n", args...)
}

// start begins a run that takes so long, by estimate.
func (p *progress) start(total time.Duration) { p.total, p.done, p.began = total, 0, time.Now() }

// took ends a part that takes so long, by estimate.
func (p *progress) took(d time.Duration) { p.done += d }

// round begins a round.
func (p *progress) round(profile string, n, of int) {
	if !p.terminal {
		fmt.Fprintf(p.w, "%s, round %d of %d: %s left\n", profile, n, of, p.left())
	}
}

// status says on a terminal what runs.
func (p *progress) status(format string, args ...any) {
	if p.terminal && p.total > 0 {
		fmt.Fprintf(p.w, "%s[%2d %%] %s … %s left", clearLine, 100*p.done/p.total, fmt.Sprintf(format, args...), p.left())
	}
}

// end leaves a clean line.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, clearLine)
	}
}

// trusted is how much of the run, by estimate, must be done before the time
// that it took says how good the estimate is.
const trusted = 10 * time.Second

// left is the time left: as estimated, times what the parts so far took of
// their estimate.
func (p *progress) left() time.Duration {
	left := float64(p.total - p.done)
	if p.done > trusted {
		left *= float64(time.Since(p.began)) / float64(p.done)
	}
	return time.Duration(left).Round(time.Second)
}
