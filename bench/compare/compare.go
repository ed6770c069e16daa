// Package compare tells what became better or worse from one run of
// weft-bench to the next, beyond noise.
package compare

import (
	"errors"
	"fmt"
	"math"

	"github.com/weftnet/weft/bench/report"
	"github.com/weftnet/weft/bench/stats"
)

const (
	// Schema is the version of Comparison as JSON, as report.Schema is of
	// report.Document.
	Schema = 1

	// Confidence of the intervals. Hundreds of figures are judged at once, so
	// it is more than the 0.95 of a run's own ratios.
	Confidence = 0.99

	// DefaultThreshold is the least change that counts. One and the same
	// binary, run twice, differs by some percent for reasons that no sample of
	// one run shows: where memory lies, what the machine did an hour before.
	DefaultThreshold = 0.05

	// enoughSamples on each side: with fewer, samples that lie apart by chance
	// are taken for a change too often (stats.TestUnpairedIntervalOfNoChange).
	enoughSamples = 5
)

// Verdict is what the samples tell about a figure.
type Verdict string

const (
	Better    Verdict = "better"
	Worse     Verdict = "worse"
	Same      Verdict = "same" // no change that the samples show, or too small a one
	Undecided Verdict = "undecided"
)

// Figure is what is compared.
type Figure struct {
	Path     string `json:"path"`
	Profile  string `json:"profile"`
	Workload string `json:"workload"`
	Metric   string `json:"metric"`
	Unit     string `json:"unit"`
}

// Change is a figure that both runs have.
type Change struct {
	Figure
	Old   float64 `json:"old"`   // medians
	New   float64 `json:"new"`   // 0 where no sample has it
	Ratio float64 `json:"ratio"` // new to old; 0, with its ends, where the verdict is Undecided
	Low   float64 `json:"low"`   // ends of the interval
	High  float64 `json:"high"`

	Verdict Verdict `json:"verdict"`
	Reason  string  `json:"reason,omitempty"` // of Undecided, and of Worse without new samples
}

// Side is one of the runs.
type Side struct {
	File    string `json:"file"`
	Started string `json:"started"` // RFC 3339
	Weftd   string `json:"weftd"`   // version
}

// Comparison is what two runs tell.
type Comparison struct {
	Schema     int      `json:"schema"`
	Old        Side     `json:"old"`
	New        Side     `json:"new"`
	Confidence float64  `json:"confidence"`
	Threshold  float64  `json:"threshold"` // the least change that counts, as a part of the old median
	Warnings   []string `json:"warnings"`
	Changes    []Change `json:"changes"`
	OnlyOld    []Figure `json:"only_old"`
	OnlyNew    []Figure `json:"only_new"`
}

// ErrNothingInCommon is for runs of which no figure is in both.
var ErrNothingInCommon = errors.New("the runs have no figure in common; measure the same paths, profiles and workloads in both")

// Compare judges each figure that is good or bad in itself: neither what was
// offered nor the parts of a sum. Threshold is between 0 and 1.
func Compare(old, new report.Run, threshold float64) (*Comparison, error) {
	if !(threshold >= 0 && threshold < 1) {
		return nil, fmt.Errorf("a threshold of %v: from 0 to below 1 is possible", threshold)
	}
	c := &Comparison{
		Schema: Schema, Old: side(old), New: side(new), Confidence: Confidence, Threshold: threshold,
		Warnings: []string{}, Changes: []Change{}, OnlyOld: []Figure{}, OnlyNew: []Figure{},
	}
	for i := range new.Results {
		r := &new.Results[i]
		if r.Direction() == report.Neither {
			continue
		}
		if before := old.Find(r.Path, r.Profile, r.Workload, r.Metric); before != nil {
			c.Changes = append(c.Changes, judge(before, r, threshold))
		} else {
			c.OnlyNew = append(c.OnlyNew, figure(r))
		}
	}
	for i := range old.Results {
		r := &old.Results[i]
		switch {
		case r.Direction() == report.Neither || new.Find(r.Path, r.Profile, r.Workload, r.Metric) != nil:
		case vanished(r, new):
			c.Changes = append(c.Changes, Change{Figure: figure(r), Old: r.Median, Verdict: Worse, Reason: "measured, but no sample has it"})
		default:
			c.OnlyOld = append(c.OnlyOld, figure(r))
		}
	}
	if len(c.Changes) == 0 {
		return nil, ErrNothingInCommon
	}
	c.Warnings = append(c.Warnings, differences(&old.Environment, &new.Environment)...)
	c.Warnings = append(c.Warnings, c.doubts(old, new)...)
	return c, nil
}

func side(r report.Run) Side {
	return Side{File: r.File, Started: r.Environment.Started.UTC().Format("2006-01-02T15:04:05Z"), Weftd: r.Environment.Weftd}
}

func figure(r *report.Result) Figure {
	return Figure{r.Path, r.Profile, r.Workload, r.Metric, r.Unit}
}

// vanished tells whether a rate is missing from the new run because it was
// nothing. A run leaves samples out in which nothing arrived, or for which no
// rate was without loss, and so the figure if that is all of them; but then it
// has other figures of the path, and other paths' of the workload.
func vanished(r *report.Result, new report.Run) bool {
	if r.Direction() != report.MoreIsBetter || len(r.Samples) < enoughSamples || new.Environment.Interrupted {
		return false
	}
	path, workload := false, false
	for _, other := range new.Results {
		if other.Profile == r.Profile {
			path = path || other.Path == r.Path
			workload = workload || other.Workload == r.Workload && other.Metric == r.Metric
		}
	}
	return path && workload
}

// judge compares one figure.
func judge(old, new *report.Result, threshold float64) Change {
	c := Change{Figure: figure(new), Old: old.Median, New: new.Median, Verdict: Undecided}
	switch {
	case old.Unit != new.Unit:
		c.Reason = fmt.Sprintf("the unit was %s", old.Unit)
		return c
	case len(old.Samples) < enoughSamples || len(new.Samples) < enoughSamples:
		c.Reason = fmt.Sprintf("%d and %d samples; %d each are needed", len(old.Samples), len(new.Samples), enoughSamples)
		return c
	}
	ratio, ok := stats.RatioOfUnpairedMedians(new.Samples, old.Samples, Confidence)
	if !ok || math.IsInf(ratio.High, 0) {
		c.Reason = "old samples are not above 0"
		return c
	}
	c.Ratio, c.Low, c.High = ratio.Value, ratio.Low, ratio.High
	c.Verdict = verdict(ratio, new.Direction(), threshold)
	return c
}

// verdict is Better or Worse where the interval leaves 1 out and the change is
// greater than the threshold.
func verdict(ratio stats.Interval, direction report.Direction, threshold float64) Verdict {
	rose := ratio.Low > 1 && ratio.Value > 1+threshold
	fell := ratio.High < 1 && ratio.Value < 1-threshold
	switch {
	case rose && direction == report.MoreIsBetter, fell && direction == report.LessIsBetter:
		return Better
	case rose, fell:
		return Worse
	}
	return Same
}

// Of returns the changes with a verdict.
func (c *Comparison) Of(v Verdict) (list []Change) {
	for _, change := range c.Changes {
		if change.Verdict == v {
			list = append(list, change)
		}
	}
	return list
}
