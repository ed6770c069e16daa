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
		MTU:        make(map[string]int),
		Offloads:   make(map[string]report.Offload),
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
	if o.needsWeftd() {
		version, err := exec.CommandContext(ctx, o.Weftd, "version").Output()
		if err != nil {
			return e, fmt.Errorf("ask %s for its version: %w", o.Weftd, err)
		}
		e.Weftd = strings.TrimSpace(string(version))
	}
	e.BusyBefore, err = busy(ctx, idleFor)
	return e, err
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
	before, err := machineTime()
	if err != nil {
		return 0, err
	}
	select {
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	case <-time.After(d):
	}
	after, err := machineTime()
	if err != nil {
		return 0, err
	}
	return after.sub(before).busy() / d.Seconds() / float64(runtime.NumCPU()), nil
}
