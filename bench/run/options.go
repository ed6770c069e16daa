package run

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Options of a run.
type Options struct {
	Name      string   // of the labs: their namespaces and directories start with it
	Weftd     string   // path of the binary
	Flanneld  string   // path or name of the binary
	Generator []string // the program, with arguments, that calls generator.Main

	// See PathNames and so on. Paths may be nil for all whose programs are
	// there.
	Paths, Profiles, Workloads []string

	Baseline   string        // path that the others are compared with
	Rounds     int           // samples of each figure
	Warmup     time.Duration // of each sample, before it counts
	Duration   time.Duration // of each sample
	Congestion string        // of the TCP that is measured
	IPerf3     string        // program to check the generator against; "" for none
	JSON       string        // file for the results, "-" for stdout, "" for none

	skipped []string // paths that were left out, and why
}

// Defaults are the options of a full run: all paths whose programs are
// installed, and of the profiles those that differ most.
func Defaults() Options {
	return Options{
		Name:       "weft-bench",
		Flanneld:   "flanneld",
		Profiles:   []string{"veth", "notso"},
		Workloads:  WorkloadNames(),
		Baseline:   "vxlan",
		Rounds:     5,
		Warmup:     400 * time.Millisecond,
		Duration:   time.Second,
		Congestion: "cubic",
		IPerf3:     "iperf3",
	}
}

// Quick are the options of a run of less than two minutes.
func Quick() Options {
	o := Defaults()
	o.Paths = []string{"vxlan", "udp"}
	o.Profiles = []string{"veth"}
	o.Workloads = []string{"tcp1", "tcp4", "udp1400", "rtt"}
	o.Duration = 800 * time.Millisecond
	return o
}

const (
	maxRounds   = 1000
	maxWarmup   = 10 * time.Second
	minDuration = 100 * time.Millisecond
	maxDuration = 20 * time.Second
)

// choice is some names of those there are.
type choice struct {
	what         string
	chosen, know []string
}

// validate says what is wrong with the options themselves.
func (o *Options) validate() error {
	lists := []choice{
		{"profile", o.Profiles, ProfileNames()},
		{"workload", o.Workloads, WorkloadNames()},
	}
	if o.Paths != nil {
		lists = append(lists, choice{"path", o.Paths, PathNames()})
	}
	for _, list := range lists {
		if len(list.chosen) == 0 {
			return fmt.Errorf("no %s is chosen: there are %s", list.what, strings.Join(list.know, ", "))
		}
		for i, name := range list.chosen {
			if !slices.Contains(list.know, name) {
				return fmt.Errorf("unknown %s %q: there are %s", list.what, name, strings.Join(list.know, ", "))
			}
			if slices.Contains(list.chosen[:i], name) {
				return fmt.Errorf("%s %s is chosen twice", list.what, name)
			}
		}
	}
	switch {
	case !slices.Contains(PathNames(), o.Baseline):
		return fmt.Errorf("unknown path %q to compare with: there are %s", o.Baseline, strings.Join(PathNames(), ", "))
	case o.Rounds < 1 || o.Rounds > maxRounds:
		return fmt.Errorf("%d rounds: from 1 to %d are possible", o.Rounds, maxRounds)
	case o.Duration < minDuration || o.Duration > maxDuration:
		return fmt.Errorf("samples of %v: from %v to %v are possible", o.Duration, minDuration, maxDuration)
	case o.Warmup < 0 || o.Warmup > maxWarmup:
		return fmt.Errorf("a warm-up of %v: up to %v is possible", o.Warmup, maxWarmup)
	}
	return nil
}

// choosePaths looks for the programs of the paths. Those that were asked for
// must be there; in place of none, all whose programs are there are chosen.
func (o *Options) choosePaths() error {
	wanted, asked := o.Paths, o.Paths != nil
	if !asked {
		wanted = PathNames()
	}
	o.Paths, o.skipped = nil, nil
	for _, name := range wanted {
		needs := kindOf(name).needs
		err := o.find(needs)
		if err != nil && (asked || needs == weftd) {
			return err
		}
		if err != nil {
			o.skipped = append(o.skipped, fmt.Sprintf("%s: %v", name, err))
			continue
		}
		o.Paths = append(o.Paths, name)
	}
	return nil
}

// find looks for a program that a path needs.
func (o *Options) find(p program) error {
	if p == "" {
		return nil
	}
	tun, err := os.OpenFile("/dev/net/tun", os.O_RDWR, 0)
	if err != nil {
		return fmt.Errorf("the udp backends need TUN devices: %w; load the module with `modprobe tun`, or, inside a container, give it the device /dev/net/tun", err)
	}
	tun.Close()
	// It serves etcd to any other daemon.
	if err := unix.Access(o.Weftd, unix.X_OK); err != nil {
		return fmt.Errorf("no weftd to run at %s (%w); build it with `make build`, or name it with --weftd", o.Weftd, err)
	}
	if p != flanneld {
		return nil
	}
	file, err := exec.LookPath(o.Flanneld)
	if err != nil {
		return fmt.Errorf("no flanneld to run (%w); name one with --flanneld, or leave its paths out", err)
	}
	o.Flanneld = file
	return nil
}

// checkMachine says what is missing before anything is made.
func (o *Options) checkMachine() error {
	if os.Geteuid() != 0 {
		return errors.New("it makes network namespaces, which needs root; run it with sudo")
	}
	if err := o.choosePaths(); err != nil {
		return err
	}
	const available = "/proc/sys/net/ipv4/tcp_available_congestion_control"
	algorithms, err := os.ReadFile(available)
	if err != nil {
		return err
	}
	if !slices.Contains(strings.Fields(string(algorithms)), o.Congestion) {
		return fmt.Errorf("the kernel has no congestion control %s: load it with `modprobe tcp_%s`, or choose one of %s with --congestion",
			o.Congestion, o.Congestion, strings.TrimSpace(string(algorithms)))
	}
	if o.JSON != "" && o.JSON != "-" {
		if err := unix.Access(filepath.Dir(o.JSON), unix.W_OK); err != nil {
			return fmt.Errorf("write results to %s: %w", o.JSON, err)
		}
	}
	return nil
}
