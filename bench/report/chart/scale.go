package chart

import (
	"math"
	"strconv"
)

// scale puts values in their places.
type scale struct {
	log         bool
	from, to    float64 // values at the ends
	left, right float64 // places of the ends
}

// newScale covers all that is drawn.
func (c *Chart) newScale(left, right float64) scale {
	s := scale{log: c.Log, left: left, right: right, from: math.Inf(1), to: math.Inf(-1)}
	take := func(v float64) {
		if drawable(v) && (v >= tiniest || !c.Log) {
			s.from, s.to = min(s.from, v), max(s.to, v)
		}
	}
	longest := 0.0
	for _, g := range c.Groups {
		for _, r := range g.Rows {
			sum := 0.0
			for _, v := range r.Bars {
				sum += positive(v)
			}
			take(sum)
			longest = max(longest, sum)
			for _, v := range r.Marks {
				take(v)
			}
			if r.Low < r.High {
				take(r.Low)
				take(r.High)
			}
		}
	}
	if c.Reference != 0 {
		take(c.Reference)
	}
	switch {
	case s.from > s.to: // nothing to draw
		s.from, s.to = 0, 1
		if s.log {
			s.from, s.to = 1, 10
		}
	case s.log:
		// Some air, so that no mark sits on the frame.
		air := max(math.Pow(s.to/s.from, 0.06), 1.04)
		s.from, s.to = s.from/air, s.to*air
	default:
		s.from = 0
		if longest > 0 {
			s.to = min(s.to, mostBars*longest)
		}
		if s.to <= 0 {
			s.to = 1
		}
	}
	return s
}

// mostBars is how many times the longest bar a linear axis is at most: one
// sample gone astray must not make all bars too short to see.
const mostBars = 2

// place of a value; what lies outside is put to the end.
func (s scale) place(v float64) float64 {
	part := 0.0
	if s.log {
		if v > 0 {
			part = math.Log(v/s.from) / math.Log(s.to/s.from)
		}
	} else {
		part = v / s.to
	}
	if !(part > 0) {
		part = 0
	}
	return s.left + (s.right-s.left)*min(part, 1)
}

// ticks are round values within the scale, as many as have room.
func (s scale) ticks() []float64 {
	if !s.log || s.to < 3*s.from {
		return s.linearTicks() // of which several are within so little
	}
	for _, digits := range [][]float64{{1, 1.5, 2, 3, 5, 7}, {1, 2, 5}, {1, 3}, {1}} {
		if t := s.logTicks(digits, 1); s.haveRoom(t) {
			return t
		}
	}
	for every := 2; ; every++ {
		if t := s.logTicks([]float64{1}, every); s.haveRoom(t) {
			return t
		}
	}
}

// haveRoom tells whether the texts of ticks keep clear of each other.
func (s scale) haveRoom(ticks []float64) bool {
	half := func(v float64) float64 { return tickWidth * float64(len(tickText(v))) / 2 }
	for i := 1; i < len(ticks); i++ {
		if s.place(ticks[i])-s.place(ticks[i-1]) < half(ticks[i])+half(ticks[i-1])+tickWidth {
			return false
		}
	}
	return len(ticks) <= maxTicks
}

// logTicks are digits times powers of ten, of which each n-th counts.
func (s scale) logTicks(digits []float64, every int) (ticks []float64) {
	first := int(math.Floor(math.Log10(s.from)))
	last := int(math.Ceil(math.Log10(s.to)))
	for power := first; power <= last; power++ {
		if power%every != 0 {
			continue
		}
		for _, d := range digits {
			if v := d * math.Pow10(power); v >= s.from && v <= s.to {
				ticks = append(ticks, v)
			}
		}
	}
	return ticks
}

// linearTicks are multiples of 1, 2 or 5 times a power of ten.
func (s scale) linearTicks() (ticks []float64) {
	power := math.Pow(10, math.Floor(math.Log10((s.to-s.from)/maxTicks)))
	for _, digit := range []float64{1, 2, 5, 10, 20, 50, 100} {
		ticks = ticks[:0]
		step := digit * power
		for v := math.Ceil(s.from/step) * step; v <= s.to && len(ticks) <= maxTicks; v += step {
			ticks = append(ticks, v)
		}
		if s.haveRoom(ticks) {
			return ticks
		}
	}
	return nil
}

// tickText is as short as it can be.
func tickText(v float64) string {
	if abs := math.Abs(v); abs != 0 && (abs >= 1e5 || abs < 1e-3) {
		return strconv.FormatFloat(v, 'g', 3, 64)
	}
	return strconv.FormatFloat(math.Round(v*1e6)/1e6, 'f', -1, 64)
}

// Nothing that is measured lies beyond these, but a file may say so.
const (
	tiniest = 1e-9 // on a logarithmic axis
	hugest  = 1e15
)

func drawable(v float64) bool { return math.Abs(v) <= hugest }

// positive is the length of a bar: there are none of less than nothing.
func positive(v float64) float64 {
	if v > 0 && drawable(v) {
		return v
	}
	return 0
}
