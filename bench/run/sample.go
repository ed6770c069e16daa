package run

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"time"

	"github.com/weftnet/weft/bench/generator"
)

// sample measures one workload on one path once.
func (r *runner) sample(ctx context.Context, p *path, w workload) ([]metric, usage, error) {
	spec := w.spec
	spec.Addr = netip.AddrPortFrom(p.to().IPv4, 0)
	if spec.Kind == generator.TCP {
		spec.Congestion = r.o.Congestion
	}
	var weftds []int
	for _, d := range p.weftds {
		weftds = append(weftds, d.PID())
	}
	others := []int{os.Getpid()} // of the run
	for _, q := range r.paths {
		for _, d := range q.weftds {
			if q != p {
				others = append(others, d.PID())
			}
		}
	}
	var used usage
	var readErr error
	result, err := generator.Measure(ctx, generator.Measurement{
		Program: r.o.Generator, From: p.from(), To: p.to(), Spec: spec, Warmup: r.o.Warmup, Duration: r.o.Duration,
		During: func(window generator.Window, sender, receiver *os.Process) {
			used, readErr = readWindow(ctx, window, weftds, append(others, sender.Pid, receiver.Pid))
		},
	})
	if err == nil {
		err = readErr
	}
	var metrics []metric
	if err == nil {
		metrics, err = w.metrics(result, used)
	}
	if err != nil {
		return nil, used, fmt.Errorf("%s on path %s: %w", w.name, p.name, err)
	}
	return metrics, used, nil
}

// readWindow takes the readings at both ends of the window.
func readWindow(ctx context.Context, w generator.Window, weftds, own []int) (usage, error) {
	if err := sleepUntil(ctx, w.Start); err != nil {
		return usage{}, err
	}
	before, err := read(weftds, own)
	if err != nil {
		return usage{}, err
	}
	if err := sleepUntil(ctx, w.End); err != nil {
		return usage{}, err
	}
	after, err := read(weftds, own)
	if err != nil {
		return usage{}, err
	}
	u := after.since(before)
	u.hasWeftd = len(weftds) > 0
	return u, nil
}

// sleepUntil waits for a time of a Window's clock.
func sleepUntil(ctx context.Context, t int64) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(time.Duration(t - generator.Now())):
		return nil
	}
}
