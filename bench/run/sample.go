package run

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"time"

	"github.com/weftnet/weft/bench/generator"
)

// sampler takes one sample of a workload on a path.
type sampler struct {
	r       *runner
	path    *path
	work    workload
	profile profile
	session *generator.Session
	meter   meter
}

// sample measures one workload on one path once.
func (r *runner) sample(ctx context.Context, p *path, w workload, in profile) (metrics []metric, used usage, err error) {
	s := &sampler{r: r, path: p, work: w, profile: in}
	before, err := p.tally(ctx)
	if err == nil {
		s.session, err = generator.Open(ctx, r.o.Generator, s.pairs())
	}
	if err == nil {
		defer s.session.Close()
		s.meter = s.newMeter()
		metrics, used, err = s.run(ctx)
	}
	if err == nil {
		var after tally
		if after, err = p.tally(ctx); err == nil {
			var who []metric
			who, err = p.proof(before, after)
			metrics = append(metrics, who...)
		}
	}
	if err != nil {
		return nil, used, fmt.Errorf("%s on path %s: %w", w.name, p.name, err)
	}
	return metrics, used, nil
}

func (s *sampler) pairs() (list []generator.Pair) {
	for _, f := range s.work.flows {
		from, to := s.path.from(), s.path.to()
		if f.reverse {
			from, to = to, from
		}
		spec := f.spec
		spec.Addr = netip.AddrPortFrom(to.IPv4, 0)
		if spec.Kind == generator.TCP {
			spec.Congestion = s.r.o.Congestion
		}
		list = append(list, generator.Pair{From: from, To: to, Spec: spec})
	}
	return list
}

func (s *sampler) newMeter() meter {
	m := meter{others: []int{os.Getpid()}}
	for _, p := range s.r.paths {
		for _, d := range p.daemons {
			if p == s.path {
				m.daemons = append(m.daemons, d.PID())
			} else {
				m.others = append(m.others, d.PID())
			}
		}
		for _, h := range p.helpers {
			m.others = append(m.others, h.PID())
		}
	}
	for _, q := range s.session.Senders() {
		m.senders = append(m.senders, q.Pid)
	}
	for _, q := range s.session.Receivers() {
		m.receivers = append(m.receivers, q.Pid)
	}
	return m
}

func (s *sampler) run(ctx context.Context) ([]metric, usage, error) {
	if err := s.meter.resetMemory(); err != nil {
		return nil, usage{}, err
	}
	if s.work.search {
		return s.searched(ctx)
	}
	o, err := s.observe(0)
	if err != nil {
		return nil, usage{}, err
	}
	metrics, err := s.work.figures(o.counted)
	if err != nil {
		return nil, usage{}, err
	}
	costs, err := s.costs(o)
	return append(metrics, costs...), o.used, err
}

// observation is what traffic at an even rate shows: system calls in the
// warm-up, since counting them takes time, and all else after it.
type observation struct {
	warming, counted []generator.Result
	calls            calls
	used             usage
}

// Parts of the warm-up in which calls are counted: not at once, and not up to
// its end, since the kernel takes a while to forget that it counted.
const (
	callsFrom = 0.4
	callsTo   = 0.9

	leastCalls = 20 * time.Millisecond
)

// settle is how long traffic flows before the window that counts, after the
// warm-up, at whose end UDP pauses.
const settle = 30 * time.Millisecond

// observe has traffic flow for a warm-up and the window that counts.
func (s *sampler) observe(rate float64) (o observation, err error) {
	now, warmup := generator.Now(), float64(s.r.o.Warmup)
	step := generator.Step{Rate: rate, Until: now + int64(warmup)}
	step.Window = generator.Window{Start: now + int64(callsFrom*warmup), End: now + int64(callsTo*warmup)}
	o.warming, err = s.session.Step(step, func(ctx context.Context) (err error) {
		if s.r.countsCalls {
			o.calls, err = s.meter.calls(ctx, step.Window)
		}
		return err
	})
	if err != nil {
		return o, err
	}
	begin := generator.Now() + settle.Nanoseconds()
	end := begin + s.r.o.Duration.Nanoseconds()
	step.Window, step.Until = generator.Window{Start: begin, End: end}, end
	o.counted, err = s.session.Step(step, func(ctx context.Context) (err error) {
		o.used, err = s.meter.window(ctx, step.Window)
		return err
	})
	if err == nil && missedWindow(o.counted, s.r.o.Duration) {
		err = errMissed
	}
	return o, err
}

var errMissed = errors.New("a generator counted for less than half of the time")

// missedWindow tells whether a machine that stood still kept one from counting.
func missedWindow(counted []generator.Result, window time.Duration) bool {
	return slices.ContainsFunc(counted, func(r generator.Result) bool {
		return min(r.Sent.Elapsed, r.Received.Elapsed) < window/2
	})
}

func (s *sampler) costs(o observation) ([]metric, error) {
	list := s.work.unit.costs(o.counted, o.used)
	// With hardly a warm-up, or where nothing arrived in it, there is no count.
	if o.calls.elapsed >= leastCalls && s.work.unit.rate(o.warming) > 0 {
		list = append(list, s.work.unit.callCosts(o.warming, o.calls, o.used.hasDaemons)...)
	}
	if o.used.hasDaemons {
		memory, err := s.meter.memory()
		if err != nil {
			return nil, err
		}
		list = append(list, metric{"memory_daemons", "MiB", float64(memory) / (1 << 20)})
	}
	return list, nil
}

// The search for the highest rate of UDP.
const (
	lossLimit     = 0.001
	trialFor      = 200 * time.Millisecond
	leastOfTrial  = 100.0 // datagrams: fewer tell nothing of the loss
	confirmTrials = 6
	confirmLess   = 0.93 // of the rate, after a trial that failed; squared for each further one
	overload      = 2    // times the highest rate
)

// searched finds the highest rate, confirms it over a whole sample, and
// overloads the path.
func (s *sampler) searched(ctx context.Context) (metrics []metric, used usage, err error) {
	size := s.work.flows[0].spec.Size
	key := figure{path: s.path.name, profile: s.profile.name, workload: s.work.name}
	rate, found, err := s.highest(ctx, key)
	if err != nil {
		return nil, used, err
	}
	var o observation
	less := confirmLess
	for range confirmTrials {
		if !found {
			break
		}
		if o, err = s.observe(rate); err != nil {
			return nil, used, err
		}
		if confirmed := lossOf(o.counted[0]) <= lossLimit; confirmed {
			metrics = append(metrics, udpFigure("throughput", size, packets(o.counted[0].Received)))
			s.r.guess[key] = rate
			break
		}
		rate, less = rate*less, less*less
	}
	if len(metrics) == 0 {
		s.r.results.addUnborne(s.work.name, s.path.name, s.profile.name)
		rate = 0 // overload by all that the sender can
	}
	over, err := s.observe(overload * rate)
	if err != nil {
		return nil, used, err
	}
	if over.counted[0].Received.Packets == 0 {
		return nil, used, errNothing
	}
	confirmed := len(metrics) > 0
	metrics = append(metrics,
		udpFigure("delivered", size, packets(over.counted[0].Received)),
		udpFigure("offered", size, packets(over.counted[0].Sent)))
	if !confirmed {
		o = over
	}
	if !confirmed && s.profile.lose == 0 {
		// What an overload costs is no sample of what a rate that is borne does.
		return metrics, o.used, nil
	}
	costs, err := s.costs(o)
	return append(metrics, costs...), o.used, err
}

// highest finds the highest rate with short trials. The first guess is what
// arrives when the sender does what it can, later ones are what was found
// before.
func (s *sampler) highest(ctx context.Context, key figure) (rate float64, found bool, err error) {
	if s.profile.lose > 0 {
		return 0, false, nil // there is none
	}
	r, err := s.try(0)
	if err != nil {
		return 0, false, err
	}
	guess := s.r.guess[key]
	if guess == 0 {
		guess = float64(r.Received.OfStep) / trialFor.Seconds()
	}
	if guess == 0 {
		return 0, false, errNothing
	}
	most := float64(r.Sent.OfStep) / trialFor.Seconds()
	return search(guess, leastOfTrial/trialFor.Seconds(), most, lossLimit, func(rate float64) (loss float64, err error) {
		if ctx.Err() != nil {
			return 0, context.Cause(ctx)
		}
		r, err := s.try(rate)
		return lossOf(r), err
	})
}

// try sends for a short time.
func (s *sampler) try(rate float64) (generator.Result, error) {
	results, err := s.session.Step(generator.Step{Rate: rate, Until: generator.Now() + trialFor.Nanoseconds()}, nil)
	if err != nil {
		return generator.Result{}, err
	}
	return results[0], nil
}

// lossOf is the part of a step's datagrams that did not arrive. If none was
// sent, all are lost.
func lossOf(r generator.Result) float64 {
	if r.Sent.OfStep == 0 {
		return 1
	}
	return 1 - float64(r.Received.OfStep)/float64(r.Sent.OfStep)
}
