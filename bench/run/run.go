// Package run measures paths between containers against each other: it builds
// a lab for each path, takes samples in turns, and says what they tell.
// docs/bench.md describes the method.
package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/report"
)

// runner is one run, from an empty machine to an empty machine.
type runner struct {
	o         Options
	out       *progress
	paths     []*path
	underlays []*underlay // of the paths
	results   *results
	document  report.Document
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
	r := &runner{o: o, out: newProgress(out), results: newResults()}
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
	if err := r.build(ctx); err != nil {
		return err
	}
	samples := len(r.o.Profiles) * r.o.Rounds * len(r.o.Workloads) * len(r.paths)
	r.out.start(samples, r.o.Warmup+r.o.Duration+150*time.Millisecond)
	for _, name := range r.o.Profiles {
		if err := r.setProfile(name); err != nil {
			return err
		}
		for round := range r.o.Rounds {
			if err := r.round(ctx, name, round); err != nil {
				return err
			}
		}
	}
	return nil
}

// buildWithin is for one path.
const buildWithin = time.Minute

func (r *runner) build(ctx context.Context) error {
	for _, name := range r.o.Paths {
		r.out.say("building path %s", name)
		ctx, cancel := context.WithTimeoutCause(ctx, buildWithin, fmt.Errorf("not done within %v", buildWithin))
		p, err := buildPath(ctx, &r.o, name)
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
		r.document.Environment.MTU[name] = p.mtu
		u, err := newUnderlay(p.cluster)
		if err != nil {
			return err
		}
		r.underlays = append(r.underlays, u)
	}
	return nil
}

func (r *runner) setProfile(name string) error {
	for _, u := range r.underlays {
		now, err := u.set(profileOf(name))
		if err != nil {
			return fmt.Errorf("set underlay profile %s: %w", name, err)
		}
		r.document.Environment.Offloads[name] = now
	}
	return nil
}

// round takes one sample of each workload on each path. The samples that are
// compared follow each other; who comes first changes from round to round.
func (r *runner) round(ctx context.Context, profile string, round int) error {
	r.out.round(profile, round+1, r.o.Rounds)
	for _, name := range r.o.Workloads {
		for i := range r.paths {
			p := r.paths[(i+round)%len(r.paths)]
			r.out.sample(profile, round+1, r.o.Rounds, name, p.name)
			metrics, used, err := r.sample(ctx, p, workloadOf(name))
			err = errors.Join(err, p.check())
			if ctx.Err() != nil {
				return context.Cause(ctx) // whatever failed then, failed for that
			}
			if err != nil {
				return err
			}
			r.results.add(p.name, profile, name, round, metrics)
			r.results.addUsage(used)
			r.out.sampleDone()
			if name == checkedWorkload && round < checkedRounds && r.document.Environment.IPerf3 != "" {
				value, err := r.iperf(ctx, p)
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err != nil {
					return fmt.Errorf("check with iperf3 on path %s: %w", p.name, err)
				}
				r.results.addCheck(p.name, profile, round, value)
			}
		}
	}
	return nil
}

// close removes all labs. The logs of a path that broke stay.
func (r *runner) close() error {
	var errs []error
	for _, p := range r.paths {
		broken := p.check() != nil
		if broken {
			r.out.say("the logs of path %s are in %s", p.name, p.cluster.Dir)
		}
		errs = append(errs, p.cluster.Close(broken))
	}
	return errors.Join(errs...)
}
