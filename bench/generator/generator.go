// Package generator makes the traffic that is measured. A generator is a
// process of its own in a container's namespace, one that sends and one that
// receives, and both count within the same window of time:
//
//	harness                receiver              sender
//	   │── Spec (argument) ──►│                     │
//	   │◄───── Ready (port) ──│                     │
//	   │── Spec (argument, with the port) ─────────►│ connects
//	   │◄──────────────────────────────── Ready ────│
//	   │── Window ───────────►│── Window ──────────►│ sends from now on
//	   │◄───── Count ─────────│◄───── Count ────────│ at the window's end
//	   │── end of stdin ─────►│── end of stdin ────►│
//
// All but the Spec are lines of JSON on stdin and stdout. As a generator ends
// with its stdin, none outlives a harness that crashes.
//
// Buffers are made beforehand, system calls carry as much as they can, and the
// garbage collector is off, so that the path is measured and not the ends.
package generator

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sys/unix"
)

// Kind is a kind of traffic.
type Kind string

const (
	TCP  Kind = "tcp"  // bulk over one or several connections
	UDP  Kind = "udp"  // datagrams as fast as the sender can
	Echo Kind = "echo" // a datagram, its answer, the next datagram
)

// Spec says what to do.
type Spec struct {
	Kind       Kind
	Receive    bool           // else send
	Addr       netip.AddrPort // to send to; the receiver chooses a port if it is 0
	Flows      int            // TCP connections; at least 1
	Size       int            // UDP, Echo: bytes of payload
	Congestion string         // TCP: algorithm of the sender; "" is the kernel's default
}

func (s Spec) validate() error {
	switch {
	case s.Kind != TCP && s.Kind != UDP && s.Kind != Echo:
		return fmt.Errorf("unknown kind of traffic %q", s.Kind)
	case !s.Addr.Addr().Is4():
		return fmt.Errorf("%v is no IPv4 address and port", s.Addr)
	case s.Kind == TCP && (s.Flows < 1 || s.Flows > maxFlows):
		return fmt.Errorf("%d flows: from 1 to %d are possible", s.Flows, maxFlows)
	case s.Kind != TCP && (s.Size < minDatagram || s.Size > maxDatagram):
		return fmt.Errorf("datagrams of %d bytes: from %d to %d are possible", s.Size, minDatagram, maxDatagram)
	}
	return nil
}

const (
	maxFlows    = 1024
	minDatagram = 8 // Echo numbers its requests
	maxDatagram = 65507
)

// Ready says that a generator waits for its Window.
type Ready struct {
	Port uint16 // the receiver's
}

// Window is when to count: CLOCK_MONOTONIC in nanoseconds, which is the same
// in all processes of a machine.
type Window struct {
	Start, End int64
}

// Now is the present time of a Window's clock, without a system call.
func Now() int64 { return epochNanoseconds + int64(time.Since(epoch)) }

// One moment on the clocks of Go and of a Window.
var epoch, epochNanoseconds = time.Now(), monotonic()

func monotonic() int64 {
	var t unix.Timespec
	// It cannot fail: the clock exists and the address is valid.
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &t)
	return t.Nano()
}

// SleepUntil waits for a time of a Window's clock.
func SleepUntil(t int64) { time.Sleep(time.Duration(t - Now())) }

// Count is what happened within the Window, or nearly: on a busy machine a
// process wakes up late, so that it tells how long it counted.
type Count struct {
	Elapsed time.Duration
	Bytes   uint64 // of payload
	Packets uint64 // UDP, Echo: datagrams, answered ones for the sender of Echo
	Lost    uint64 // Echo: requests without an answer
	HalfRTT Latency
}

// Latency are half round-trip times of Echo, in nanoseconds.
type Latency struct {
	P50, P99, P999, Max int64
}

// worker is one kind of traffic at one end. open makes it ready, run carries
// traffic until the process ends, and count returns the Bytes and Packets so
// far; it is called from another goroutine.
type worker interface {
	open() (port uint16, err error)
	run() error
	count() Count
	// finish completes what was counted in the window.
	finish(c *Count, w Window)
}

// Run is the generator process. It returns when stdin ends or the traffic
// breaks; the process must then end, for there may still be traffic.
func Run(spec Spec, stdin io.Reader, stdout io.Writer) error {
	if err := spec.validate(); err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	// Echo keeps a processor of Go's while it waits in the kernel.
	runtime.GOMAXPROCS(runtime.NumCPU() + 2)
	w := newWorker(spec)
	port, err := w.open()
	if err != nil {
		return err
	}
	out := json.NewEncoder(stdout)
	if err := out.Encode(Ready{Port: port}); err != nil {
		return err
	}
	in := bufio.NewReader(stdin)
	window, err := readWindow(in)
	if err != nil {
		return err
	}

	ended := make(chan error, 1)
	go func() { ended <- w.run() }()
	closed := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, in) // whatever ends it
		close(closed)
	}()
	counted := make(chan Count, 1)
	go func() { counted <- countWithin(w, window) }()
	for {
		select {
		case err := <-ended:
			if err == nil {
				err = errors.New("the connection ended early")
			}
			return err
		case c := <-counted:
			// Traffic goes on until the other end has counted too.
			if err := out.Encode(c); err != nil {
				return err
			}
		case <-closed:
			return nil
		}
	}
}

// countWithin sleeps through the window.
func countWithin(w worker, window Window) Count {
	SleepUntil(window.Start)
	start, before := Now(), w.count()
	SleepUntil(window.End)
	end, c := Now(), w.count()
	c.Elapsed = time.Duration(end - start)
	c.Bytes -= before.Bytes
	c.Packets -= before.Packets
	c.Lost -= before.Lost
	w.finish(&c, Window{start, end})
	return c
}

func readWindow(in *bufio.Reader) (w Window, err error) {
	line, err := in.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &w)
	}
	if err != nil {
		return w, fmt.Errorf("read window: %w", err)
	}
	if w.Start > w.End {
		return w, fmt.Errorf("the window ends before it starts: %+v", w)
	}
	return w, nil
}

func newWorker(s Spec) worker {
	switch {
	case s.Kind == TCP && s.Receive:
		return &tcpReceiver{spec: s}
	case s.Kind == TCP:
		return &tcpSender{spec: s}
	case s.Kind == UDP && s.Receive:
		return &udpReceiver{spec: s}
	case s.Kind == UDP:
		return &udpSender{spec: s}
	case s.Receive:
		return &echoServer{spec: s}
	}
	return &echoClient{spec: s}
}

// Main is Run for a process of its own: the Spec is its one argument, as JSON.
// It returns the exit status.
func Main(args []string) int {
	var spec Spec
	err := errors.New("want one argument, a Spec")
	if len(args) == 1 {
		err = json.Unmarshal([]byte(args[0]), &spec)
	}
	if err == nil {
		err = Run(spec, os.Stdin, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "generator:", err)
		return 1
	}
	return 0
}
