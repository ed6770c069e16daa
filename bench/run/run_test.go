package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
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

// short are options of a short run, of paths that need no weftd.
func short(t *testing.T) Options {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	o := Defaults()
	o.Name = fmt.Sprintf("weft-br%d", os.Getpid())
	o.Generator = []string{self, asGenerator}
	o.Paths = []string{"direct", "vxlan"}
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

func TestRun(t *testing.T) {
	labtest.RequireRoot(t)
	o := short(t)
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
	for _, profile := range o.Profiles {
		for _, path := range o.Paths {
			for _, name := range o.Workloads {
				r := d.Find(path, profile, name, workloadOf(name).main)
				if r == nil || r.Median <= 0 || len(r.Samples) != 1 {
					t.Errorf("%s on %s, %s: %+v", name, path, profile, r)
				}
				if d.FindRatio("direct", "vxlan", profile, name, workloadOf(name).main) == nil {
					t.Errorf("%s, %s: no ratio", name, profile)
				}
			}
		}
	}
	e := d.Environment
	if want := map[string]int{"direct": 1500, "vxlan": 1450}; !reflect.DeepEqual(e.MTU, want) || e.Kernel == "" || e.CPUs == 0 || e.MemoryBytes == 0 || e.Interrupted {
		t.Errorf("%+v", e)
	}
	for profile, want := range map[string][3]bool{"veth": {true, true, false}, "notso": {false, false, true}} {
		f := e.Offloads[profile]
		if got := [3]bool{f["tx-udp_tnl-segmentation"], f["tx-udp_tnl-csum-segmentation"], f["rx-gro"]}; got != want {
			t.Errorf("offloads of %s: %v", profile, got)
		}
	}
	if !strings.Contains(out.String(), "direct : vxlan") {
		t.Error("there is no table:\n", out.String())
	}
}

// built is a runner whose paths stand.
func built(t *testing.T, o Options) *runner {
	t.Helper()
	labtest.RequireRoot(t)
	r := &runner{o: o, out: newProgress(io.Discard), results: newResults()}
	r.document.Environment.MTU = make(map[string]int)
	r.document.Environment.Offloads = make(map[string]report.Offload)
	t.Cleanup(func() {
		if err := r.close(); err != nil {
			t.Error(err)
		}
	})
	if err := r.build(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// A path that was slowed on purpose shows as slower, beyond doubt.
func TestSlowPathIsNoticed(t *testing.T) {
	o := short(t)
	o.Workloads = []string{"tcp1"}
	r := built(t, o)
	slow := r.paths[1].cluster.Hosts[0]
	err := slow.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		const rate = 50_000_000 / 8 // bytes a second
		return netlink.QdiscAdd(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: 1 << 20, Buffer: uint32(netlink.Xmittime(rate, 1<<17)),
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	for round := range 5 {
		if err := r.round(t.Context(), "veth", round); err != nil {
			t.Fatal(err)
		}
	}
	r.results.fill(&r.document, "direct")
	ratio := r.document.FindRatio("vxlan", "direct", "veth", "tcp1", "throughput")
	if ratio == nil || ratio.High > 0.8 {
		t.Errorf("a path of 50 Mbit/s: %+v", ratio)
	}
}

// A daemon that dies ends the run, and the error says which one.
func TestDaemonDies(t *testing.T) {
	o := short(t)
	o.Paths, o.Workloads = []string{"direct"}, []string{"tcp1"}
	r := built(t, o)
	p := r.paths[0]
	h := p.cluster.Hosts[1]
	process, err := h.Run("weftd", "/bin/sh", "-c", "echo last words; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	p.weftds = []*lab.Weftd{{Process: process, Host: h}}
	if err := r.round(t.Context(), "veth", 0); err != nil {
		t.Fatal(err)
	}
	if metrics := r.results.samples[figure{"direct", "veth", "tcp1", "cpu_weftd"}]; len(metrics) != 1 {
		t.Error("its CPU time was not measured")
	}
	process.Kill()
	err = r.round(t.Context(), "veth", 1)
	if err == nil || !strings.Contains(err.Error(), "weftd of path direct in "+h.Name+" ended") || !strings.Contains(err.Error(), "last words") {
		t.Error("the error is", err)
	}
	if n := len(r.results.samples[figure{"direct", "veth", "tcp1", "throughput"}]); n != 1 {
		t.Errorf("%d samples are kept", n)
	}
	p.weftds = nil // so that the logs need not stay
}

// Ctrl-C keeps what was measured, and cleans up.
func TestInterruption(t *testing.T) {
	labtest.RequireRoot(t)
	o := short(t)
	o.Paths, o.Workloads, o.Profiles = []string{"direct"}, []string{"tcp1"}, []string{"veth"}
	o.Rounds = maxRounds
	o.JSON = "-"
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("Ctrl-C")
	var stdout strings.Builder
	err := Run(ctx, o, &stdout, writer(func(b []byte) {
		if strings.Contains(string(b), "round 3 of") {
			cancel(stop)
		}
	}))
	if !errors.Is(err, stop) {
		t.Error("the error is", err)
	}
	wantNothingLeft(t, o)
	file := filepath.Join(t.TempDir(), "run.json")
	if err := os.WriteFile(file, []byte(stdout.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	d, err := report.Read(file)
	if err != nil {
		t.Fatal(err)
	}
	if r := d.Find("direct", "veth", "tcp1", "throughput"); !d.Environment.Interrupted || r == nil || len(r.Samples) != 2 {
		t.Errorf("interrupted %v, %+v", d.Environment.Interrupted, r)
	}
}

type writer func([]byte)

func (w writer) Write(b []byte) (int, error) { w(b); return len(b), nil }

// What a run left that was killed is removed by the next one.
func TestLeftoversAreRemoved(t *testing.T) {
	labtest.RequireRoot(t)
	o := short(t)
	crashed, err := lab.NewCluster(lab.Spec{Name: o.Name + "-direct", Hosts: 2})
	if err != nil {
		t.Fatal(err)
	}
	if err := crashed.Leave(); err != nil {
		t.Fatal(err)
	}
	o.Paths, o.Workloads, o.Profiles = []string{"vxlan"}, []string{"rtt"}, []string{"veth"}
	var out strings.Builder
	if err := Run(t.Context(), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "removed what an earlier run left") {
		t.Error("it says nothing of it:", out.String())
	}
	wantNothingLeft(t, o)
}

func TestRunRefuses(t *testing.T) {
	labtest.RequireRoot(t)
	for want, change := range map[string]func(*Options){
		"no path is chosen: there are direct":        func(o *Options) { o.Paths = nil },
		`unknown path "carrier"`:                     func(o *Options) { o.Paths = []string{"carrier"} },
		"path udp is chosen twice":                   func(o *Options) { o.Paths = []string{"udp", "vxlan", "udp"} },
		`unknown profile ""`:                         func(o *Options) { o.Profiles = []string{""} },
		`unknown workload "tcp2": there are tcp1`:    func(o *Options) { o.Workloads = []string{"tcp2"} },
		`unknown path "x" to compare with`:           func(o *Options) { o.Baseline = "x" },
		"0 rounds":                                   func(o *Options) { o.Rounds = 0 },
		"samples of 1ms":                             func(o *Options) { o.Duration = time.Millisecond },
		"a warm-up of -1s":                           func(o *Options) { o.Warmup = -time.Second },
		"no weftd to run at /nonexistent":            func(o *Options) { o.Paths, o.Weftd = []string{"udp"}, "/nonexistent" },
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
