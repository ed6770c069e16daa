package run

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/generator"
	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/report"
)

// asGenerator makes the test binary a generator.
const asGenerator = "generator"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == asGenerator {
		os.Exit(generator.Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// short are options of a short run, of paths that need no weftd. In bench/e2e
// are runs with the built daemons.
func short(t *testing.T) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Defaults()
	o.Name = fmt.Sprintf("weft-br%d", os.Getpid())
	o.Generator = []string{self, asGenerator}
	o.Paths = []string{"direct"}
	o.Rounds = 1
	// Long enough that other tests on this machine leave some of it.
	o.Warmup, o.Duration = 100*time.Millisecond, 400*time.Millisecond
	o.IPerf3 = ""
	o.Congestion = "reno"
	return o
}

func wantNothingLeft(t *testing.T, o Options) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/" + o.Name + "*", lab.Dir(o.Name) + "*"} {
		if left, err := filepath.Glob(pattern); err != nil || len(left) > 0 {
			t.Errorf("left behind: %q, %v", left, err)
		}
	}
}

// measured runs o and reads what it wrote.
func measured(t *testing.T, o Options) (d *report.Document, said string) {
	t.Helper()
	labtest.RequireRoot(t)
	o.JSON = filepath.Join(t.TempDir(), "run.json")
	var out strings.Builder
	if err := Run(t.Context(), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	wantNothingLeft(t, o)
	d, err := report.Read(o.JSON)
	if err != nil {
		t.Fatal(err)
	}
	return d, out.String()
}

func TestWorkloads(t *testing.T) {
	labtest.OneOfSome(t, func() string { return workloadsMeasured(t) })
}

// workloadsMeasured returns which figure is missing.
func workloadsMeasured(t *testing.T) (amiss string) {
	o := short(t)
	o.Profiles = []string{"veth"}
	o.Warmup = 200 * time.Millisecond // leaves room to count system calls
	o.Rounds = 2                      // other tests may leave nothing of the CPUs to one
	d, said := measured(t, o)
	want := []string{"cpu", "cpu_user", "cpu_system", "cpu_softirq", "cpu_senders", "cpu_receivers", "context_switches"}
	e := d.Environment
	calls := 0 // workloads whose system calls were counted: on a busy machine not all
	for _, w := range workloads {
		if r := d.Find("direct", "veth", w.name, "syscalls"); r != nil && r.Median > 0 {
			calls++
		}
		judged, costs := w.main, want
		if w.search && d.Find("direct", "veth", w.name, judged) == nil {
			judged, costs = "delivered", nil // on a busy machine there may be no rate without loss
		}
		for _, metric := range append(costs[:len(costs):len(costs)], judged) {
			r := d.Find("direct", "veth", w.name, metric)
			if r == nil || r.Median < 0 || metric == judged && r.Median == 0 || len(r.Samples) == 0 {
				amiss = fmt.Sprintf("%s of %s: %+v", metric, w.name, r)
			}
		}
	}
	if (calls > 0) != (e.Syscalls == callEvent) {
		amiss = fmt.Sprintf("system calls of %d workloads were counted, by %s", calls, e.Syscalls)
	}
	if e.Kernel == "" || e.CPUs == 0 || e.MemoryBytes == 0 || e.Interrupted || e.Syscalls == "" || e.Weftd != "" {
		t.Errorf("%+v", e)
	}
	if !strings.Contains(said, "profiles veth; workloads tcp1, tcp4") || !strings.Contains(said, "Gbit/s") {
		t.Error("there is no plan, or no table:\n", said)
	}
	return amiss
}

func TestProfiles(t *testing.T) {
	o := short(t)
	o.Duration = 200 * time.Millisecond
	o.Workloads, o.Profiles = []string{"udp1400"}, []string{"loss1"}
	labtest.OneOfSome(t, func() (amiss string) {
		d, _ := measured(t, o)
		for _, metric := range []string{"delivered", "cpu"} {
			if r := d.Find("direct", "loss1", "udp1400", metric); r == nil || r.Median <= 0 {
				amiss = fmt.Sprintf("%s of UDP with a loss of 1 %%: %+v", metric, r)
			}
		}
		if r := d.Find("direct", "loss1", "udp1400", "throughput"); r != nil {
			t.Errorf("of UDP with a loss of 1 %%, a rate without loss: %+v", r)
		}
		return amiss
	})
	o.Workloads, o.Profiles = []string{"tcp1"}, ProfileNames()
	var e report.Environment
	labtest.OneOfSome(t, func() (amiss string) {
		d, _ := measured(t, o)
		e = d.Environment
		for _, in := range profiles {
			if in.lose > 0 {
				continue // TCP may wait longer than a sample for what was lost
			}
			if r := d.Find("direct", in.name, "tcp1", "throughput"); r == nil || r.Median <= 0 {
				amiss = fmt.Sprintf("%s: %+v", in.name, r)
			}
		}
		if r := d.Find("direct", "1gbit", "tcp1", "throughput"); r == nil || r.Median > 1.5 || r.Median < 0.01 {
			amiss = fmt.Sprintf("TCP over 1 Gbit/s: %+v", r)
		}
		return amiss
	})
	if !reflect.DeepEqual(e.MTU, map[string]int{"direct": 1500}) || e.ProfileMTU["mtu9000"]["direct"] != 9000 || len(e.ProfileMTU) != len(profiles) {
		t.Errorf("MTU %v, %v", e.MTU, e.ProfileMTU)
	}
	for profile, want := range map[string][4]bool{"veth": {true, true, true, false}, "notso": {false, false, true, true}, "noseg": {false, false, false, true}} {
		f := e.Offloads[profile]
		if got := [4]bool{f["tx-udp_tnl-segmentation"], f["tx-udp_tnl-csum-segmentation"], f["tx-tcp-segmentation"], f["rx-gro"]}; got != want {
			t.Errorf("offloads of %s: %v", profile, got)
		}
	}
}

// built is a runner whose paths stand.
func built(t *testing.T, o Options) *runner {
	t.Helper()
	labtest.RequireRoot(t)
	r := newRunner(o, io.Discard)
	r.document.Environment.Offloads = make(map[string]report.Offload)
	r.document.Environment.ProfileMTU = make(map[string]map[string]int)
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.rebuild(t.Context(), profileOf("veth")); err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRunRefuses(t *testing.T) {
	labtest.RequireRoot(t)
	for want, change := range map[string]func(*Options){
		"no path is chosen: there are direct":        func(o *Options) { o.Paths = []string{} },
		"no flanneld to run":                         func(o *Options) { o.Paths, o.Weftd, o.Flanneld = []string{"flanneld-udp"}, "/bin/true", "/nonexistent" },
		`unknown path "carrier"`:                     func(o *Options) { o.Paths = []string{"carrier"} },
		"path udp is chosen twice":                   func(o *Options) { o.Paths = []string{"udp", "vxlan", "udp"} },
		`unknown profile ""`:                         func(o *Options) { o.Profiles = []string{""} },
		`unknown workload "tcp2": there are tcp1`:    func(o *Options) { o.Workloads = []string{"tcp2"} },
		`unknown path "x" to compare with`:           func(o *Options) { o.Baseline = "x" },
		"0 rounds":                                   func(o *Options) { o.Rounds = 0 },
		"samples of 1ms":                             func(o *Options) { o.Duration = time.Millisecond },
		"a warm-up of -1s":                           func(o *Options) { o.Warmup = -time.Second },
		"no weftd to run at /nonexistent":            func(o *Options) { o.Paths, o.Weftd = []string{"udp"}, "/nonexistent" },
		"no weftd to run at /also-none":              func(o *Options) { o.Paths, o.Weftd = nil, "/also-none" },
		"no congestion control x: load it with `mod": func(o *Options) { o.Congestion = "x" },
		"write results to /nonexistent/run.json":     func(o *Options) { o.JSON = "/nonexistent/run.json" },
	} {
		o := short(t)
		change(&o)
		if err := Run(t.Context(), o, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("Run returns %v, want %q", err, want)
		}
		wantNothingLeft(t, o)
	}
}

// Without root it says so before it makes anything.
func TestNeedsRoot(t *testing.T) {
	if os.Geteuid() == 0 {
		if err := unix.Setresuid(-1, 65534, -1); err != nil {
			t.Fatal(err)
		}
		defer unix.Setresuid(-1, 0, -1)
	}
	o := short(t)
	if err := Run(t.Context(), o, io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), "needs root; run it with sudo") {
		t.Error("the error is", err)
	}
}

// Paths of programs that nobody asked for are left out, with the reason.
func TestPathsOfMissingPrograms(t *testing.T) {
	labtest.RequireRoot(t)
	o := Defaults()
	o.Weftd, o.Flanneld = "/bin/true", "/nonexistent"
	if err := o.choosePaths(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(o.Paths, " "); got != "direct host-gw vxlan udp udp-user udp-classic" {
		t.Error("chosen are", got)
	}
	if len(o.skipped) != 2 || !strings.Contains(o.skipped[0], "flanneld-udp: no flanneld to run") || !strings.Contains(o.skipped[0], "--flanneld") {
		t.Errorf("left out are %q", o.skipped)
	}
}
