package chart

import (
	"encoding/xml"
	"strconv"
	"strings"
)

// writer makes SVG that is well-formed XML and may stand in HTML as it is.
// All text goes through escape; classes and places are this package's own.
type writer struct{ strings.Builder }

func escape(s string) string {
	var b strings.Builder
	// It cannot fail, and replaces what XML does not have.
	_ = xml.EscapeText(&b, []byte(s))
	return b.String()
}

// num is a length with two decimals at most.
func num(v float64) string {
	s := strconv.FormatFloat(v, 'f', 2, 64)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// place is an attribute that holds a length.
type place struct {
	name  string
	value float64
}

func (w *writer) shape(element, class string, places ...place) {
	w.WriteString("<" + element + ` class="` + class + `"`)
	for _, p := range places {
		w.WriteString(" " + p.name + `="` + num(p.value) + `"`)
	}
	w.WriteString("/>")
}

func (w *writer) rect(class string, x, y, width, height float64) {
	w.shape("rect", class, place{"x", x}, place{"y", y}, place{"width", width}, place{"height", height})
}

func (w *writer) line(class string, x1, y1, x2, y2 float64) {
	w.shape("line", class, place{"x1", x1}, place{"y1", y1}, place{"x2", x2}, place{"y2", y2})
}

// Where a text's place is.
const (
	atStart  = ""
	atMiddle = " mid"
	atEnd    = " end"
)

// text is cut to a width in pixels.
func (w *writer) text(class, anchor string, x, y, width float64, s string) {
	if fits := max(int(width/charWidth), 1); len([]rune(s)) > fits {
		s = string([]rune(s)[:fits-1]) + "…"
	}
	w.WriteString(`<text class="` + class + anchor + `" x="` + num(x) + `" y="` + num(y) + `">` + escape(s) + "</text>")
}

func (w *writer) open(element string) { w.WriteString("<" + element + ">") }
func (w *writer) end(element string)  { w.WriteString("</" + element + ">\n") }

// note is a title or a description, which are not drawn.
func (w *writer) note(element, s string) {
	if s != "" {
		w.WriteString("<" + element + ">" + escape(s) + "</" + element + ">")
	}
}
