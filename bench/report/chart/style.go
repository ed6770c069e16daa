package chart

import (
	"fmt"
	"strings"
)

// A tone is a colour on light and on dark paper.
type tone struct{ light, dark string }

// The palette can be told apart with all kinds of colour vision: any two of its
// colours are 16 or more apart in CIELAB, also as people without one kind of
// cones see them. Each has a contrast of 3 to 1 or more (WCAG 2.2, 1.4.11).
var palette = []tone{
	{"#0072b2", "#4aa3e0"}, // blue
	{"#b27e10", "#d88309"}, // ochre
	{"#898b8e", "#787371"}, // grey
	{"#144e3b", "#5cdf96"}, // green
	{"#6a205d", "#e3adc6"}, // purple
	{"#0095fe", "#b5daff"}, // sky
	{"#665b00", "#d3e074"}, // olive
	{"#10258b", "#888fff"}, // indigo
}

// Colours is how many there are before they come again.
var Colours = len(palette)

// What is neither path nor part.
var (
	paper = tone{"#ffffff", "#0d1117"}
	ink   = tone{"#1c2430", "#e6edf3"}
	faint = tone{"#57606a", "#9aa7b4"} // text of less weight
	hair  = tone{"#e3e7ec", "#262e38"} // grid
)

// shades of a stack's parts, from the axis: how much of the colour.
var shades = []float64{1, 0.55, 0.25, 0.1}

const fonts = `system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue","Noto Sans","DejaVu Sans",Arial,sans-serif`

// Variables are CSS for a page around charts: --paper, --ink, --faint and --hair
// are what the charts have.
func Variables() string {
	set := func(of func(tone) string) string {
		return fmt.Sprintf(":root{--paper:%s;--ink:%s;--faint:%s;--hair:%s}", of(paper), of(ink), of(faint), of(hair))
	}
	return set(light) + "\n" + whenDark + set(dark) + "}\n"
}

// whenDark opens the rules for dark paper, which are never for a printer.
const whenDark = "@media screen and (prefers-color-scheme:dark){\n"

func light(t tone) string { return t.light }
func dark(t tone) string  { return t.dark }

// CSS is what charts need in the page or file they stand in. It uses no
// variables: not every program that shows SVG knows them.
func CSS() string {
	var b strings.Builder
	b.WriteString(".chart text{font:12px " + fonts + ";font-variant-numeric:tabular-nums}\n" +
		".chart text.title{font-size:14px;font-weight:600}.chart text.group{font-weight:600}\n" +
		".chart text.sub,.chart text.tick,.chart text.key{font-size:11px}\n" +
		".chart text.mid{text-anchor:middle}.chart text.end{text-anchor:end}\n" +
		".chart line{stroke-width:1}.chart .reference,.chart .whisker,.chart .span{stroke-width:1.5}.chart .join{stroke-width:2}.chart .stem{stroke-width:5;stroke-opacity:.22}.chart .halo{stroke-width:3.5}\n" +
		".chart .mark{stroke-width:1.5}.chart .hollow{stroke-width:2}\n")
	for i, share := range shades {
		fmt.Fprintf(&b, ".chart .p%d{fill-opacity:%v}\n", i, share)
	}
	colours(&b, light)
	b.WriteString(whenDark)
	colours(&b, dark)
	b.WriteString("}\n")
	return b.String()
}

// colours writes the rules that differ between light and dark.
func colours(b *strings.Builder, of func(tone) string) {
	rule := func(selector, format string, t tone) {
		fmt.Fprintf(b, "%s{"+format+"}\n", selector, of(t))
	}
	rule(".chart text", "fill:%s", ink)
	rule(".chart .sub,.chart .tick,.chart .key", "fill:%s", faint)
	rule(".chart .grid", "stroke:%s", hair)
	rule(".chart .reference", "stroke:%s", faint)
	rule(".chart .whisker", "stroke:%s", ink)
	rule(".chart .halo", "stroke:%s", paper)
	rule(".chart .paper", "fill:%s", paper)
	named := func(name string, t tone) {
		fmt.Fprintf(b, ".chart .%[1]s{fill:%[2]s;stroke:%[2]s}\n", name, of(t))
	}
	named("ink", ink)
	for i, t := range palette {
		named(fmt.Sprintf("c%d", i), t)
	}
	// After the colours, which they override in part.
	rule(".chart .mark", "stroke:%s", paper)
	rule(".chart .hollow", "fill:%s", paper)
}
