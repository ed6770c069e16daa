package main

import (
	"context"
	"flag"
	"io"
	"os"
	"strings"

	"github.com/weftnet/weft/bench/run"
)

// list is a flag of names with commas between them; "all" stands for all that
// there are.
type list struct {
	names *[]string
	all   []string
}

func (l list) String() string {
	if l.names == nil {
		return ""
	}
	return strings.Join(*l.names, ",")
}

func (l list) Set(text string) error {
	*l.names = strings.Split(text, ",")
	if text == "all" {
		*l.names = l.all
	}
	return nil
}

func runBenchmark(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, quick := run.Defaults(), false
	if status, done := parse(runFlags(&o, &quick, stderr), args, stderr); done {
		return status
	}
	if quick {
		// It changes what the other flags default to.
		o = run.Quick()
		if status, done := parse(runFlags(&o, &quick, stderr), args, stderr); done {
			return status
		}
	}
	self, err := os.Executable()
	if err == nil {
		o.Generator = []string{self, generatorCommand}
		err = run.Run(ctx, o, stdout, stderr)
	}
	return exitStatus(ctx, "run", err, stderr)
}

func runFlags(o *run.Options, quick *bool, stderr io.Writer) *flag.FlagSet {
	flags := flag.NewFlagSet("weft-bench run", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.BoolVar(quick, "quick", false, "udp against vxlan in less than two minutes; other flags change that")
	flags.Var(list{&o.Paths, run.PathNames()}, "paths", "`names` of the paths to measure, of "+strings.Join(run.PathNames(), ",")+"; unless given, those whose programs are installed")
	flags.Var(list{&o.Profiles, run.ProfileNames()}, "profiles", "`names` of underlay profiles, of "+strings.Join(run.ProfileNames(), ",")+", or all")
	flags.Var(list{&o.Workloads, run.WorkloadNames()}, "workloads", "`names` of the workloads, or all")
	flags.StringVar(&o.Baseline, "baseline", o.Baseline, "`path` that the others are compared with")
	flags.IntVar(&o.Rounds, "rounds", o.Rounds, "samples of each figure")
	flags.DurationVar(&o.Duration, "duration", o.Duration, "length of each sample")
	flags.DurationVar(&o.Warmup, "warmup", o.Warmup, "time before each sample that does not count")
	flags.StringVar(&o.Congestion, "congestion", o.Congestion, "congestion control of TCP")
	flags.StringVar(&o.IPerf3, "iperf3", o.IPerf3, "`program` to check TCP against if it is there; empty for none")
	flags.StringVar(&o.JSON, "json", "", "`file` to write the results to; - for stdout")
	flags.StringVar(&o.Weftd, "weftd", besideThis("weftd"), "the weftd binary")
	flags.StringVar(&o.Flanneld, "flanneld", o.Flanneld, "flannel's `program`, for the paths flanneld-udp and flanneld-vxlan")
	return flags
}
