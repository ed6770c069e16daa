package stats

import (
	"math"
	"testing"
)

func near(a, b float64) bool { return math.Abs(a-b) <= 1e-12*math.Max(1, math.Abs(b)) }

// The values are R's: quantile(x, q) and IQR(x)/median(x).
func TestQuantile(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		q, want float64
	}{
		{[]float64{7}, 0, 7}, {[]float64{7}, 0.5, 7}, {[]float64{7}, 1, 7},
		{[]float64{3, 1, 2}, 0.5, 2},
		{[]float64{4, 1, 3, 2}, 0.5, 2.5},
		{[]float64{10, 1, 4, 2, 3}, 0.25, 2},
		{[]float64{10, 1, 4, 2, 3}, 0.9, 7.6},
		{[]float64{10, 1, 4, 2, 3}, 0.99, 9.76},
		{[]float64{10, 1, 4, 2, 3}, 1, 10},
		{[]float64{-1, -2}, 0.5, -1.5},
	} {
		if got := Quantile(c.samples, c.q); !near(got, c.want) {
			t.Errorf("quantile %v of %v is %v, want %v", c.q, c.samples, got, c.want)
		}
	}
	if !math.IsNaN(Median(nil)) {
		t.Error("the median of nothing is a number")
	}
	samples := []float64{3, 1, 2}
	Median(samples)
	if samples[0] != 3 {
		t.Error("Median reorders its argument")
	}
}

func TestSpread(t *testing.T) {
	for _, c := range []struct {
		samples []float64
		want    float64
	}{
		{[]float64{5, 5, 5}, 0},
		{[]float64{0, 0, 0}, 0},
		{[]float64{10, 1, 4, 2, 3}, 2.0 / 3},
		{[]float64{-10, -1, -4, -2, -3}, 2.0 / 3},
	} {
		if got := Spread(c.samples); !near(got, c.want) {
			t.Errorf("spread of %v is %v, want %v", c.samples, got, c.want)
		}
	}
}
