// Package generator makes the traffic that is measured. A generator is a
// process of its own in a container's namespace, one that sends and one that
// receives, and both count within the same spans of time:
//
//	harness                receiver              sender
//	   │── Spec (argument) ──►│                     │
//	   │◄───── Ready (port) ──│                     │
//	   │── Spec (argument, with the port) ─────────►│ connects
//	   │◄──────────────────────────────── Ready ────│
//	   │── Step ─────────────►│── Step ────────────►│ sends from now on
//	   │◄───── Count ─────────│◄───── Count ────────│ at the step's end
//	   │   …                  │                     │ further steps
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
)

// Kind is a kind of traffic.
type Kind string

const (
	TCP     Kind = "tcp"     // bulk over one or several connections
	UDP     Kind = "udp"     // datagrams at a rate, or as fast as the sender can
	Echo    Kind = "echo"    // a datagram, its answer, the next datagram
	Connect Kind = "connect" // a connection, a byte over it, the next connection
)

// Spec says what to do.
type Spec struct {
	Kind       Kind
	Receive    bool           // else send
	Addr       netip.AddrPort // to send to; the receiver chooses a port if it is 0
	Flows      int            // TCP, Connect: connections at the same time; at least 1
	Size       int            // UDP, Echo: bytes of payload
	Congestion string         // TCP: algorithm of the sender; "" is the kernel's default
}

func (s Spec) validate() error {
	streams := s.Kind == TCP || s.Kind == Connect
	switch {
	case !streams && s.Kind != UDP && s.Kind != Echo:
		return fmt.Errorf("unknown kind of traffic %q", s.Kind)
	case !s.Addr.Addr().Is4():
		return fmt.Errorf("%v is no IPv4 address and port", s.Addr)
	case streams && (s.Flows < 1 || s.Flows > maxFlows):
		return fmt.Errorf("%d flows: from 1 to %d are possible", s.Flows, maxFlows)
	case !streams && (s.Size < minDatagram || s.Size > maxDatagram):
		return fmt.Errorf("datagrams of %d bytes: from %d to %d are possible", s.Size, minDatagram, maxDatagram)
	}
	return nil
}

const (
	maxFlows    = 1024
	minDatagram = 8 // they are numbered
	maxDatagram = 65507
)

// Ready says that a generator waits for its first Step.
type Ready struct {
	Port uint16 // the receiver's
}

// worker is one kind of traffic at one end. open makes it ready, run carries
// traffic until the process ends, and count returns what was carried so far;
// it is called from another goroutine.
type worker interface {
	open() (port uint16, err error)
	run() error
	count() Count
	// finish completes what was counted in the window.
	finish(c *Count, w Window)
}

// stepper is a worker whose traffic depends on the step.
type stepper interface {
	// begin is called at the start of each step, before anything is counted.
	begin(Step)
	// end waits until the step's traffic is over, and returns the datagrams
	// of the step.
	end(Step) uint64
}

// Run is the generator process. It returns when stdin ends or the traffic
// breaks; the process must then end, for there may still be traffic.
func Run(spec Spec, stdin io.Reader, stdout io.Writer) error {
	if err := spec.validate(); err != nil {
		return err
	}
	debug.SetGCPercent(-1)
	// Echo keeps a processor of Go's while it waits in the kernel, and so does
	// a UDP sender.
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
	steps, ended := make(chan Step), make(chan error, 1)
	go func() { ended <- readSteps(stdin, steps) }()
	counts, started := make(chan Count, 1), false
	for {
		select {
		case s := <-steps:
			if o, ok := w.(stepper); ok {
				o.begin(s)
			}
			if !started {
				started = true
				go func() { ended <- runOn(w) }()
			}
			go func() { counts <- countStep(w, s) }()
		case c := <-counts:
			// Traffic goes on until the other end has counted too.
			if err := out.Encode(c); err != nil {
				return err
			}
		case err := <-ended:
			return err
		}
	}
}

// runOn runs a worker, which should never end by itself.
func runOn(w worker) error {
	if err := w.run(); err != nil {
		return err
	}
	return errors.New("the connection ended early")
}

// readSteps passes on steps until stdin ends, which is no error.
func readSteps(stdin io.Reader, steps chan<- Step) error {
	in := bufio.NewReader(stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return nil // whatever ends it
		}
		var s Step
		if err := json.Unmarshal(line, &s); err != nil {
			return fmt.Errorf("read step: %w", err)
		}
		steps <- s
	}
}

func newWorker(s Spec) worker {
	switch s.Kind {
	case TCP:
		if s.Receive {
			return &tcpReceiver{spec: s}
		}
		return &tcpSender{spec: s}
	case UDP:
		if s.Receive {
			return &udpReceiver{spec: s}
		}
		return newUDPSender(s)
	case Connect:
		if s.Receive {
			return &connectServer{spec: s}
		}
		return &connectClient{spec: s}
	}
	if s.Receive {
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
