package run

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/report"
)

// Two paths over five rounds; udp's last round is missing, as after Ctrl-C.
func twoPaths() *results {
	r := newResults()
	for round, rate := range []float64{10, 20, 30, 40, 50} {
		r.add("vxlan", "veth", "tcp1", round, []metric{{"throughput", "Gbit/s", rate}, {"cpu", "s/GB", 1}})
		if round < 4 {
			r.add("udp", "veth", "tcp1", round, []metric{{"throughput", "Gbit/s", rate / 2}, {"cpu", "s/GB", 3}})
		}
	}
	r.add("vxlan", "veth", "rtt", 0, []metric{{"half_rtt_p50", "us", 30}})
	r.addCheck("udp", "veth", 0, 5.5)
	r.addCheck("udp", "veth", 2, 14)
	return r
}

func TestFill(t *testing.T) {
	var d report.Document
	twoPaths().fill(&d, "vxlan")
	var names []string
	for _, r := range d.Results {
		names = append(names, strings.Join([]string{r.Profile, r.Workload, r.Metric, r.Path}, " "))
	}
	if want := []string{
		"veth tcp1 throughput vxlan", "veth tcp1 throughput udp", "veth tcp1 cpu vxlan", "veth tcp1 cpu udp", "veth rtt half_rtt_p50 vxlan",
	}; !reflect.DeepEqual(names, want) {
		t.Errorf("results in the order %q", names)
	}
	if r := d.Find("udp", "veth", "tcp1", "throughput"); r == nil ||
		r.Unit != "Gbit/s" || r.Median != 12.5 || r.Low != 5 || r.High != 20 || !reflect.DeepEqual(r.Samples, []float64{5, 10, 15, 20}) {
		t.Errorf("udp: %+v", r)
	}
	want := []report.Ratio{
		{Of: "udp", To: "vxlan", Profile: "veth", Workload: "tcp1", Metric: "throughput", Ratio: 0.5, Low: 0.5, High: 0.5, Confidence: 0.95, Pairs: 4},
		{Of: "udp", To: "vxlan", Profile: "veth", Workload: "tcp1", Metric: "cpu", Ratio: 3, Low: 3, High: 3, Confidence: 0.95, Pairs: 4},
	}
	if !reflect.DeepEqual(d.Ratios, want) {
		t.Errorf("ratios: %+v", d.Ratios)
	}
	// Of the rounds in which iperf3 measured too: 5 and 15.
	if want := []report.CrossCheck{{Path: "udp", Profile: "veth", Workload: "tcp1", Unit: "Gbit/s", Generator: 10, IPerf3: 9.75, Samples: 2}}; !reflect.DeepEqual(d.CrossChecks, want) {
		t.Errorf("checks: %+v", d.CrossChecks)
	}
	if len(d.Warnings) != 2 || d.Warnings[0] != "2 figures have fewer than 5 samples, too few to trust their intervals" ||
		!strings.Contains(d.Warnings[1], "tcp1 on vxlan, veth (67 %)") {
		t.Errorf("warnings: %q", d.Warnings)
	}
}

func TestNothingToFill(t *testing.T) {
	var d report.Document
	newResults().fill(&d, "vxlan")
	if d.Results == nil || d.Ratios == nil || len(d.Warnings) > 0 {
		t.Errorf("%+v", d)
	}
}

func TestComparedWith(t *testing.T) {
	for key, want := range map[[2]string][]string{
		{"udp", "vxlan"}:         {"vxlan", "udp-user", "udp-classic"},
		{"udp", "udp-classic"}:   {"udp-classic", "udp-user"},
		{"udp-user", "vxlan"}:    {"vxlan"},
		{"udp-classic", "vxlan"}: {"vxlan"},
		{"vxlan", "vxlan"}:       nil,
	} {
		if got := comparedWith(key[0], key[1]); !reflect.DeepEqual(got, want) {
			t.Errorf("%q: %q", key, got)
		}
	}
}

func TestWarnings(t *testing.T) {
	quiet := func() *results {
		r := newResults()
		for round := range 5 {
			r.add("udp", "veth", "tcp1", round, []metric{{"throughput", "Gbit/s", 10 + float64(round)/10}})
		}
		return r
	}
	for want, disturb := range map[string]func(*results, *report.Document){
		"": func(r *results, _ *report.Document) {
			r.addUsage(usage{elapsed: time.Second, foreign: 0.001})
			r.addCheck("udp", "veth", 0, 11)
		},
		"used 20 % of the CPUs before the run":                 func(_ *results, d *report.Document) { d.Environment.BusyBefore = 0.2 },
		"all in user space: the kernel assist is off: too old": func(_ *results, d *report.Document) { d.Environment.Assist = "off: too old" },
		"in 1 of 2 samples; stop them": func(r *results, _ *report.Document) {
			r.addUsage(usage{elapsed: time.Millisecond, foreign: 1})
			r.addUsage(usage{elapsed: time.Second, foreign: 0.001})
		},
		"virtual machines took CPU time in 1 of 1": func(r *results, _ *report.Document) {
			r.addUsage(usage{elapsed: time.Millisecond, machine: cpuTime{steal: 1}})
		},
		"the generator says 10.0 Gbit/s, iperf3 20.0": func(r *results, _ *report.Document) { r.addCheck("udp", "veth", 0, 20) },
		"found in 3 samples: udp64 on udp, loss1; udp64 on udp, veth": func(r *results, _ *report.Document) {
			r.addUnborne("udp64", "udp", "veth")
			r.addUnborne("udp64", "udp", "loss1")
			r.addUnborne("udp64", "udp", "veth")
		},
		"tcp1 on vxlan, veth (100 %)": func(r *results, _ *report.Document) {
			for round, v := range []float64{5, 5, 10, 15, 15} {
				r.add("vxlan", "veth", "tcp1", round, []metric{{"throughput", "Gbit/s", v}})
			}
		},
	} {
		var d report.Document
		r := quiet()
		disturb(r, &d)
		r.fill(&d, "vxlan")
		if got := fmt.Sprint(d.Warnings); want == "" && len(d.Warnings) > 0 || len(d.Warnings) > 1 || !strings.Contains(got, want) {
			t.Errorf("warnings %s, want %q", got, want)
		}
	}
}
