package report

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// hostile puts a text wherever a document has one.
func hostile(s string) *Document {
	result := func(metric, unit string) Result {
		return Result{Path: s, Profile: s, Workload: s, Metric: metric, Unit: unit, Median: 2, Low: 1, High: 3, Samples: []float64{1, 2, 3}}
	}
	return &Document{
		Schema: Schema,
		Environment: Environment{
			Kernel: s, Arch: s, CPUModel: s, DefaultCongestion: s, Weftd: s, Go: s, IPerf3: s, Congestion: s,
			MTU: map[string]int{s: 1500}, Offloads: map[string]Offload{s: {s: true}, "other": {s: false}},
		},
		Results:     []Result{result("throughput", s+"/s"), result("half_rtt_p50", s), result(s, s), result("cpu", s), result("cpu_user", s)},
		Ratios:      []Ratio{{Of: s, To: s, Profile: s, Workload: s, Metric: "throughput", Ratio: 1, Low: 0.5, High: 2}},
		CrossChecks: []CrossCheck{{Path: s, Profile: s, Workload: s, Unit: s}},
		Warnings:    []string{s},
	}
}

// show makes all there is of a hostile document as it is read from a file, and
// checks that nothing of it got out of its place. The page has it beside another
// one, which shares rows with it: that is all that pages have.
func show(t *testing.T, text string) {
	b, err := json.Marshal(hostile(text))
	if err != nil {
		t.Fatal(err)
	}
	d, err := decode(b)
	if err != nil {
		t.Fatal(err)
	}
	other := &Document{Results: d.Results[:2], Ratios: d.Ratios}
	makePage(t, NewRuns([]string{text, text}, []*Document{d, other})...)
	for _, s := range d.sheets() {
		checkSVG(t, s.svg)
	}
	for _, c := range d.Tables() {
		if c < ' ' && c != '\n' || c == 0x7f {
			t.Errorf("the tables have the control character %q", c)
		}
	}
	md := d.Markdown()
	if bad := liveMarkdown.FindString(md); bad != "" {
		t.Errorf("the Markdown has %q:\n%s", bad, md)
	}
}

// liveMarkdown is a link, code or an element.
var liveMarkdown = regexp.MustCompile("[^\\\\]\\]\\(|[^\\\\]`|<[a-z]|\x1b")

var hostileTexts = []string{
	"<script>alert(1)</script>", "</style><script>", "</svg></title></desc><img src=x onerror=alert(1)>", `" onload="x`, "' onload='x", "]]><!--", "--><!--",
	"&lt;script&gt;", "{{.}}", "${x}", "http://example.com/", "javascript:x", "url(http://x)", "a|b\n|c|", "`x`", "[x](http://x)", "![i](http://x)",
	"\x1b[2J\x1b]0;x\x07", "\u202eabc", "\x00", "\xff\xfe", "..", "../../x", "$(rm -rf /)", "'; rm -rf /; '", "", " ", strings.Repeat("long", 500),
}

func TestHostileTexts(t *testing.T) {
	for _, text := range hostileTexts {
		show(t, text)
		b, err := json.Marshal(hostile(text))
		if err != nil {
			t.Fatal(err)
		}
		d, err := decode(b)
		if err != nil {
			t.Fatal(err)
		}
		makePage(t, Run{File: text, Document: d})
	}
}

func TestCommandIsQuoted(t *testing.T) {
	d := hostile("a'; reboot; '")
	if want := `--paths='a'\''; reboot; '\''' `; !strings.Contains(d.command(), want) {
		t.Errorf("%s", d.command())
	}
}

// fuzzedLength is room for whatever could get out of its place, in bytes. What is
// longer takes the fuzzer most of its time, above all to make it short again.
const fuzzedLength = 64

func FuzzShow(f *testing.F) {
	for _, text := range hostileTexts {
		if len(text) <= fuzzedLength {
			f.Add(text)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		if len(text) <= fuzzedLength {
			show(t, text)
		}
	})
}
