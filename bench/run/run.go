// Package run measures paths between containers against each other: it builds
// a lab for each path, takes samples in turns, and says what they tell.
// docs/bench.md describes the method.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/report"
)

// runner is one run, from an empty machine to an empty machine.
type runner struct {
	o           Options
	out         *progress
	paths       []*path // that stand
	results     *results
	document    report.Document
	countsCalls bool
	guess       map[figure]float64 // latest highest rate of UDP, in datagrams per second
}

func newRunner(o Options, out io.Writer) *runner {
	return &runner{o: o, out: newProgress(out), results: newResults(), guess: make(map[figure]float64)}
}

// Run measures and prints tables, and writes the results as JSON. When ctx
// ends, or a path breaks, what has been measured is printed and written all
// the same, and an error returned. With JSON on stdout, all else goes to
// stderr.
func Run(ctx context.Context, o Options, stdout, stderr io.Writer) error {
	if err := o.validate(); err != nil {
		return err
	}
	if err := o.checkMachine(); err != nil {
		return err
	}
	out := stdout
	if o.JSON == "-" {
		out = stderr
	}
	removed, err := lab.Sweep(o.Name + "-")
	if err != nil {
		return fmt.Errorf("remove an earlier run: %w", err)
	}
	if len(removed) > 0 {
		fmt.Fprintln(out, "removed what an earlier run left")
	}
	for _, why := range o.skipped {
		fmt.Fprintln(out, "left out: path", why)
	}
	r := newRunner(o, out)
	runErr := r.run(ctx)
	r.out.end()
	closeErr := r.close()

	r.document.Environment.Finished = time.Now().UTC()
	r.document.Environment.Interrupted = runErr != nil
	r.results.fill(&r.document, o.Baseline)
	var writeErr error
	if len(r.document.Results) > 0 {
		fmt.Fprintf(out, "\n%s", r.document.Tables())
		if o.JSON != "" {
			writeErr = r.document.Write(o.JSON, stdout)
		}
	}
	return errors.Join(runErr, closeErr, writeErr)
}

func (r *runner) run(ctx context.Context) (err error) {
	if r.document.Environment, err = environment(ctx, &r.o); err != nil {
		return err
	}
	r.countsCalls = r.document.Environment.Syscalls == callEvent
	r.announce()
	for _, name := range r.o.Profiles {
		in := profileOf(name)
		// Daemons take the MTU from the devices when they start, and what they have
		// found out of another underlay they would believe for a while.
		if err := r.rebuild(ctx, in); err != nil {
			return err
		}
		if err := r.setProfile(in); err != nil {
			return err
		}
		for round := range r.o.Rounds {
			if err := r.round(ctx, in, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// announce says what is to come and how long that takes.
func (r *runner) announce() {
	o := &r.o
	total := time.Duration(0)
	for i, name := range o.Profiles {
		for round := range o.Rounds {
			for _, w := range o.Workloads {
				total += time.Duration(len(o.Paths)) * r.takes(workloadOf(w), profileOf(name), round, i == 0)
			}
		}
	}
	total += time.Duration(len(o.Profiles)*len(o.Paths)) * buildTakes
	r.out.start(total)
	r.out.say("This takes about %s: paths %s; profiles %s; workloads %s; %d rounds.", r.out.left(),
		strings.Join(o.Paths, ", "), strings.Join(o.Profiles, ", "), strings.Join(o.Workloads, ", "), o.Rounds)
}

// What parts of a run take, to estimate it by.
const (
	buildTakes  = 1500 * time.Millisecond
	openTakes   = 100 * time.Millisecond // generators, until they are connected
	checkTakes  = 300 * time.Millisecond // iperf3, above what it measures
	drainTakes  = 60 * time.Millisecond  // of a step of UDP
	firstTrials = 10
	laterTrials = 5
)

// takes estimates a sample.
func (r *runner) takes(w workload, in profile, round int, firstProfile bool) time.Duration {
	sample := r.o.Warmup + settle + r.o.Duration
	d := openTakes + sample
	if w.search {
		d += sample + 4*drainTakes
		trials := laterTrials
		if round == 0 {
			trials = firstTrials
		}
		if in.lose > 0 {
			trials, d = 0, openTakes+sample+2*drainTakes
		}
		d += time.Duration(trials) * (trialFor + drainTakes)
	}
	if r.checks(w, round, firstProfile) {
		warmup, seconds := r.o.checkSeconds()
		d += time.Duration(warmup+seconds)*time.Second + checkTakes
	}
	return d
}

// checks tells whether a sample is set against iperf3.
func (r *runner) checks(w workload, round int, firstProfile bool) bool {
	return w.name == checkedWorkload && round < checkedRounds && firstProfile && r.document.Environment.IPerf3 != ""
}

// buildWithin is for one path.
const buildWithin = time.Minute

// rebuild builds all paths, on an underlay of a profile, in place of those that
// stand.
func (r *runner) rebuild(ctx context.Context, in profile) error {
	if err := r.close(); err != nil {
		return err
	}
	for _, name := range r.o.Paths {
		r.out.status("building path %s", name)
		ctx, cancel := context.WithTimeoutCause(ctx, buildWithin, fmt.Errorf("not done within %v", buildWithin))
		p, err := buildPath(ctx, &r.o, name, in)
		if err != nil && ctx.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
		}
		cancel()
		if p != nil {
			r.paths = append(r.paths, p) // for close
		}
		if err != nil {
			return err
		}
		r.out.took(buildTakes)
	}
	return nil
}

func (r *runner) setProfile(in profile) error {
	e := &r.document.Environment
	mtu := make(map[string]int)
	for _, p := range r.paths {
		now, err := p.underlay.set(in)
		if err != nil {
			return fmt.Errorf("set underlay profile %s: %w", in.name, err)
		}
		e.Offloads[in.name] = now
		mtu[p.name] = p.mtu
		if p.carried == kernelToo {
			e.Assist = p.assist
		}
	}
	if len(e.ProfileMTU) == 0 {
		e.MTU = mtu
	}
	e.ProfileMTU[in.name] = mtu
	return nil
}

// round takes one sample of each workload on each path. The samples that are
// compared follow each other; who comes first changes from round to round.
func (r *runner) round(ctx context.Context, in profile, round int) error {
	r.out.round(in.name, round+1, r.o.Rounds)
	for _, name := range r.o.Workloads {
		w := workloadOf(name)
		for i := range r.paths {
			p := r.paths[(i+round)%len(r.paths)]
			r.out.status("%s, round %d of %d: %s on %s", in.name, round+1, r.o.Rounds, name, p.name)
			metrics, used, err := r.sample(ctx, p, w, in)
			if ctx.Err() != nil {
				return context.Cause(ctx) // whatever failed then, failed for that
			}
			if ended := p.check(); ended != nil {
				return errors.Join(err, ended)
			}
			switch {
			case errors.Is(err, errNothing), errors.Is(err, errMissed):
				r.results.addEmpty(name, p.name, in.name)
			case err != nil:
				return err
			default:
				r.results.add(p.name, in.name, name, round, metrics)
				r.results.addUsage(used)
			}
			first := in.name == r.o.Profiles[0]
			if r.checks(w, round, first) {
				value, err := r.iperf(ctx, p)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					return fmt.Errorf("check with iperf3 on path %s: %w", p.name, err)
				}
				r.results.addCheck(p.name, in.name, round, value)
			}
			r.out.took(r.takes(w, in, round, first))
		}
	}
	return nil
}

// close removes all labs. The logs of a path that broke stay.
func (r *runner) close() error {
	var errs []error
	for _, p := range r.paths {
		logs, err := p.close()
		if logs != "" {
			r.out.say("the logs of path %s are in %s", p.name, logs)
		}
		errs = append(errs, err)
	}
	r.paths = nil
	return errors.Join(errs...)
}
