package compare

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/report"
)

var update = flag.Bool("update", false, "write the golden files anew")

// result has seven samples around a median, 1 % apart.
func result(path, workload, metric, unit string, median float64) report.Result {
	r := report.Result{Path: path, Profile: "veth", Workload: workload, Metric: metric, Unit: unit, Median: median, Low: 0.97 * median, High: 1.03 * median}
	for i := range 7 {
		r.Samples = append(r.Samples, median*(1+0.01*float64(i-3)))
	}
	return r
}

func run(file string, results ...report.Result) report.Run {
	return report.Run{File: file, Document: &report.Document{Schema: report.Schema, Results: results, Environment: report.Environment{
		Started: time.Date(2001, 2, 3, 4, 5, 6, 0, time.UTC), Kernel: "6.1.0-made-up", Arch: "amd64", CPUModel: "Imaginary CPU", CPUs: 2,
		MemoryBytes: 8 << 30, Weftd: "v0.1.0", Congestion: "cubic", Duration: 2, Warmup: 0.5, MTU: map[string]int{"udp": 1472},
		Offloads: map[string]report.Offload{"veth": {"rx-gro": true}},
	}}}
}

func TestVerdicts(t *testing.T) {
	for _, c := range []struct {
		name         string
		metric, unit string
		old, new     float64
		threshold    float64
		want         Verdict
	}{
		{"a rate that falls", "throughput", "Gbit/s", 10, 8, 0.05, Worse},
		{"a rate that rises", "throughput", "Gbit/s", 10, 13, 0.05, Better},
		{"a latency that rises", "half_rtt_p99", "us", 10, 13, 0.05, Worse},
		{"a latency that falls", "half_rtt_p99", "us", 10, 8, 0.05, Better},
		{"a cost that rises", "cpu", "s/GB", 1, 1.2, 0.05, Worse},
		{"a metric nobody heard of", "warmth", "K", 300, 400, 0.05, Worse},
		{"no change", "throughput", "Gbit/s", 10, 10, 0.05, Same},
		{"beyond noise, below the threshold", "throughput", "Gbit/s", 10, 9.3, 0.1, Same},
		{"the same with a lower threshold", "throughput", "Gbit/s", 10, 9.3, 0.05, Worse},
		{"within noise, whatever the threshold", "throughput", "Gbit/s", 10, 10.1, 0, Same},
		{"nothing gets through any more", "throughput", "Gbit/s", 10, 0, 0.05, Worse},
	} {
		comparison, err := Compare(run("a", result("udp", "tcp1", c.metric, c.unit, c.old)), run("b", result("udp", "tcp1", c.metric, c.unit, c.new)), c.threshold)
		if err != nil {
			t.Fatal(err)
		}
		got := comparison.Changes[0]
		if got.Verdict != c.want || got.Reason != "" {
			t.Errorf("%s: %+v, want %s", c.name, got, c.want)
		}
	}
}

func TestUndecided(t *testing.T) {
	few := result("udp", "tcp1", "throughput", "Gbit/s", 5)
	few.Samples = few.Samples[:4]
	zero := result("udp", "tcp1", "throughput", "Gbit/s", 0)
	other := result("udp", "tcp1", "throughput", "kpacket/s", 5)
	full := result("udp", "tcp1", "throughput", "Gbit/s", 10)
	for _, c := range []struct {
		old, new report.Result
		reason   string
	}{
		{few, full, "4 and 7 samples; 5 each are needed"},
		{full, few, "7 and 4 samples; 5 each are needed"},
		{zero, full, "old samples are not above 0"},
		{other, full, "the unit was kpacket/s"},
	} {
		comparison, err := Compare(run("a", c.old), run("b", c.new), 0.05)
		if err != nil {
			t.Fatal(err)
		}
		if got := comparison.Changes[0]; got.Verdict != Undecided || got.Reason != c.reason || got.Ratio != 0 {
			t.Errorf("%+v, want %q", got, c.reason)
		}
	}
}

// What no longer arrives at all is worse, and not merely not there.
func TestNothingArrives(t *testing.T) {
	rate := func(path, workload string) report.Result { return result(path, workload, "throughput", "Gbit/s", 10) }
	latency := result("vxlan", "rtt", "half_rtt_p50", "us", 20)
	old := run("a", rate("udp", "tcp1"), rate("udp", "tcp4"), rate("vxlan", "tcp1"), latency)
	for name, test := range map[string]struct {
		new  []report.Result
		want bool // worse
	}{
		"measured beside it":       {[]report.Result{rate("udp", "tcp4"), rate("vxlan", "tcp1")}, true},
		"path not measured":        {[]report.Result{rate("vxlan", "tcp1")}, false},
		"workload not measured":    {[]report.Result{rate("udp", "tcp4"), rate("vxlan", "tcp4")}, false},
		"measured by other metric": {[]report.Result{rate("udp", "tcp4"), result("vxlan", "tcp1", "cpu", "s/GB", 1)}, false},
	} {
		// A figure that is there keeps the comparison from being empty.
		new := run("b", append(test.new, latency)...)
		c, err := Compare(old, new, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		gone := Figure{"udp", "veth", "tcp1", "throughput", "Gbit/s"}
		worse := c.Of(Worse)
		if test.want && (len(worse) != 1 || worse[0].Figure != gone || worse[0].Old != 10 || worse[0].New != 0 || worse[0].Reason == "" || slices.Contains(c.OnlyOld, gone)) {
			t.Errorf("%s: %+v", name, c.Changes)
		}
		if !test.want && (len(worse) != 0 || !slices.Contains(c.OnlyOld, gone)) {
			t.Errorf("%s: %+v, only old %v", name, c.Changes, c.OnlyOld)
		}
		new.Environment.Interrupted = true
		if c, err := Compare(old, new, 0.05); err != nil || len(c.Of(Worse)) != 0 {
			t.Errorf("%s, interrupted: %+v, error %v", name, c.Changes, err)
		}
	}
}

func TestWhatIsCompared(t *testing.T) {
	old := run("a", result("udp", "tcp1", "throughput", "Gbit/s", 10), result("udp", "udp64", "offered", "kpacket/s", 10), result("vxlan", "tcp1", "throughput", "Gbit/s", 10), result("udp", "tcp1", "cpu_user", "s/GB", 10))
	new := run("b", result("udp", "tcp1", "throughput", "Gbit/s", 10), result("udp", "udp64", "offered", "kpacket/s", 1), result("host-gw", "tcp1", "throughput", "Gbit/s", 10), result("udp", "tcp1", "cpu_user", "s/GB", 90))
	c, err := Compare(old, new, 0.05)
	if err != nil {
		t.Fatal(err)
	}
	if len(c.Changes) != 1 || c.Changes[0].Metric != "throughput" {
		t.Errorf("compared: %+v", c.Changes)
	}
	if len(c.OnlyOld) != 1 || c.OnlyOld[0].Path != "vxlan" || len(c.OnlyNew) != 1 || c.OnlyNew[0].Path != "host-gw" {
		t.Errorf("only old %v, only new %v", c.OnlyOld, c.OnlyNew)
	}
	if len(c.Warnings) != 0 {
		t.Errorf("warnings of equal machines: %q", c.Warnings)
	}
	for name, runs := range map[string][2]report.Run{"empty": {run("a"), run("b")}, "apart": {run("a", result("udp", "tcp1", "x", "x", 1)), run("b", result("udp", "tcp4", "x", "x", 1))}} {
		if _, err := Compare(runs[0], runs[1], 0.05); !errors.Is(err, ErrNothingInCommon) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, threshold := range []float64{-0.1, 1, 5} {
		if _, err := Compare(old, new, threshold); err == nil {
			t.Errorf("a threshold of %v is no error", threshold)
		}
	}
}

func TestWarnings(t *testing.T) {
	figure := result("udp", "tcp1", "throughput", "Gbit/s", 10)
	for want, change := range map[string]func(*report.Run){
		"different machines: CPU: Imaginary CPU, then Real CPU": func(r *report.Run) { r.Environment.CPUModel = "Real CPU" },
		"different machines: number of CPUs: 2, then 64":        func(r *report.Run) { r.Environment.CPUs = 64 },
		"different machines: virtual: false, then true":         func(r *report.Run) { r.Environment.Hypervisor = true },
		"different machines: bytes of memory":                   func(r *report.Run) { r.Environment.MemoryBytes = 16 << 30 },
		"different machines: architecture: amd64, then arm64":   func(r *report.Run) { r.Environment.Arch = "arm64" },
		"different kernels: 6.1.0-made-up, then 6.2":            func(r *report.Run) { r.Environment.Kernel = "6.2" },
		"different congestion control: cubic, then bbr":         func(r *report.Run) { r.Environment.Congestion = "bbr" },
		"different length of samples, in seconds: 2, then 1":    func(r *report.Run) { r.Environment.Duration = 1 },
		"different MTU on path udp: 1472, then 8972":            func(r *report.Run) { r.Environment.MTU = map[string]int{"udp": 8972} },
		"different offloads in profile veth":                    func(r *report.Run) { r.Environment.Offloads = map[string]report.Offload{"veth": {"rx-gro": false}} },
		"new run: it did not come to its end":                   func(r *report.Run) { r.Environment.Interrupted = true },
		"new run: too noisy":                                    func(r *report.Run) { r.Warnings = []string{"too noisy"} },
	} {
		new := run("b", figure)
		change(&new)
		c, err := Compare(run("a", figure), new, 0.05)
		if err != nil {
			t.Fatal(err)
		}
		if !slices.ContainsFunc(c.Warnings, func(w string) bool { return strings.HasPrefix(w, want) }) {
			t.Errorf("%q is not among %q", want, c.Warnings)
		}
	}
	c, err := Compare(run("a", result("direct", "tcp1", "throughput", "Gbit/s", 10)), run("b", result("direct", "tcp1", "throughput", "Gbit/s", 20)), 0.05)
	if err != nil || len(c.Warnings) != 1 || !strings.HasPrefix(c.Warnings[0], "1 figures of path direct changed") {
		t.Errorf("plain routing changed: %q, %v", c.Warnings, err)
	}
	slightly := run("b", figure)
	slightly.Environment.MemoryBytes += 4 << 20
	if c, err := Compare(run("a", figure), slightly, 0.05); err != nil || len(c.Warnings) != 0 {
		t.Errorf("a little more memory: %q, %v", c.Warnings, err)
	}
}

func TestGolden(t *testing.T) {
	few := result("udp", "connect", "connections", "1/s", 5000)
	few.Samples = few.Samples[:2]
	old := run("old.json", result("udp", "tcp1", "throughput", "Gbit/s", 16), result("udp", "tcp4", "throughput", "Gbit/s", 16), result("udp", "rtt", "half_rtt_p50", "us", 21),
		result("udp", "tcp1", "cpu", "s/GB", 1), result("vxlan", "tcp1", "throughput", "Gbit/s", 12), result("udp", "udp64", "delivered", "kpacket/s", 600), few)
	new := run("new.json", result("udp", "tcp1", "throughput", "Gbit/s", 12), result("udp", "tcp4", "throughput", "Gbit/s", 16.2), result("udp", "rtt", "half_rtt_p50", "us", 9),
		result("udp", "tcp1", "cpu", "s/GB", 1.1), result("host-gw", "tcp1", "throughput", "Gbit/s", 50), result("host-gw", "udp64", "delivered", "kpacket/s", 900), few)
	new.Environment.Kernel, new.Environment.Weftd = "6.2.0-made-up", ""
	c, err := Compare(old, new, DefaultThreshold)
	if err != nil {
		t.Fatal(err)
	}
	asJSON, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	for name, got := range map[string]string{"compare.txt": c.Text(), "compare.json": string(asJSON)} {
		file := filepath.Join("testdata", name)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (go test -update writes it anew):\n%.5000s", file, got)
		}
	}
}

// Empty lists are lists for scripts, not null.
func TestJSONHasLists(t *testing.T) {
	figure := result("udp", "tcp1", "throughput", "Gbit/s", 10)
	c, err := Compare(run("a", figure), run("b", figure), 0.05)
	if err != nil {
		t.Fatal(err)
	}
	b, err := c.JSON()
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"warnings", "changes", "only_old", "only_new"} {
		if _, ok := fields[name].([]any); !ok {
			t.Errorf("%s is %v", name, fields[name])
		}
	}
	if fields["schema"] != 1.0 || fields["threshold"] != 0.05 || fields["confidence"] != 0.99 {
		t.Errorf("%v", fields)
	}
}
