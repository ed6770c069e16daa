package run

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/stats"
)

// figure is what is sampled.
type figure struct{ path, profile, workload, metric string }

// results collects the samples of a run.
type results struct {
	order   []figure // as they were first seen
	unit    map[figure]string
	samples map[figure]map[int]float64 // by round
	checks  map[figure]map[int]float64 // iperf3's, of the same figures

	taken          int // samples of all CPU times
	disturbed      int // of them: other processes used the CPUs
	stolen         int // of them: other virtual machines did
	worstDisturbed float64
	unborne        []string // samples of UDP that found no highest rate
	empty          []string // samples in which nothing arrived, or was counted
}

func newResults() *results {
	return &results{unit: make(map[figure]string), samples: make(map[figure]map[int]float64), checks: make(map[figure]map[int]float64)}
}

func (r *results) add(path, profile, workload string, round int, metrics []metric) {
	for _, m := range metrics {
		f := figure{path, profile, workload, m.name}
		if r.samples[f] == nil {
			r.order = append(r.order, f)
			r.unit[f] = m.unit
			r.samples[f] = make(map[int]float64)
		}
		r.samples[f][round] = m.value
	}
}

func (r *results) addCheck(path, profile string, round int, value float64) {
	f := figure{path, profile, checkedWorkload, checkedMetric}
	if r.checks[f] == nil {
		r.checks[f] = make(map[int]float64)
	}
	r.checks[f][round] = value
}

// addUnborne notes that no rate of UDP had a loss within the limit.
func (r *results) addUnborne(workload, path, profile string) {
	r.unborne = append(r.unborne, told(workload, path, profile))
}

// addEmpty notes a sample in which nothing arrived, or was counted.
func (r *results) addEmpty(workload, path, profile string) {
	r.empty = append(r.empty, told(workload, path, profile))
}

func told(workload, path, profile string) string {
	return fmt.Sprintf("%s on %s, %s", workload, path, profile)
}

// What of all CPU time may go elsewhere before a sample counts as disturbed.
const (
	tolerableForeign = 0.05
	tolerableSteal   = 0.02
)

// addUsage looks at who else used the CPUs during a sample.
func (r *results) addUsage(u usage) {
	all := u.elapsed.Seconds() * float64(runtime.NumCPU())
	r.taken++
	if part := u.foreign / all; part > tolerableForeign {
		r.disturbed++
		r.worstDisturbed = max(r.worstDisturbed, part)
	}
	if u.machine.steal/all > tolerableSteal {
		r.stolen++
	}
}

// fill writes results, ratios and checks into the document.
func (r *results) fill(d *report.Document, baseline string) {
	d.Schema = report.Schema
	d.Results, d.Ratios = []report.Result{}, []report.Ratio{}
	for _, f := range r.sorted() {
		samples := inOrder(r.samples[f])
		d.Results = append(d.Results, report.Result{
			Path: f.path, Profile: f.profile, Workload: f.workload, Metric: f.metric, Unit: r.unit[f],
			Median: stats.Median(samples), Low: slices.Min(samples), High: slices.Max(samples), Samples: samples,
		})
	}
	for _, f := range r.sorted() {
		for _, to := range comparedWith(f.path, baseline) {
			if ratio, ok := r.ratio(f, to); ok {
				d.Ratios = append(d.Ratios, ratio)
			}
		}
	}
	for _, f := range r.sorted() {
		if rounds := r.checks[f]; rounds != nil {
			own, theirs := paired(r.samples[f], rounds)
			if len(own) == 0 {
				continue
			}
			d.CrossChecks = append(d.CrossChecks, report.CrossCheck{
				Path: f.path, Profile: f.profile, Workload: f.workload, Unit: r.unit[f],
				Generator: stats.Median(own), IPerf3: stats.Median(theirs), Samples: len(theirs),
			})
		}
	}
	d.Warnings = r.warnings(d)
}

// comparedWith lists the paths that a path is compared with: the baseline, and
// what udp is to be better than.
func comparedWith(path, baseline string) (others []string) {
	if path != baseline {
		others = append(others, baseline)
	}
	if path != "udp" {
		return others
	}
	for _, lesser := range []string{"udp-user", "udp-classic"} {
		if lesser != baseline {
			others = append(others, lesser)
		}
	}
	return others
}

func (r *results) ratio(f figure, to string) (report.Ratio, bool) {
	other := f
	other.path = to
	of, base := paired(r.samples[f], r.samples[other])
	interval, ok := stats.RatioOfMedians(of, base)
	return report.Ratio{
		Of: f.path, To: to, Profile: f.profile, Workload: f.workload, Metric: f.metric,
		Ratio: interval.Value, Low: interval.Low, High: interval.High, Confidence: stats.Confidence, Pairs: len(of),
	}, ok
}

// sorted orders figures by profile, workload, metric and path, each as they
// were first seen.
func (r *results) sorted() []figure {
	rank := make(map[string]int)
	note := func(key string) {
		if _, known := rank[key]; !known {
			rank[key] = len(rank)
		}
	}
	// The names of one kind never meet those of another: they have a prefix.
	keys := func(f figure) [4]string {
		return [4]string{"profile " + f.profile, "workload " + f.workload, "metric " + f.metric, "path " + f.path}
	}
	for _, f := range r.order {
		for _, key := range keys(f) {
			note(key)
		}
	}
	list := slices.Clone(r.order)
	slices.SortStableFunc(list, func(a, b figure) int {
		ka, kb := keys(a), keys(b)
		for i := range ka {
			if c := rank[ka[i]] - rank[kb[i]]; c != 0 {
				return c
			}
		}
		return 0
	})
	return list
}

// paired returns the samples of the rounds that both have, in order.
func paired(a, b map[int]float64) (x, y []float64) {
	for _, round := range rounds(a) {
		if v, ok := b[round]; ok {
			x, y = append(x, a[round]), append(y, v)
		}
	}
	return x, y
}

func inOrder(samples map[int]float64) (list []float64) {
	for _, round := range rounds(samples) {
		list = append(list, samples[round])
	}
	return list
}

func rounds(samples map[int]float64) (list []int) {
	for round := range samples {
		list = append(list, round)
	}
	slices.Sort(list)
	return list
}

// Beyond these the figures say little.
const (
	tolerableBusy   = 0.10 // of all CPU time, before the run
	tolerableSpread = 0.25 // between the quartiles, as a part of the median
	tolerableCheck  = 0.35 // between the generator and iperf3, as a part of iperf3's
	enoughRounds    = 5
)

// warnings says what makes the figures doubtful.
func (r *results) warnings(d *report.Document) (list []string) {
	warn := func(format string, args ...any) { list = append(list, fmt.Sprintf(format, args...)) }
	if busy := d.Environment.BusyBefore; busy > tolerableBusy {
		warn("too noisy: other processes used %.0f %% of the CPUs before the run; stop them and run again", 100*busy)
	}
	if r.disturbed > 0 {
		warn("too noisy: other processes used up to %.0f %% of the CPUs in %d of %d samples; stop them and run again", 100*r.worstDisturbed, r.disturbed, r.taken)
	}
	if r.stolen > 0 {
		warn("too noisy: other virtual machines took CPU time in %d of %d samples", r.stolen, r.taken)
	}
	if assist := d.Environment.Assist; assist != "" && assist != assistInForce {
		warn("path udp is all in user space: the kernel assist is %s", assist)
	}
	few, wide := 0, []string(nil)
	for _, result := range d.Results {
		if result.Metric != workloadOf(result.Workload).main {
			continue
		}
		if len(result.Samples) < enoughRounds {
			few++
		} else if spread := stats.Spread(result.Samples); spread > tolerableSpread {
			wide = append(wide, fmt.Sprintf("%s (%.0f %%)", told(result.Workload, result.Path, result.Profile), 100*spread))
		}
	}
	if few > 0 {
		warn("%d figures have fewer than %d samples, too few to trust their intervals", few, enoughRounds)
	}
	if len(wide) > 0 {
		warn("the middle half of the samples spans more than %.0f %% of the median: %s", 100*tolerableSpread, strings.Join(wide, "; "))
	}
	if len(r.unborne) > 0 {
		warn("no rate with a loss below %.1f %% was found in %d samples: %s", 100*lossLimit, len(r.unborne), distinct(r.unborne))
	}
	if len(r.empty) > 0 {
		warn("%d samples are left out, in which nothing arrived, or the machine stood still for half of the time: %s", len(r.empty), distinct(r.empty))
	}
	for _, c := range d.CrossChecks {
		if diff := c.Generator/c.IPerf3 - 1; max(diff, -diff) > tolerableCheck {
			warn("%s on %s, %s: the generator says %.1f %s, iperf3 %.1f", c.Workload, c.Path, c.Profile, c.Generator, c.Unit, c.IPerf3)
		}
	}
	return list
}

func distinct(names []string) string {
	return strings.Join(slices.Compact(slices.Sorted(slices.Values(names))), "; ")
}
