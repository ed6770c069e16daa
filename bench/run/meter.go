package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftnet/weft/bench/generator"
)

// meter reads what a sample costs. Its fields are process ids.
type meter struct {
	daemons            []int // of the path
	senders, receivers []int
	others             []int // of the run
}

// usage is what was used within a window.
type usage struct {
	elapsed  time.Duration
	machine  cpuTime
	foreign  float64 // user time of processes that are not the run's
	switches float64 // of context, of the whole machine

	// CPU seconds, user and system.
	senders, receivers, daemons float64

	hasDaemons     bool
	daemonSwitches float64
}

// reading is all counters at one moment.
type reading struct {
	at             time.Time
	machine        cpuTime
	switches       uint64
	daemonSwitches uint64
	ownUser        float64 // of all processes of the run

	senders, receivers, daemons float64
}

func (m *meter) read() (r reading, err error) {
	r.at = time.Now()
	if r.machine, r.switches, err = machineStat(); err != nil {
		return r, err
	}
	for _, group := range []struct {
		pids []int
		sum  *float64
	}{{m.daemons, &r.daemons}, {m.senders, &r.senders}, {m.receivers, &r.receivers}, {m.others, nil}} {
		for _, pid := range group.pids {
			user, system, err := processTime(pid)
			if err != nil {
				return r, fmt.Errorf("CPU time of process %d: %w", pid, err)
			}
			r.ownUser += user
			if group.sum != nil {
				*group.sum += user + system
			}
		}
	}
	for _, pid := range m.daemons {
		n, err := processSwitches(pid)
		if err != nil {
			return r, err
		}
		r.daemonSwitches += n
	}
	return r, nil
}

// since is what was used between two readings of the same processes.
func (r reading) since(before reading) usage {
	machine := r.machine.sub(before.machine)
	return usage{
		elapsed: r.at.Sub(before.at), machine: machine,
		foreign:   max(0, machine.user-(r.ownUser-before.ownUser)),
		switches:  float64(r.switches - before.switches),
		senders:   r.senders - before.senders,
		receivers: r.receivers - before.receivers,
		daemons:   r.daemons - before.daemons,
		// A thread that ended took its count along.
		daemonSwitches: max(0, float64(r.daemonSwitches)-float64(before.daemonSwitches)),
	}
}

// window takes the readings at both ends of a window.
func (m *meter) window(ctx context.Context, w generator.Window) (usage, error) {
	if err := sleepUntil(ctx, w.Start); err != nil {
		return usage{}, err
	}
	before, err := m.read()
	if err != nil {
		return usage{}, err
	}
	if err := sleepUntil(ctx, w.End); err != nil {
		return usage{}, err
	}
	after, err := m.read()
	if err != nil {
		return usage{}, err
	}
	u := after.since(before)
	u.hasDaemons = len(m.daemons) > 0
	return u, nil
}

// calls counts the system calls within a window. It may count for less: it
// takes a while to open the counters.
func (m *meter) calls(ctx context.Context, w generator.Window) (c calls, err error) {
	if err := sleepUntil(ctx, w.Start); err != nil {
		return c, err
	}
	daemons, err := openCallCounters(m.daemons)
	if err != nil {
		return c, err
	}
	defer daemons.close()
	generators, err := openCallCounters(append(m.senders[:len(m.senders):len(m.senders)], m.receivers...))
	if err != nil {
		return c, err
	}
	defer generators.close()
	start := time.Now()
	if err := sleepUntil(ctx, w.End); err != nil {
		return c, err
	}
	var errDaemons, errGenerators error
	c.elapsed = time.Since(start)
	c.daemons, errDaemons = daemons.read()
	c.generators, errGenerators = generators.read()
	return c, errors.Join(errDaemons, errGenerators)
}

// memory is the most memory that the daemons had resident since resetMemory,
// together, in bytes.
func (m *meter) memory() (total uint64, err error) {
	for _, pid := range m.daemons {
		n, err := peakMemory(pid)
		if err != nil {
			return 0, err
		}
		total += n
	}
	return total, nil
}

func (m *meter) resetMemory() error {
	for _, pid := range m.daemons {
		if err := resetPeakMemory(pid); err != nil {
			return fmt.Errorf("reset peak memory: %w", err)
		}
	}
	return nil
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
