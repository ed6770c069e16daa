// Package stats says what a few samples tell, and how sure that is.
package stats

import (
	"math"
	"math/rand/v2"
	"slices"
)

// Median is the middle sample, or the mean of the two in the middle; NaN
// without samples.
func Median(samples []float64) float64 { return Quantile(samples, 0.5) }

// Quantile is the value below which the fraction q (0 to 1) of the samples
// lies, interpolated between neighbours (R's type 7); NaN without samples.
func Quantile(samples []float64, q float64) float64 {
	return quantile(slices.Sorted(slices.Values(samples)), q)
}

func quantile(sorted []float64, q float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	at := q * float64(len(sorted)-1)
	below := int(at)
	if below+1 >= len(sorted) {
		return sorted[len(sorted)-1]
	}
	return sorted[below] + (at-float64(below))*(sorted[below+1]-sorted[below])
}

// Spread is the distance between the quartiles as a part of the median: of
// ten samples the middle five lie so far apart. It is 0 for a median of 0.
func Spread(samples []float64) float64 {
	median := Median(samples)
	if median == 0 {
		return 0
	}
	return (Quantile(samples, 0.75) - Quantile(samples, 0.25)) / math.Abs(median)
}

// Interval is an estimate with the interval that holds the true value with a
// probability of Confidence.
type Interval struct {
	Value, Low, High float64
}

// Confidence of an Interval.
const Confidence = 0.95

// resamples is how often the bootstrap draws: enough that the ends of the
// interval hardly depend on the draws.
const resamples = 10_000

// RatioOfMedians estimates median(of)/median(to) of samples taken in pairs,
// of[i] and to[i] one right after the other. The interval is a percentile
// bootstrap that draws pairs, so that whatever made both of a pair slow does
// not widen it. With few pairs it is too narrow; five are little. ok is false
// where there are no pairs, or a median that divides is not above 0.
//
// The draws are always the same: equal samples have equal intervals.
func RatioOfMedians(of, to []float64) (ratio Interval, ok bool) {
	return ratioOfMedians(of, to, resamples)
}

func ratioOfMedians(of, to []float64, resamples int) (ratio Interval, ok bool) {
	if len(of) != len(to) || len(of) == 0 {
		return Interval{}, false
	}
	divide := func(a, b []float64) float64 {
		slices.Sort(a)
		slices.Sort(b)
		return quantile(a, 0.5) / quantile(b, 0.5)
	}
	for _, v := range to {
		if !(v > 0) {
			return Interval{}, false
		}
	}
	a, b := slices.Clone(of), slices.Clone(to)
	ratio.Value = divide(a, b)

	random := rand.New(rand.NewPCG(1, 2))
	ratios := make([]float64, resamples)
	for i := range ratios {
		for j := range a {
			k := random.IntN(len(of))
			a[j], b[j] = of[k], to[k]
		}
		ratios[i] = divide(a, b)
	}
	slices.Sort(ratios)
	ratio.Low = quantile(ratios, (1-Confidence)/2)
	ratio.High = quantile(ratios, (1+Confidence)/2)
	return ratio, true
}
