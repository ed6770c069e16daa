package stats

import (
	"math"
	"math/rand/v2"
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

func TestRatioOfMedians(t *testing.T) {
	for _, c := range []struct {
		name   string
		of, to []float64
		want   Interval
	}{
		{"one pair", []float64{6}, []float64{3}, Interval{2, 2, 2}},
		{"a machine that drifts slows both", []float64{10, 20, 30, 40, 50}, []float64{5, 10, 15, 20, 25}, Interval{2, 2, 2}},
		// Of two pairs the bootstrap draws both, or one twice: 1, 1.5, 2.
		{"two pairs", []float64{1, 2}, []float64{1, 1}, Interval{1.5, 1, 2}},
		{"nothing arrived", []float64{0, 0, 0}, []float64{5, 6, 7}, Interval{0, 0, 0}},
	} {
		got, ok := RatioOfMedians(c.of, c.to)
		if !ok || !near(got.Value, c.want.Value) || !near(got.Low, c.want.Low) || !near(got.High, c.want.High) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
	for name, c := range map[string][2][]float64{
		"no samples":     {nil, nil},
		"unpaired":       {{1, 2}, {1}},
		"division by 0":  {{1, 2}, {0, 1}},
		"negative":       {{1, 2}, {-1, 1}},
		"not a number":   {{1, 2}, {math.NaN(), 1}},
		"nothing at all": {{}, {}},
	} {
		if got, ok := RatioOfMedians(c[0], c[1]); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestRatioIsRepeatable(t *testing.T) {
	of, to := []float64{9, 7, 8, 6, 9, 8, 7}, []float64{15, 18, 16, 17, 15, 16, 18}
	first, _ := RatioOfMedians(of, to)
	second, _ := RatioOfMedians(of, to)
	if first != second {
		t.Errorf("%+v, then %+v", first, second)
	}
	if of[1] != 7 || to[1] != 18 {
		t.Error("the arguments were reordered")
	}
	if !(first.Low < first.Value && first.Value < first.High) {
		t.Errorf("the interval is %+v", first)
	}
}

// Samples whose true ratio is known: the interval must hold it about as often
// as it says. Medians are coarse, so the bootstrap errs to either side.
func TestIntervalHoldsTheTruth(t *testing.T) {
	const trials, pairs, truth = 200, 11, 0.6
	random := rand.New(rand.NewPCG(7, 7))
	held := 0
	for range trials {
		of, to := make([]float64, pairs), make([]float64, pairs)
		for i := range of {
			machine := math.Exp(0.3 * random.NormFloat64()) // slows both
			to[i] = 16 * machine * math.Exp(0.1*random.NormFloat64())
			of[i] = truth * 16 * machine * math.Exp(0.1*random.NormFloat64())
		}
		if r, ok := ratioOfMedians(of, to, 1000); ok && r.Low <= truth && truth <= r.High {
			held++
		}
	}
	if rate := float64(held) / trials; rate < 0.90 || rate > 0.999 {
		t.Errorf("the interval holds the true ratio in %.1f %% of trials", 100*rate)
	}
}
