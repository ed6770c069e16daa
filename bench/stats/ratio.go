package stats

import (
	"math/rand/v2"
	"slices"
)

// Interval is an estimate with the interval that holds the true value with a
// stated probability.
type Interval struct {
	Value, Low, High float64
}

// Confidence of the intervals of RatioOfMedians.
const Confidence = 0.95

// resamples is how often the bootstrap draws: enough that the ends of the
// interval hardly depend on the draws.
const resamples = 10_000

// RatioOfMedians estimates median(of)/median(to) of samples taken in pairs,
// of[i] and to[i] one right after the other. The interval is a percentile
// bootstrap that draws pairs, so that whatever made both of a pair slow does
// not widen it. With few pairs it is too narrow; five are little. ok is false
// where there are no pairs, or a sample that divides is not above 0.
//
// The draws are always the same: equal samples have equal intervals.
func RatioOfMedians(of, to []float64) (ratio Interval, ok bool) {
	return ratioOfMedians(of, to, resamples)
}

func ratioOfMedians(of, to []float64, resamples int) (ratio Interval, ok bool) {
	if len(of) != len(to) {
		return Interval{}, false
	}
	return bootstrap(of, to, Confidence, resamples, func(random *rand.Rand, a, b []float64) {
		for i := range a {
			k := random.IntN(len(of))
			a[i], b[i] = of[k], to[k]
		}
	})
}

// RatioOfUnpairedMedians is RatioOfMedians for samples that were taken apart,
// as those of two runs: each side is drawn from by itself, and the numbers of
// samples may differ. The interval holds the true ratio with a probability of
// confidence, above 0 and below 1.
func RatioOfUnpairedMedians(of, to []float64, confidence float64) (ratio Interval, ok bool) {
	return ratioOfUnpairedMedians(of, to, confidence, resamples)
}

func ratioOfUnpairedMedians(of, to []float64, confidence float64, resamples int) (ratio Interval, ok bool) {
	return bootstrap(of, to, confidence, resamples, func(random *rand.Rand, a, b []float64) {
		for i := range a {
			a[i] = of[random.IntN(len(of))]
		}
		for i := range b {
			b[i] = to[random.IntN(len(to))]
		}
	})
}

// bootstrap takes the ratio of medians of what draw puts into a, as long as
// of, and b, as long as to, again and again.
func bootstrap(of, to []float64, confidence float64, resamples int, draw func(random *rand.Rand, a, b []float64)) (ratio Interval, ok bool) {
	if len(of) == 0 || len(to) == 0 {
		return Interval{}, false
	}
	for _, v := range to {
		if !(v > 0) {
			return Interval{}, false
		}
	}
	divide := func(a, b []float64) float64 {
		slices.Sort(a)
		slices.Sort(b)
		return quantile(a, 0.5) / quantile(b, 0.5)
	}
	a, b := slices.Clone(of), slices.Clone(to)
	ratio.Value = divide(a, b)

	random := rand.New(rand.NewPCG(1, 2))
	ratios := make([]float64, resamples)
	for i := range ratios {
		draw(random, a, b)
		ratios[i] = divide(a, b)
	}
	slices.Sort(ratios)
	ratio.Low = quantile(ratios, (1-confidence)/2)
	ratio.High = quantile(ratios, (1+confidence)/2)
	return ratio, true
}
