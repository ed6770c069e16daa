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

	"golang.org/x/sync/errgroup"
)

// Starter starts a process somewhere, for instance in a network namespace.
type Starter interface {
	Start(*exec.Cmd) error
}

// Pair is a sender and its receiver. Spec.Receive and Spec.Addr's port are
// filled in.
type Pair struct {
	From, To Starter
	Spec     Spec
}

// Result is what both ends of a Pair counted.
type Result struct {
	Sent, Received Count
}

// Session is pairs of generators that run, until Close.
type Session struct {
	pairs  []endpoints
	cancel context.CancelCauseFunc
	ctx    context.Context
	steps  uint32
}

type endpoints struct{ sender, receiver *process }

// slack is how long generators may take to start and connect, or to answer. It is long
// for a machine that stands still now and then.
const slack = time.Minute

// Open starts generators and has them connected. program calls Main; the Spec
// is added to it. When ctx ends, so do they.
func Open(ctx context.Context, program []string, pairs []Pair) (*Session, error) {
	s := new(Session)
	s.ctx, s.cancel = context.WithCancelCause(ctx)
	defer s.within(slack)()
	for _, p := range pairs {
		if err := s.add(program, p); err != nil {
			s.Close()
			return nil, s.explain(err)
		}
	}
	return s, nil
}

func (s *Session) add(program []string, p Pair) error {
	spec := p.Spec
	spec.Receive, spec.Addr = true, netip.AddrPortFrom(spec.Addr.Addr(), 0)
	receiver, err := start(s.ctx, p.To, program, spec)
	if err != nil {
		return fmt.Errorf("receiver: %w", err)
	}
	s.pairs = append(s.pairs, endpoints{receiver: receiver})
	ready, err := receiver.ready()
	if err != nil {
		return fmt.Errorf("receiver: %w", err)
	}
	spec.Receive, spec.Addr = false, netip.AddrPortFrom(spec.Addr.Addr(), ready.Port)
	sender, err := start(s.ctx, p.From, program, spec)
	if err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	s.pairs[len(s.pairs)-1].sender = sender
	if _, err := sender.ready(); err != nil {
		return fmt.Errorf("sender: %w", err)
	}
	return nil
}

// Close ends the generators.
func (s *Session) Close() {
	for _, p := range s.pairs {
		for _, q := range []*process{p.sender, p.receiver} {
			if q != nil {
				q.end()
			}
		}
	}
	s.cancel(nil)
}

// Senders and Receivers are the processes, in the order of the pairs.
func (s *Session) Senders() (list []*os.Process) {
	for _, p := range s.pairs {
		list = append(list, p.sender.cmd.Process)
	}
	return list
}

func (s *Session) Receivers() (list []*os.Process) {
	for _, p := range s.pairs {
		list = append(list, p.receiver.cmd.Process)
	}
	return list
}

// Step has all pairs go through a step, whose number it fills in. during, if
// not nil, is called while traffic flows, and should return soon after the
// window's end, or when its context ends, since traffic has failed. The
// results are in the order of the pairs. After an error the session is of no
// further use.
func (s *Session) Step(step Step, during func(context.Context) error) ([]Result, error) {
	if err := step.validate(); err != nil {
		return nil, err
	}
	s.steps++
	step.Number = s.steps
	defer s.within(time.Duration(step.Until-Now()) + slack)()
	for _, p := range s.pairs {
		for _, q := range []*process{p.receiver, p.sender} {
			if err := q.tell(step); err != nil {
				return nil, s.explain(err)
			}
		}
	}
	results := make([]Result, len(s.pairs))
	group, ctx := errgroup.WithContext(s.ctx)
	for i, p := range s.pairs {
		group.Go(func() (err error) {
			results[i], err = p.count()
			return err
		})
	}
	var err error
	if during != nil {
		err = during(ctx)
	}
	// Failed traffic is why a failed during failed.
	if groupErr := group.Wait(); groupErr != nil {
		err = groupErr
	}
	if err != nil {
		return nil, s.explain(err)
	}
	return results, nil
}

// count hears what both ends have counted. A sender whose receiver ends is told
// so by the kernel, so that it comes first.
func (e endpoints) count() (r Result, err error) {
	if r.Sent, err = e.sender.count(); err != nil {
		return r, fmt.Errorf("sender: %w", err)
	}
	if r.Received, err = e.receiver.count(); err != nil {
		return r, fmt.Errorf("receiver: %w", err)
	}
	return r, nil
}

// within ends the session unless the function that it returns is called in
// time.
func (s *Session) within(d time.Duration) (done func() bool) {
	return time.AfterFunc(d, func() { s.cancel(errors.New("the generators did not answer in time")) }).Stop
}

// explain adds to an error why the session was ended, if it was.
func (s *Session) explain(err error) error {
	if cause := context.Cause(s.ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return errors.Join(cause, err)
	}
	if s.ctx.Err() != nil {
		return errors.Join(s.ctx.Err(), err)
	}
	return err
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

func (p *process) tell(s Step) error { return json.NewEncoder(p.stdin).Encode(s) }

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
