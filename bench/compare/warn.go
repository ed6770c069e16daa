package compare

import (
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/weftnet/weft/bench/report"
)

// differences are what else than weft may have changed the figures.
func differences(old, new *report.Environment) (warnings []string) {
	differ := func(what string, a, b any) {
		if a != b {
			warnings = append(warnings, fmt.Sprintf("%s: %v, then %v", what, a, b))
		}
	}
	differ("different machines: CPU", old.CPUModel, new.CPUModel)
	differ("different machines: architecture", old.Arch, new.Arch)
	differ("different machines: number of CPUs", old.CPUs, new.CPUs)
	differ("different machines: virtual", old.Hypervisor, new.Hypervisor)
	if a, b := float64(old.MemoryBytes), float64(new.MemoryBytes); math.Abs(a-b) > 0.05*max(a, b) { // less than that a kernel takes
		differ("different machines: bytes of memory", old.MemoryBytes, new.MemoryBytes)
	}
	differ("different kernels", old.Kernel, new.Kernel)
	differ("different congestion control", old.Congestion, new.Congestion)
	differ("different length of samples, in seconds", old.Duration, new.Duration)
	differ("different warm-up, in seconds", old.Warmup, new.Warmup)
	differ("different versions of flanneld", old.Flanneld, new.Flanneld)
	differ("different ways to count system calls", old.Syscalls, new.Syscalls)
	if old.Assist != "" && new.Assist != "" {
		differ("different kernel assist of udp", old.Assist, new.Assist)
	}
	differ("different limit to what UDP may lose", old.LossLimit, new.LossLimit)
	mtus := func(profile string, a, b map[string]int) {
		for _, path := range slices.Sorted(maps.Keys(b)) {
			if mtu, both := a[path]; both {
				differ(fmt.Sprintf("different MTU on path %s%s", path, profile), mtu, b[path])
			}
		}
	}
	if len(new.ProfileMTU) == 0 {
		mtus("", old.MTU, new.MTU)
	}
	for _, profile := range slices.Sorted(maps.Keys(new.ProfileMTU)) {
		mtus(", profile "+profile, old.ProfileMTU[profile], new.ProfileMTU[profile])
	}
	for _, profile := range slices.Sorted(maps.Keys(new.Offloads)) {
		if offload, both := old.Offloads[profile]; both && !maps.Equal(offload, new.Offloads[profile]) {
			warnings = append(warnings, "different offloads in profile "+profile)
		}
	}
	return warnings
}

// unaided is the path that weft has no part in.
const unaided = "direct"

// doubts are the warnings of the runs themselves, and what the figures say
// about the machine.
func (c *Comparison) doubts(old, new report.Run) (warnings []string) {
	for _, side := range []struct {
		name string
		run  report.Run
	}{{"old", old}, {"new", new}} {
		if side.run.Environment.Interrupted {
			warnings = append(warnings, side.name+" run: it did not come to its end")
		}
		for _, w := range side.run.Warnings {
			warnings = append(warnings, side.name+" run: "+w)
		}
	}
	moved := 0
	for _, change := range c.Changes {
		if change.Path == unaided && (change.Verdict == Better || change.Verdict == Worse) {
			moved++
		}
	}
	if moved > 0 {
		warnings = append(warnings, fmt.Sprintf("%d figures of path %s changed, which weft has no part in: the machine or its load was another", moved, unaided))
	}
	return warnings
}
