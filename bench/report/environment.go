package report

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"
)

// facts are the environment as names and values, without the offloads.
func (e *Environment) facts() (list [][2]string) {
	add := func(name, value string) {
		if value != "" {
			list = append(list, [2]string{name, value})
		}
	}
	add("Started", e.Started.UTC().Format(timeLayout))
	if took := e.Finished.Sub(e.Started); took > 0 {
		add("Took", took.Round(time.Second).String())
	}
	cpus := fmt.Sprintf("%d × %s", e.CPUs, e.CPUModel)
	if e.Hypervisor {
		cpus += ", of a virtual machine"
	}
	add("CPUs", cpus)
	add("Memory", humanize.IBytes(e.MemoryBytes))
	add("Kernel", strings.TrimSpace("Linux "+e.Kernel+" "+e.Arch))
	add("Load before", fmt.Sprintf("%.2f %.2f %.2f; %.0f %% of CPU time in use", e.LoadAverage[0], e.LoadAverage[1], e.LoadAverage[2], 100*e.BusyBefore))
	add("weftd", e.Weftd)
	add("Kernel assist of udp", e.Assist)
	add("flanneld", e.Flanneld)
	add("Left out", strings.Join(e.Skipped, "; "))
	add("Go", e.Go)
	add("iperf3", e.IPerf3)
	add("Congestion control", fmt.Sprintf("%s (the kernel's default: %s)", e.Congestion, e.DefaultCongestion))
	add("Samples", fmt.Sprintf("%d rounds of %s s after %s s that do not count", e.Rounds, Number(e.Duration), Number(e.Warmup)))
	if e.LossLimit > 0 {
		add("UDP without loss", fmt.Sprintf("less than %g %% of the datagrams lost", 100*e.LossLimit))
	}
	add("System calls", e.Syscalls)
	return list
}

// mtuGrid has the MTU of the containers.
func (e *Environment) mtuGrid() grid {
	g := grid{Caption: "MTU of the containers, in bytes"}
	byProfile := e.ProfileMTU
	if len(byProfile) == 0 {
		byProfile = map[string]map[string]int{"": e.MTU}
	}
	paths := make(map[string]bool)
	for profile, mtus := range byProfile {
		g.Columns = append(g.Columns, profile)
		for path := range mtus {
			paths[path] = true
		}
	}
	slices.Sort(g.Columns)
	for _, path := range sorted(paths) {
		cells := make([]cell, len(g.Columns))
		for i, profile := range g.Columns {
			if mtu, known := byProfile[profile][path]; known {
				cells[i].Value = strconv.Itoa(mtu)
			}
		}
		g.add(path, cells)
	}
	return g
}

// offloadGrid has the features that differ between profiles.
func (e *Environment) offloadGrid() grid {
	g := grid{Caption: "Offloads of the hosts' device that differ", Columns: sorted(e.Offloads)}
	features := make(map[string]bool)
	for _, offload := range e.Offloads {
		for name := range offload {
			features[name] = true
		}
	}
	for _, name := range sorted(features) {
		cells, differ := make([]cell, len(g.Columns)), false
		for i, profile := range g.Columns {
			if on, known := e.Offloads[profile][name]; known {
				cells[i].Value = map[bool]string{true: "on", false: "off"}[on]
			}
			differ = differ || cells[i] != cells[0]
		}
		if differ {
			g.add(name, cells)
		}
	}
	return g
}

// command measures the same again.
func (d *Document) command() string {
	e := &d.Environment
	var paths, workloads []string
	for _, r := range d.Results {
		paths, workloads = once(paths, r.Path), once(workloads, r.Workload)
	}
	list := func(names []string) string {
		text := strings.Join(names, ",")
		if strings.Trim(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,-_") != "" {
			text = "'" + strings.ReplaceAll(text, "'", `'\''`) + "'" // of a shell
		}
		return text
	}
	seconds := func(v float64) string { return strconv.FormatFloat(v, 'f', -1, 64) + "s" }
	command := fmt.Sprintf("weft-bench run --paths=%s --profiles=%s --workloads=%s --rounds=%d --duration=%s --warmup=%s --congestion=%s",
		list(paths), list(d.profiles()), list(workloads), e.Rounds, seconds(e.Duration), seconds(e.Warmup), list([]string{e.Congestion}))
	if to := d.opponents(); len(to) > 0 {
		command += " --baseline=" + list(to[:1])
	}
	return command + " --json run.json"
}
