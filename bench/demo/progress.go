package demo

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// progress prints a line for each step, with its duration once it is done. On
// a terminal, the line shows how far the step has come.
type progress struct {
	w        io.Writer
	terminal bool

	title string
	start time.Time
	notes []string
}

func newProgress(w io.Writer) *progress {
	p := &progress{w: w}
	if f, ok := w.(*os.File); ok {
		_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
		p.terminal = err == nil
	}
	return p
}

// clearLine returns to the start of the line and erases it (ECMA-48 EL).
const clearLine = "\r\x1b[K"

func (p *progress) begin(title string) {
	p.title, p.start, p.notes = title, time.Now(), nil
	fmt.Fprintf(p.w, "%s …", title)
}

// update shows how far the step has come.
func (p *progress) update(format string, args ...any) {
	if p.terminal {
		fmt.Fprintf(p.w, "%s%s … %s", clearLine, p.title, fmt.Sprintf(format, args...))
	}
}

// note keeps a line to be shown below the step once it is done.
func (p *progress) note(format string, args ...any) {
	p.notes = append(p.notes, fmt.Sprintf(format, args...))
}

func (p *progress) done() { p.end(fmt.Sprintf("%.1f s", time.Since(p.start).Seconds())) }
func (p *progress) fail() { p.end("failed") }

func (p *progress) end(how string) {
	if p.terminal {
		fmt.Fprintf(p.w, "%s%s …", clearLine, p.title)
	}
	fmt.Fprintf(p.w, " %s\n", how)
	for _, n := range p.notes {
		fmt.Fprintf(p.w, "      %s\n", n)
	}
}
