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

	total, done int // samples
	began       time.Time
	estimate    time.Duration // of one sample, until some were taken
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
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

// start begins the count of samples.
func (p *progress) start(total int, estimate time.Duration) {
	p.total, p.estimate, p.began = total, estimate, time.Now()
}

// round begins a round.
func (p *progress) round(profile string, n, of int) {
	if !p.terminal {
		fmt.Fprintf(p.w, "%s, round %d of %d: %s left\n", profile, n, of, p.left())
	}
}

// sample begins a sample.
func (p *progress) sample(profile string, round, of int, workload, path string) {
	if p.terminal {
		fmt.Fprintf(p.w, "%s[%d/%d] %s, round %d of %d: %s on %s … %s left", clearLine, p.done+1, p.total, profile, round, of, workload, path, p.left())
	}
}

func (p *progress) sampleDone() { p.done++ }

// end leaves a clean line.
func (p *progress) end() {
	if p.terminal {
		fmt.Fprint(p.w, clearLine)
	}
}

// left is the time left, from what the samples took so far.
func (p *progress) left() time.Duration {
	each := p.estimate
	if p.done > 0 {
		each = time.Since(p.began) / time.Duration(p.done)
	}
	return (time.Duration(p.total-p.done) * each).Round(time.Second)
}
