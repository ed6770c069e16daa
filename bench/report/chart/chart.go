// Package chart draws measured figures as SVG: one kind of chart, rows of bars
// or marks with intervals. It reads on a phone, follows the reader's choice of
// light or dark, and needs nothing but itself.
package chart

import "unicode/utf8"

// Chart has a row for each thing compared, in groups, over one axis.
type Chart struct {
	Title    string
	Subtitle string // unit, and which way is better
	Desc     string // what is to be seen, for those who do not see it

	Log       bool    // the axis is logarithmic; else it is linear and starts at 0
	Reference float64 // where a line is drawn, 0 for none
	Less      string  // at the left end below the axis: what it means to be there
	More      string  // at the right end

	Keys   []Key // of a legend
	Groups []Group
}

// Key is an entry of the legend: what the n-th of a row's Bars or Marks is.
type Key struct {
	Title string
	Mark  bool // else a bar
}

// Group is rows below a title, which may be empty.
type Group struct {
	Title string
	Rows  []Row
}

// Row is what was measured of one thing.
type Row struct {
	Label  string
	Colour int       // of the palette; it is never the only difference between rows
	Bars   []float64 // lengths, one after the other
	Marks  []float64 // places, joined by a line; NaN for one that is missing

	Low, High float64 // ends of the interval; equal where there is none
	Value     string  // shown at the right
	Tip       string  // shown by browsers over the row
}

// Sizes in CSS pixels. Charts are as wide as a small phone, so that they are
// never shrunk until their text cannot be read.
const (
	Width = 360

	margin      = 14
	titleHeight = 46 // title and subtitle
	keysHeight  = 22
	groupHeight = 24 // a group's title
	rowHeight   = 20
	barHeight   = 12
	groupGap    = 8
	axisHeight  = 24
	endsHeight  = 16 // Less and More

	maxLabel = 112
	maxValue = 124
	labelGap = 8
	maxTicks = 6

	// Widths of a character, on the wide side: which font a reader has is not
	// known.
	charWidth  = 6.7
	digitWidth = 7.6
	spaceWidth = 4.0 // and points
	tickWidth  = 6.2

	minInterval = 3 // a narrower one would hide what it belongs to
)

// height of the whole chart.
func (c *Chart) height() float64 {
	h := c.plotTop()
	for i, g := range c.Groups {
		if i > 0 {
			h += groupGap
		}
		if g.Title != "" {
			h += groupHeight
		}
		h += rowHeight * float64(len(g.Rows))
	}
	h += axisHeight
	if c.Less != "" || c.More != "" {
		h += endsHeight
	}
	return h + margin/2
}

// plotTop is where the first group begins.
func (c *Chart) plotTop() float64 {
	if len(c.Keys) > 0 {
		return margin + titleHeight + keysHeight
	}
	return margin + titleHeight
}

// columns returns the ends of the plot: between the labels and the values.
func (c *Chart) columns() (left, right float64) {
	label, value := 0.0, 0.0
	for _, g := range c.Groups {
		for _, r := range g.Rows {
			label = max(label, charWidth*float64(utf8.RuneCountInString(r.Label)))
			value = max(value, widthOfValue(r.Value))
		}
	}
	left = margin + min(label, maxLabel) + labelGap
	right = Width - margin - min(value, maxValue) - labelGap
	return left, right
}

func widthOfValue(s string) (width float64) {
	for _, r := range s {
		if r >= '0' && r <= '9' {
			width += digitWidth
		} else {
			width += spaceWidth
		}
	}
	return width
}
