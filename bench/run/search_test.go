package run

import (
	"errors"
	"testing"
)

// A path that bears so many datagrams a second, and a sender that can send so
// many.
func search1(guess, bears, sends float64) (rate float64, ok bool, trials int) {
	rate, ok, _ = search(guess, 500, sends, lossLimit, func(rate float64) (loss float64, err error) {
		trials++
		return max(0, 1-bears/rate), nil
	})
	return rate, ok, trials
}

func TestSearch(t *testing.T) {
	for _, c := range []struct {
		name                string
		guess, bears, sends float64
		trials              int
	}{
		{"a good guess", 100e3, 101e3, 1e6, 5},
		{"the same as last time", 99e3, 99.5e3, 1e6, 5},
		{"too high", 150e3, 100e3, 1e6, 14},
		{"far too high", 800e3, 100e3, 1e6, 14},
		{"too low", 50e3, 100e3, 1e6, 14},
		{"the sender is slower", 100e3, 1e6, 120e3, 4},
		{"the sender became slower", 200e3, 1e6, 120e3, 1},
	} {
		rate, ok, trials := search1(c.guess, c.bears, c.sends)
		most := min(c.bears, c.sends)
		if !ok || rate > most*(1+2*lossLimit) || rate < most/searchPrecision/1.01 {
			t.Errorf("%s: %.0f, %v, of %.0f", c.name, rate, ok, most)
		}
		if trials > c.trials {
			t.Errorf("%s: %d trials", c.name, trials)
		}
	}
}

// Where a part of all packets is lost, no rate is found, and that soon.
func TestSearchOnALossyPath(t *testing.T) {
	trials := 0
	rate, ok, err := search(100_000, 500, 1e6, lossLimit, func(rate float64) (float64, error) {
		trials++
		if rate < 500 {
			t.Errorf("it tries %v a second, which tells nothing", rate)
		}
		return 0.01, nil
	})
	if ok || err != nil || trials > 12 {
		t.Errorf("%v, %v, %v after %d trials", rate, ok, err, trials)
	}
}

// One hiccup does not hold down the search.
func TestSearchRepeatsATrial(t *testing.T) {
	trials := 0
	rate, ok, err := search(100, 1, 1e6, lossLimit, func(rate float64) (float64, error) {
		trials++
		if trials == 1 || rate > 100 {
			return 0.5, nil
		}
		return 0, nil
	})
	if !ok || err != nil || rate < 100/searchPrecision || rate > 100 {
		t.Errorf("%v, %v, %v", rate, ok, err)
	}
}

func TestSearchEndsWithAnError(t *testing.T) {
	broken := errors.New("broken")
	if _, _, err := search(100, 1, 1e6, lossLimit, func(float64) (float64, error) { return 0, broken }); !errors.Is(err, broken) {
		t.Error(err)
	}
}
