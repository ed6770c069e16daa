// Package stats says what a few samples tell, and how sure that is.
package stats

import (
	"math"
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
