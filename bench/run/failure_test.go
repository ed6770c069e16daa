package run

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/generator"
	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/report"
)

// anotherDirect is a second way to route plainly, to compare with the first.
func anotherDirect(t *testing.T) {
	t.Helper()
	pathKinds = append(pathKinds, pathKind{name: "other", join: joinDirectly})
	t.Cleanup(func() { pathKinds = pathKinds[:len(pathKinds)-1] })
}

// A path that was slowed on purpose shows as slower, beyond doubt.
func TestSlowPathIsNoticed(t *testing.T) {
	anotherDirect(t)
	o := short(t)
	o.Paths, o.Workloads = []string{"direct", "other"}, []string{"tcp1"}
	r := built(t, o)
	if err := setRate(r.paths[1].cluster.Hosts[0].Namespace, "eth0", 10_000_000); err != nil {
		t.Fatal(err)
	}
	round := 0
	labtest.OneOfSome(t, func() string { // the more samples the less there is to doubt
		for range 5 {
			if err := r.round(t.Context(), profileOf("veth"), round); err != nil {
				t.Fatal(err)
			}
			round++
		}
		r.results.fill(&r.document, "direct")
		ratio := r.document.FindRatio("other", "direct", "veth", "tcp1", "throughput")
		if ratio == nil || ratio.High > 0.8 {
			return fmt.Sprintf("a path of 10 Mbit/s: %+v of %+v", ratio, r.document.Results)
		}
		return ""
	})
}

// Packets are lost as often as a profile says, and none once it is over.
func TestLoss(t *testing.T) {
	r := built(t, short(t))
	in := profileOf("loss1")
	in.lose = 100
	for _, c := range []struct {
		in        profile
		low, high float64
	}{{in, 0.05, 0.15}, {profileOf("veth"), 0, 0.001}} {
		if err := r.setProfile(c.in); err != nil {
			t.Fatal(err)
		}
		s := &sampler{r: r, path: r.paths[0], work: workloadOf("udp64")}
		var err error
		if s.session, err = generator.Open(t.Context(), r.o.Generator, s.pairs()); err != nil {
			t.Fatal(err)
		}
		defer s.session.Close()
		labtest.OneOfSome(t, func() string {
			result, err := s.try(10_000)
			if err != nil {
				t.Fatal(err)
			}
			// Of fewer than 500 the loss may be another by chance.
			if loss := lossOf(result); loss < c.low || loss > c.high || result.Sent.OfStep < 500 {
				return fmt.Sprintf("%d of a thousand are to be lost: %v of %+v", c.in.lose, loss, result)
			}
			return ""
		})
	}
}

// Where a search finds no rate there is no figure of one, nor of what it costs.
func TestNoRateNoCosts(t *testing.T) {
	if !labtest.Full(t, "a search for a rate of UDP that no path bears") {
		return
	}
	r := built(t, short(t))
	lossy := profileOf("loss1")
	lossy.lose = 100
	if err := r.setProfile(lossy); err != nil {
		t.Fatal(err)
	}
	metrics, _, err := r.sample(t.Context(), r.paths[0], workloadOf("udp64"), profileOf("veth")) // which loses nothing by itself
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, m := range metrics {
		names = append(names, m.name)
	}
	if got := strings.Join(names, " "); got != "delivered offered" || len(r.results.unborne) != 1 {
		t.Errorf("measured %s; without a rate: %v", got, r.results.unborne)
	}
}

// A daemon that dies ends the run, and the error says which one.
func TestDaemonDies(t *testing.T) {
	o := short(t)
	o.Workloads = []string{"tcp1"}
	r := built(t, o)
	p := r.paths[0]
	h := p.cluster.Hosts[1]
	daemon, err := h.Run("weftd", "/bin/sh", "-c", "echo last words; exec sleep 1000")
	if err != nil {
		t.Fatal(err)
	}
	p.daemons = []*process{{Process: daemon, host: h.Name}}
	labtest.OneOfSome(t, func() (amiss string) {
		if err := r.round(t.Context(), profileOf("veth"), 0); err != nil {
			t.Fatal(err)
		}
		for _, metric := range []string{"cpu_daemons", "context_switches_daemons", "memory_daemons"} {
			if len(r.results.samples[figure{"direct", "veth", "tcp1", metric}]) != 1 {
				amiss = "its " + metric + " was not measured"
			}
		}
		return amiss
	})
	daemon.Kill()
	err = r.round(t.Context(), profileOf("veth"), 1)
	if err == nil || !strings.Contains(err.Error(), "weftd of path direct in "+h.Name+" ended") || !strings.Contains(err.Error(), "last words") {
		t.Error("the error is", err)
	}
	if n := len(r.results.samples[figure{"direct", "veth", "tcp1", "throughput"}]); n != 1 {
		t.Errorf("%d samples are kept", n)
	}
	p.daemons = nil // so that the logs need not stay
}

// The peer goes while traffic flows: the run ends soon, with what it has.
func TestPeerDiesMidRun(t *testing.T) {
	o := short(t)
	o.Workloads = []string{"tcp1"}
	o.Duration = maxDuration
	r := built(t, o)
	began := time.Now()
	s := &sampler{r: r, path: r.paths[0], work: workloadOf("tcp1")}
	var err error
	if s.session, err = generator.Open(t.Context(), o.Generator, s.pairs()); err != nil {
		t.Fatal(err)
	}
	defer s.session.Close()
	s.meter = s.newMeter()
	time.AfterFunc(200*time.Millisecond, func() { s.session.Receivers()[0].Kill() })
	if _, _, err := s.run(t.Context()); err == nil || time.Since(began) > maxDuration/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

// Ctrl-C keeps what was measured, and cleans up.
func TestInterruption(t *testing.T) {
	labtest.RequireRoot(t)
	o := short(t)
	o.Workloads, o.Profiles = []string{"tcp1"}, []string{"veth"}
	o.Rounds = maxRounds
	o.JSON = "-"
	labtest.OneOfSome(t, func() string {
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
			return err.Error() // nothing was measured
		}
		r := d.Find("direct", "veth", "tcp1", "throughput")
		if !d.Environment.Interrupted || r != nil && len(r.Samples) > 2 {
			t.Errorf("interrupted %v, %+v", d.Environment.Interrupted, r)
		}
		if r == nil || len(r.Samples) < 2 {
			return fmt.Sprintf("the samples of two rounds are %+v", r)
		}
		return ""
	})
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
	o.Workloads, o.Profiles = []string{"rtt"}, []string{"veth"}
	var out strings.Builder
	if err := Run(t.Context(), o, &out, io.Discard); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out.String(), "removed what an earlier run left") {
		t.Error("it says nothing of it:", out.String())
	}
	wantNothingLeft(t, o)
}
