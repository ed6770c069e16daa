package chart

import (
	"encoding/xml"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"testing"
)

func TestPlaces(t *testing.T) {
	linear := scale{to: 50, left: 100, right: 200}
	log := scale{log: true, from: 1, to: 100, left: 100, right: 200}
	for _, c := range []struct {
		scale       scale
		value, want float64
	}{
		{linear, 0, 100}, {linear, 25, 150}, {linear, 50, 200}, {linear, 60, 200}, {linear, -1, 100}, {linear, math.NaN(), 100},
		{log, 1, 100}, {log, 10, 150}, {log, 100, 200}, {log, 0.1, 100}, {log, 0, 100}, {log, -5, 100}, {log, math.Inf(1), 200},
	} {
		if got := c.scale.place(c.value); math.Abs(got-c.want) > 1e-9 {
			t.Errorf("%v is at %v, want %v (logarithmic: %v)", c.value, got, c.want, c.scale.log)
		}
	}
}

func TestTicks(t *testing.T) {
	for _, c := range []struct {
		log      bool
		from, to float64
		want     []float64
	}{
		{false, 0, 58, []float64{0, 10, 20, 30, 40, 50}},
		{false, 0, 1, []float64{0, 0.2, 0.4, 0.6, 0.8, 1}},
		{false, 0, 9400, []float64{0, 2000, 4000, 6000, 8000}},
		{true, 0.9, 1.1, []float64{0.9, 0.95, 1, 1.05, 1.1}},
		{true, 2, 300, []float64{3, 10, 30, 100, 300}},
		{true, 0.02, 5, []float64{0.03, 0.1, 0.3, 1, 3}},
		{true, 1, 1e9, []float64{1, 100, 1e4, 1e6, 1e8}},
	} {
		got := scale{log: c.log, from: c.from, to: c.to, left: 100, right: 300}.ticks()
		if !slices.EqualFunc(got, c.want, func(a, b float64) bool { return math.Abs(a-b) <= 1e-9*max(1, b) }) {
			t.Errorf("%v to %v: %v, want %v", c.from, c.to, got, c.want)
		}
	}
}

func TestTickText(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.1: "0.1", 0.30000000000000004: "0.3", 2000: "2000", 1e6: "1e+06", 1e-9: "1e-09"} {
		if got := tickText(v); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
}

// attributes returns those of all elements of a name and class, in order.
func attributes(t *testing.T, svg, element, class string) (list []map[string]string) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(svg))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return list
		}
		if err != nil {
			t.Fatalf("%v in %s", err, svg)
		}
		start, ok := token.(xml.StartElement)
		if !ok || start.Name.Local != element {
			continue
		}
		all := make(map[string]string)
		for _, a := range start.Attr {
			all[a.Name.Local] = a.Value
		}
		if slices.Contains(strings.Fields(all["class"]), class) {
			list = append(list, all)
		}
	}
}

func length(t *testing.T, text string) float64 {
	t.Helper()
	v, err := strconv.ParseFloat(text, 64)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// Lengths are in proportion, parts follow each other, whiskers are where they
// belong.
func TestBars(t *testing.T) {
	c := &Chart{Title: "T", Groups: []Group{{Rows: []Row{
		{Label: "a", Colour: 0, Bars: []float64{10}, Low: 8, High: 20},
		{Label: "b", Colour: 1, Bars: []float64{5, 2.5}},
	}}}}
	svg := c.SVG()
	a, b := attributes(t, svg, "rect", "c0"), attributes(t, svg, "rect", "c1")
	if len(a) != 1 || len(b) != 2 {
		t.Fatalf("bars: %v, %v", a, b)
	}
	unit := length(t, a[0]["width"]) / 10
	zero := length(t, a[0]["x"])
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.05 {
			t.Errorf("%s is at %v, want %v", what, got, want)
		}
	}
	near("b's first part", length(t, b[0]["width"]), 5*unit)
	near("b's second part", length(t, b[1]["x"]), zero+5*unit)
	near("b's second part's width", length(t, b[1]["width"]), 2.5*unit)
	whisker := attributes(t, svg, "line", "whisker")
	if len(whisker) != 3 {
		t.Fatalf("whiskers: %v", whisker)
	}
	near("whisker from", length(t, whisker[0]["x1"]), zero+8*unit)
	near("whisker to", length(t, whisker[0]["x2"]), zero+20*unit)
}

// A sample gone astray leaves the bars long enough to see.
func TestStraySample(t *testing.T) {
	c := &Chart{Groups: []Group{{Rows: []Row{{Bars: []float64{10}, Low: 9, High: 1e4}, {Colour: 1, Bars: []float64{5}}}}}}
	svg := c.SVG()
	left, right := c.columns()
	if got := length(t, attributes(t, svg, "rect", "c0")[0]["width"]); math.Abs(got-(right-left)/2) > 0.05 {
		t.Errorf("the bar is %v long, want half of %v", got, right-left)
	}
	whisker := attributes(t, svg, "line", "whisker")
	if len(whisker) != 4 || length(t, whisker[0]["x2"]) > right {
		t.Errorf("there is no arrow: %v", whisker)
	}
}

func TestMarks(t *testing.T) {
	c := &Chart{Log: true, Reference: 1, Groups: []Group{{Rows: []Row{
		{Marks: []float64{1}, Colour: 0},
		{Marks: []float64{4, math.NaN(), 16}, Colour: 1},
	}}}}
	svg := c.SVG()
	one, line := attributes(t, svg, "circle", "c0"), attributes(t, svg, "line", "reference")
	if len(one) != 1 || len(line) != 1 || one[0]["cx"] != line[0]["x1"] {
		t.Errorf("the mark of 1 is at %v, the line at %v", one, line)
	}
	if strings.Contains(svg, "NaN") || len(attributes(t, svg, "circle", "c1")) != 1 || len(attributes(t, svg, "rect", "c1")) != 1 {
		t.Errorf("the mark that is missing: %s", svg)
	}
}

// Whatever is in a chart, it stays inside, and is XML.
func TestEverythingIsInside(t *testing.T) {
	values := []float64{0, -1, 1e-300, 1e-9, 0.5, 1, 3, 1e6, 1e15, 1e300, math.Inf(1), math.Inf(-1), math.NaN()}
	for _, log := range []bool{false, true} {
		for _, reference := range []float64{0, 1} {
			for _, a := range values {
				for _, b := range values {
					c := &Chart{
						Title: strings.Repeat("<title> & ", 30), Subtitle: "µ", Log: log, Reference: reference, Less: "worse", More: "better",
						Keys:   []Key{{Title: "k"}, {Title: "m", Mark: true}},
						Groups: []Group{{Title: "g", Rows: []Row{{Label: strings.Repeat("x", 99), Colour: 99, Bars: []float64{a, b}, Marks: []float64{a, b}, Low: a, High: b, Value: strings.Repeat("9", 99)}}}, {}},
					}
					svg := c.SVG()
					for _, element := range []string{"rect", "line", "circle"} {
						for _, class := range []string{"c3", "grid", "whisker", "halo"} {
							for _, all := range attributes(t, svg, element, class) {
								for _, name := range []string{"x", "x1", "x2", "cx"} {
									if text, ok := all[name]; ok && !(length(t, text) >= 0 && length(t, text) <= Width) {
										t.Fatalf("%v and %v, logarithmic %v: <%s> at %s=%s", a, b, log, element, name, text)
									}
								}
							}
						}
					}
				}
			}
		}
	}
}

func TestSheet(t *testing.T) {
	c := &Chart{Title: "T", Groups: []Group{{Rows: []Row{{Label: "a", Bars: []float64{1}}}}}}
	for charts, want := range map[int][2]float64{1: {1, 1}, 2: {2, 1}, 3: {2, 2}} {
		svg := string(Sheet("s", slices.Repeat([]*Chart{c}, charts), 2))
		size := attributes(t, svg, "svg", "chart")[0]
		if got := [2]float64{length(t, size["width"]) / Width, length(t, size["height"]) / c.height()}; got != want {
			t.Errorf("%d charts take %v, want %v", charts, got, want)
		}
		if paper := attributes(t, svg, "rect", "paper"); len(paper) == 0 || paper[0]["width"] != size["width"] || paper[0]["height"] != size["height"] {
			t.Errorf("the paper is %v of %v", paper, size)
		}
	}
}
