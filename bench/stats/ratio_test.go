package stats

import (
	"math"
	"math/rand/v2"
	"testing"
)

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

func TestRatioOfUnpairedMedians(t *testing.T) {
	for _, c := range []struct {
		name       string
		of, to     []float64
		confidence float64
		want       Interval
	}{
		{"one each", []float64{6}, []float64{3}, 0.95, Interval{2, 2, 2}},
		// The medians drawn are 1, 1.5, 1.5, 2 with equal probability.
		{"two to one", []float64{1, 2}, []float64{1}, 0.95, Interval{1.5, 1, 2}},
		{"two to one, the middle half", []float64{1, 2}, []float64{1}, 0.4, Interval{1.5, 1.5, 1.5}},
		{"one to two", []float64{1}, []float64{1, 2}, 0.95, Interval{1 / 1.5, 0.5, 1}},
		// A drift that both share is of no help when they were not taken together.
		{"not paired", []float64{10, 20}, []float64{5, 10}, 0.9, Interval{2, 1, 4}},
		// Three draws of three have the greatest for their median in 7 of 27
		// cases, so that both ends are met with a probability of 6.7 %.
		{"three to three", []float64{4, 5, 6}, []float64{1, 2, 4}, 0.95, Interval{2.5, 1, 6}},
		{"nothing arrived", []float64{0, 0}, []float64{5, 6, 7}, 0.95, Interval{0, 0, 0}},
	} {
		got, ok := RatioOfUnpairedMedians(c.of, c.to, c.confidence)
		if !ok || !near(got.Value, c.want.Value) || !near(got.Low, c.want.Low) || !near(got.High, c.want.High) {
			t.Errorf("%s: %+v, %v, want %+v", c.name, got, ok, c.want)
		}
	}
	for name, c := range map[string][2][]float64{
		"no samples":    {nil, nil},
		"none of one":   {{1}, nil},
		"none of other": {nil, {1}},
		"division by 0": {{1, 2}, {0, 1, 2}},
		"not a number":  {{1}, {math.NaN()}},
	} {
		if got, ok := RatioOfUnpairedMedians(c[0], c[1], 0.95); ok {
			t.Errorf("%s: %+v", name, got)
		}
	}
	of, to := []float64{9, 7, 8}, []float64{3, 1, 2}
	first, _ := RatioOfUnpairedMedians(of, to, 0.95)
	if second, _ := RatioOfUnpairedMedians(of, to, 0.95); first != second {
		t.Errorf("%+v, then %+v", first, second)
	}
	if of[0] != 9 || to[0] != 3 {
		t.Error("the arguments were reordered")
	}
}

// Two runs of the same thing: the interval must leave 1 out hardly more often
// than it says, also with as few samples as are compared at all.
func TestUnpairedIntervalOfNoChange(t *testing.T) {
	const trials, confidence = 1000, 0.99
	random := rand.New(rand.NewPCG(3, 5))
	for _, samples := range []int{5, 7, 15} {
		alarms := 0
		for range trials {
			of, to := make([]float64, samples), make([]float64, samples)
			for i := range of {
				of[i] = 10 * math.Exp(0.1*random.NormFloat64())
				to[i] = 10 * math.Exp(0.1*random.NormFloat64())
			}
			if r, ok := ratioOfUnpairedMedians(of, to, confidence, 500); !ok || r.Low > 1 || r.High < 1 {
				alarms++
			}
		}
		t.Logf("%d samples: a change where there is none in %.1f %% of trials", samples, 100*float64(alarms)/trials)
		if rate := float64(alarms) / trials; rate > 0.03 {
			t.Errorf("%d samples: a change where there is none in %.1f %% of trials", samples, 100*rate)
		}
	}
}

// A loss of a fifth in samples that lie 3 % apart must be seen.
func TestUnpairedIntervalOfAChange(t *testing.T) {
	const trials = 200
	random := rand.New(rand.NewPCG(4, 6))
	seen := 0
	for range trials {
		of, to := make([]float64, 7), make([]float64, 7)
		for i := range of {
			of[i] = 8 * math.Exp(0.03*random.NormFloat64())
			to[i] = 10 * math.Exp(0.03*random.NormFloat64())
		}
		if r, ok := ratioOfUnpairedMedians(of, to, 0.99, 500); ok && r.High < 1 {
			seen++
		}
	}
	if seen < trials*95/100 {
		t.Errorf("a loss of a fifth is seen in %d of %d trials", seen, trials)
	}
}
