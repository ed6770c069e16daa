package chart

import (
	"slices"
	"strconv"
)

// SVG is the chart to stand in an HTML page that has CSS.
func (c *Chart) SVG() string {
	var w writer
	w.WriteString(`<svg class="chart" role="img" aria-label="` + escape(c.Title) + `" viewBox="0 0 ` + num(Width) + " " + num(c.height()) + `" width="` + num(Width) + `" height="` + num(c.height()) + `">`)
	w.note("desc", c.Desc)
	c.draw(&w)
	w.end("svg")
	return w.String()
}

// draw draws from the top down.
func (c *Chart) draw(w *writer) {
	w.text("title", atStart, margin, margin+12, Width-2*margin, c.Title)
	w.text("sub", atStart, margin, margin+29, (Width-2*margin)*charWidth/tickWidth, c.Subtitle) // smaller
	c.drawKeys(w)

	left, right := c.columns()
	s := c.newScale(left, right)
	bottom := c.height() - margin/2 - axisHeight
	if c.Less != "" || c.More != "" {
		bottom -= endsHeight
	}
	c.drawGrid(w, s, bottom)

	y := c.plotTop()
	for i, g := range c.Groups {
		if i > 0 {
			y += groupGap
		}
		if g.Title != "" {
			// A strip of paper behind it, or the grid would go through.
			w.rect("paper", margin, y-1, Width-2*margin, groupHeight-2)
			w.text("group", atStart, margin, y+16, Width-2*margin, g.Title)
			y += groupHeight
		}
		for _, r := range g.Rows {
			w.open("g")
			w.note("title", r.Tip)
			c.drawRow(w, s, r, y+rowHeight/2)
			w.end("g")
			y += rowHeight
		}
	}
}

func (c *Chart) drawKeys(w *writer) {
	x := float64(margin)
	const y = margin + titleHeight + 5
	for i, k := range c.Keys {
		if k.Mark {
			drawMark(w, "ink", i, x+6, y-4)
		} else {
			w.rect("ink "+part(i), x+1, y-9, 10, 10)
		}
		w.text("key", atStart, x+16, y, Width, k.Title)
		x += 30 + charWidth*float64(len([]rune(k.Title)))
	}
}

func (c *Chart) drawGrid(w *writer, s scale, bottom float64) {
	top := c.plotTop()
	for _, v := range s.ticks() {
		x := s.place(v)
		w.line("grid", x, top, x, bottom+4)
		w.text("tick", atMiddle, x, bottom+17, Width, tickText(v))
	}
	if c.Reference != 0 {
		x := s.place(c.Reference)
		w.line("reference", x, top, x, bottom+4)
	}
	const below = axisHeight + 9
	if c.Less != "" {
		w.text("tick", atStart, s.left, bottom+below, Width, "← "+c.Less)
	}
	if c.More != "" {
		w.text("tick", atEnd, s.right, bottom+below, Width, c.More+" →")
	}
}

// drawRow draws around the line y.
func (c *Chart) drawRow(w *writer, s scale, r Row, y float64) {
	w.text("label", atEnd, s.left-labelGap, y+4, s.left-labelGap-margin+charWidth/2, r.Label)
	w.text("value", atEnd, Width-margin, y+4, Width, r.Value)
	colour := "c" + strconv.Itoa(r.Colour%len(palette))

	sum := 0.0
	for i, v := range r.Bars {
		from := s.place(sum)
		sum += positive(v)
		if to := s.place(sum); to > from {
			w.rect(colour+" "+part(i), from, y-barHeight/2, to-from, barHeight)
		}
	}
	if marks := slices.DeleteFunc(slices.Clone(r.Marks), func(v float64) bool { return !drawable(v) }); len(marks) > 1 {
		w.line("join "+colour, s.place(slices.Min(marks)), y, s.place(slices.Max(marks)), y)
	}
	if len(r.Marks) == 1 && c.Reference != 0 && drawable(r.Marks[0]) {
		w.line("stem "+colour, s.place(c.Reference), y, s.place(r.Marks[0]), y)
	}
	low, high := s.place(r.Low), s.place(r.High)
	if r.Low < r.High && high-low >= minInterval {
		kind := "whisker"
		if len(r.Marks) > 0 {
			kind = "span " + colour // there is no bar to be seen against
		}
		for _, pass := range []string{"halo", kind} {
			w.line(pass, low, y, high, y)
			w.line(pass, low, y-3.5, low, y+3.5)
			if r.High > s.to { // an arrow: it goes on
				w.line(pass, high-3.5, y-3.5, high, y)
				w.line(pass, high-3.5, y+3.5, high, y)
			} else {
				w.line(pass, high, y-3.5, high, y+3.5)
			}
		}
	}
	for i, v := range r.Marks {
		if drawable(v) {
			drawMark(w, colour, i, s.place(v), y)
		}
	}
}

// drawMark draws the n-th of a row's marks: each has a shape of its own.
func drawMark(w *writer, colour string, n int, x, y float64) {
	switch n {
	case 0:
		w.shape("circle", "mark "+colour, place{"cx", x}, place{"cy", y}, place{"r", 4.5})
	case 1:
		w.shape("circle", "hollow "+colour, place{"cx", x}, place{"cy", y}, place{"r", 3.75})
	default:
		w.rect("mark "+colour, x-1.75, y-6, 3.5, 12)
	}
}

// part is the class of a row's n-th bar: the path's colour, ever lighter.
func part(n int) string { return "p" + strconv.Itoa(min(n, len(shades)-1)) }
