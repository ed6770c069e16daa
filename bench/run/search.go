package run

import "math"

// The search for the highest rate ends when it is known this closely, as a
// ratio, or after so many trials.
const (
	searchPrecision = 1.04
	searchStride    = 1.08 // of the first steps away from the guess
	searchNear      = 1.2  // from what is known: worth a second trial
	searchTrials    = 14
)

// search finds the highest rate from least, below which none is looked for, up
// to most, which is what the sender can do, with a loss of at most limit, from
// a guess. It widens its steps until it has a rate that is borne and one that
// is not, and halves what lies between. A trial with too much loss is repeated
// unless it was a long step away, for one hiccup of the machine would hold down
// the whole search. ok is false if none of the rates was borne.
func search(guess, least, most, limit float64, try func(rate float64) (loss float64, err error)) (rate float64, ok bool, err error) {
	low, high, stride := 0.0, math.Inf(1), searchStride
	next, repeated := min(guess, most), false
	for range searchTrials {
		loss, err := try(next)
		if err != nil {
			return 0, false, err
		}
		near := low == 0 && stride <= searchNear || next <= low*searchNear
		if loss > limit && near && !repeated {
			repeated = true
			continue
		}
		repeated = false
		if loss > limit {
			high = next
		} else {
			low = next
		}
		switch {
		case low == 0 && high <= least:
			return 0, false, nil
		case low == 0:
			next = max(high/stride, least)
			stride *= stride
		case low >= most:
			return low, true, nil
		case math.IsInf(high, 1):
			next = min(low*stride, most)
			stride *= stride
		case high/low <= searchPrecision:
			return low, true, nil
		default:
			next = math.Sqrt(low * high)
		}
	}
	return low, low > 0, nil
}
