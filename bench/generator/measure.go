package generator

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"time"
)

// Starter starts a process somewhere, for instance in a network namespace.
type Starter interface {
	Start(*exec.Cmd) error
}

// Measurement is what to measure. Spec.Receive and Spec.Addr's port are filled
// in.
type Measurement struct {
	Program  []string // that calls Main, without the Spec
	From, To Starter
	Spec     Spec
	Warmup   time.Duration // before the window, not counted
	Duration time.Duration // of the window

	// During, if not nil, is called once traffic flows, and should return
	// soon after the window's end.
	During func(w Window, sender, receiver *os.Process)
}

// Result is what both ends counted.
type Result struct {
	Sent, Received Count
}

// slack is how long generators may take to start, connect and answer.
const slack = 15 * time.Second

// Measure runs a pair of generators. When ctx ends, so do they.
func Measure(ctx context.Context, m Measurement) (Result, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, m.Warmup+m.Duration+slack, errors.New("the generators did not end in time"))
	defer cancel()
	r, err := m.run(ctx)
	if err != nil && ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	return r, err
}

func (m *Measurement) run(ctx context.Context) (r Result, err error) {
	spec := m.Spec
	spec.Receive, spec.Addr = true, netip.AddrPortFrom(spec.Addr.Addr(), 0)
	receiver, err := start(ctx, m.To, m.Program, spec)
	if err != nil {
		return r, fmt.Errorf("receiver: %w", err)
	}
	defer receiver.end()
	ready, err := receiver.ready()
	if err != nil {
		return r, fmt.Errorf("receiver: %w", err)
	}
	spec.Receive, spec.Addr = false, netip.AddrPortFrom(spec.Addr.Addr(), ready.Port)
	sender, err := start(ctx, m.From, m.Program, spec)
	if err != nil {
		return r, fmt.Errorf("sender: %w", err)
	}
	defer sender.end()
	if _, err := sender.ready(); err != nil {
		return r, fmt.Errorf("sender: %w", err)
	}

	begin := Now() + m.Warmup.Nanoseconds()
	w := Window{Start: begin, End: begin + m.Duration.Nanoseconds()}
	for _, p := range []*process{receiver, sender} {
		if err := p.tell(w); err != nil {
			return r, err
		}
	}
	if m.During != nil {
		m.During(w, sender.cmd.Process, receiver.cmd.Process)
	}
	// A sender whose receiver ends is told so by the kernel, so that it comes first.
	if r.Sent, err = sender.count(); err != nil {
		return r, fmt.Errorf("sender: %w", err)
	}
	if r.Received, err = receiver.count(); err != nil {
		return r, fmt.Errorf("receiver: %w", err)
	}
	return r, nil
}

// process is a generator as the harness sees it.
type process struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
	stderr bytes.Buffer // complete once the process has been waited for
	waited bool
}

func start(ctx context.Context, in Starter, program []string, spec Spec) (*process, error) {
	argument, err := json.Marshal(spec)
	if err != nil {
		return nil, err
	}
	p := &process{cmd: exec.CommandContext(ctx, program[0], append(program[1:len(program):len(program)], string(argument))...)}
	// Preemption by signals would interrupt system calls.
	p.cmd.Env = append(os.Environ(), "GODEBUG=asyncpreemptoff=1")
	p.cmd.Stderr = &p.stderr
	if p.stdin, err = p.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	p.stdout = bufio.NewReader(stdout)
	if err := in.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", program[0], err)
	}
	return p, nil
}

func (p *process) ready() (r Ready, err error) { return r, p.hear(&r) }
func (p *process) count() (c Count, err error) { return c, p.hear(&c) }

func (p *process) tell(w Window) error { return json.NewEncoder(p.stdin).Encode(w) }

// hear reads one line. If there is none, the error is what the process had to
// say on stderr.
func (p *process) hear(v any) error {
	line, err := p.stdout.ReadBytes('\n')
	if err == nil {
		return json.Unmarshal(line, v)
	}
	p.end()
	if said := bytes.TrimSpace(p.stderr.Bytes()); len(said) > 0 {
		return errors.New(string(said))
	}
	return fmt.Errorf("ended without an answer: %s", p.cmd.ProcessState)
}

// end kills the process if it is still there, and waits for its end.
func (p *process) end() {
	if p.waited {
		return
	}
	p.waited = true
	p.stdin.Close()
	_ = p.cmd.Process.Kill() // it may have ended
	_ = p.cmd.Wait()         // how it ended is in ProcessState
}
