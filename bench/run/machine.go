package run

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/report"
)

// idleFor is how long the machine is watched before the run.
const idleFor = time.Second

// environment describes the machine before anything of the run is on it.
func environment(ctx context.Context, o *Options) (e report.Environment, err error) {
	e = report.Environment{
		Started:    time.Now().UTC(),
		Arch:       runtime.GOARCH,
		CPUs:       runtime.NumCPU(),
		Go:         runtime.Version(),
		Congestion: o.Congestion,
		Rounds:     o.Rounds,
		Warmup:     o.Warmup.Seconds(),
		Duration:   o.Duration.Seconds(),
		IPerf3:     iperfVersion(ctx, o.IPerf3),
		Skipped:    o.skipped,
		LossLimit:  lossLimit,
		MTU:        make(map[string]int),
		Offloads:   make(map[string]report.Offload),
		ProfileMTU: make(map[string]map[string]int),
	}
	var uname unix.Utsname
	var info unix.Sysinfo_t
	if err := errors.Join(unix.Uname(&uname), unix.Sysinfo(&info)); err != nil {
		return e, err
	}
	e.Kernel = unix.ByteSliceToString(uname.Release[:])
	e.MemoryBytes = uint64(info.Totalram) * uint64(info.Unit)
	for i, load := range info.Loads {
		e.LoadAverage[i] = float64(load) / (1 << unix.SI_LOAD_SHIFT)
	}
	cpus, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return e, err
	}
	e.CPUModel, e.Hypervisor = parseCPUInfo(string(cpus))
	congestion, err := os.ReadFile("/proc/sys/net/ipv4/tcp_congestion_control")
	if err != nil {
		return e, err
	}
	e.DefaultCongestion = strings.TrimSpace(string(congestion))
	if e.Weftd, err = o.version(ctx, weftd, o.Weftd, "version"); err != nil {
		return e, err
	}
	if e.Flanneld, err = o.version(ctx, flanneld, o.Flanneld, "-version"); err != nil {
		return e, err
	}
	e.Syscalls = callEvent
	if err := canCountCalls(); err != nil {
		e.Syscalls = "not counted: " + err.Error()
	}
	e.BusyBefore, err = busy(ctx, idleFor)
	return e, err
}

// version asks a program that a path needs for its version; "" if none does.
func (o *Options) version(ctx context.Context, p program, file, arg string) (string, error) {
	needed := false
	for _, name := range o.Paths {
		needed = needed || kindOf(name).needs == p
	}
	if !needed {
		return "", nil
	}
	// Flannel's daemon says it on stderr.
	out, err := exec.CommandContext(ctx, file, arg).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ask %s for its version: %w", file, err)
	}
	return strings.TrimSpace(string(out)), nil
}

// parseCPUInfo reads the first CPU of /proc/cpuinfo.
func parseCPUInfo(text string) (model string, hypervisor bool) {
	first, _, _ := strings.Cut(text, "\n\n")
	for line := range strings.Lines(first) {
		key, value, _ := strings.Cut(line, ":")
		switch strings.TrimSpace(key) {
		case "model name":
			model = strings.TrimSpace(value)
		case "flags":
			hypervisor = strings.Contains(value+" ", " hypervisor ")
		}
	}
	return model, hypervisor
}

// busy is the part of all CPU time that is in use, 0 to 1.
func busy(ctx context.Context, d time.Duration) (float64, error) {
	before, _, err := machineStat()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(d):
	}
	after, _, err := machineStat()
	if err != nil {
		return 0, err
	}
	return after.sub(before).busy() / d.Seconds() / float64(runtime.NumCPU()), nil
}
