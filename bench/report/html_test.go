package report

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"

	"golang.org/x/net/html"
)

// makePage makes the page and checks what holds for every page: it is well
// formed, loads and runs nothing, and its links lead somewhere.
func makePage(t *testing.T, runs ...Run) string {
	t.Helper()
	page, err := HTML(runs)
	if err != nil {
		t.Fatal(err)
	}
	var open []string // elements
	ids, links := make(map[string]bool), make(map[string]bool)
	for z := html.NewTokenizer(bytes.NewReader(page)); ; {
		kind := z.Next()
		if kind == html.ErrorToken {
			if z.Err() != io.EOF {
				t.Fatal(z.Err())
			}
			break
		}
		switch token := z.Token(); kind {
		case html.StartTagToken, html.SelfClosingTagToken:
			checkElement(t, token)
			for _, a := range token.Attr {
				if a.Key == "id" && ids[a.Val] {
					t.Errorf("id %q is there twice", a.Val)
				}
				if a.Key == "id" {
					ids[a.Val] = true
				}
				if id, ok := strings.CutPrefix(a.Val, "#"); ok && a.Key == "href" {
					links[id] = true
				}
			}
			if kind == html.StartTagToken && !void[token.Data] {
				open = append(open, token.Data)
			}
		case html.EndTagToken:
			if len(open) == 0 || open[len(open)-1] != token.Data {
				t.Fatalf("</%s> closes %v", token.Data, open)
			}
			open = open[:len(open)-1]
		case html.TextToken:
			if len(open) > 0 && open[len(open)-1] == "style" {
				checkStyle(t, token.Data)
			}
		}
	}
	if len(open) > 0 {
		t.Fatalf("not closed: %v", open)
	}
	for id := range links {
		if !ids[id] {
			t.Errorf("a link goes to #%s, which is not there", id)
		}
	}
	return string(page)
}

// void are HTML's elements without an end.
var void = map[string]bool{"meta": true, "br": true, "hr": true, "img": true, "link": true, "input": true}

// checkElement looks for whatever a browser would fetch or run.
func checkElement(t *testing.T, token html.Token) {
	t.Helper()
	switch token.Data {
	case "script", "link", "img", "image", "iframe", "object", "embed", "base", "form", "use", "foreignobject":
		t.Errorf("there is a <%s>", token.Data)
	}
	for _, a := range token.Attr {
		if a.Key == "href" && strings.HasPrefix(a.Val, "#") || a.Key == "aria-label" {
			continue
		}
		if a.Key == "src" || a.Key == "href" || strings.HasPrefix(a.Key, "on") || strings.Contains(a.Val, "url(") || strings.Contains(a.Val, "://") {
			t.Errorf("<%s %s=%q>", token.Data, a.Key, a.Val)
		}
	}
}

func checkStyle(t *testing.T, style string) {
	t.Helper()
	for _, fetches := range []string{"@import", "url(", "@font-face", "://", "expression("} {
		if strings.Contains(style, fetches) {
			t.Errorf("the style has %s", fetches)
		}
	}
}

func TestPage(t *testing.T) {
	run, full := read(t, "run.json"), read(t, "full.json")
	for name, want := range map[string]bool{
		"a warning: these figures are doubtful": true, "this document was made up": true, "p99.9": false, `id="ratio-1"`: true, "Against iperf3": true,
		"--paths=vxlan,udp --profiles=veth,notso --workloads=tcp1,udp64,rtt --rounds=3 --duration=2s --warmup=0.5s --congestion=cubic --baseline=vxlan": true,
	} {
		if got := strings.Contains(strings.ToLower(makePage(t, run...)), strings.ToLower(name)); got != want {
			t.Errorf("the page of run.json has %q: %v", name, got)
		}
	}
	for name, want := range map[string]bool{
		"doubtful": false, "p99.9": true, "softirq": true, "TCP 1 flow, daemons, s/GB": true, "memory daemons, MiB": true, "Against iperf3": false,
		"TCP both ways: throughput, forth": true, "per second, more is better": true, "Side by side": false,
	} {
		if got := strings.Contains(makePage(t, full...), name); got != want {
			t.Errorf("the page of full.json has %q: %v", name, got)
		}
	}
	both := makePage(t, read(t, "run.json", "full.json")...)
	for _, want := range []string{"Side by side: ratios", "Run A: run.json", "Run B: full.json", `<a href="#A-run">run A</a>.`} {
		if !strings.Contains(both, want) {
			t.Errorf("the page of both has no %q", want)
		}
	}
}

// A chart's text alternative is its title, its description and a table below.
func TestChartsAreDescribed(t *testing.T) {
	page := makePage(t, read(t, "full.json")...)
	charts, described := strings.Count(page, "<svg "), strings.Count(page, `role="img" aria-label="`)
	if charts < 20 || charts != described || charts != strings.Count(page, "<desc>") {
		t.Errorf("of %d charts %d have a title and %d a description", charts, described, strings.Count(page, "<desc>"))
	}
}

// Documents that lack what others have.
func TestPartialDocuments(t *testing.T) {
	result := func(path, metric, unit string, samples ...float64) Result {
		r := Result{Path: path, Profile: "veth", Workload: "tcp1", Metric: metric, Unit: unit, Samples: samples}
		if len(samples) > 0 {
			r.Median, r.Low, r.High = samples[0], samples[0], samples[0]
		}
		return r
	}
	var crowd []Result
	for i := range 40 {
		crowd = append(crowd, result(fmt.Sprintf("path-%d-with-quite-a-long-name", i), "throughput", "Gbit/s", float64(i)))
	}
	for name, d := range map[string]*Document{
		"nothing":        {},
		"one path":       {Results: []Result{result("udp", "throughput", "Gbit/s", 3)}},
		"no vxlan":       {Results: []Result{result("udp", "throughput", "Gbit/s", 3), result("direct", "throughput", "Gbit/s", 9)}, Ratios: []Ratio{{Of: "udp", To: "direct", Profile: "veth", Workload: "tcp1", Metric: "throughput", Ratio: 0.3, Low: 0.2, High: 0.4}}},
		"no samples":     {Results: []Result{result("udp", "throughput", "Gbit/s")}},
		"costs only":     {Results: []Result{result("udp", "memory", "MiB", 1), result("udp", "cpu_user", "s/GB", 1)}},
		"cpu, no parts":  {Results: []Result{result("udp", "cpu", "s/GB", 1)}},
		"odd numbers":    {Results: []Result{result("a", "throughput", "Gbit/s", -4), result("b", "throughput", "Gbit/s", 1e308), result("c", "half_rtt_p50", "us", 0), result("d", "half_rtt_p50", "us", 1e-300)}},
		"odd ratios":     {Results: []Result{result("a", "throughput", "Gbit/s", 4)}, Ratios: []Ratio{{Of: "a", To: "b", Profile: "veth", Workload: "tcp1", Metric: "throughput", Ratio: 0, Low: -1, High: 1e300}, {Of: "x", To: "y"}}},
		"differing unit": {Results: []Result{result("a", "throughput", "Gbit/s", 4), result("b", "throughput", "kpacket/s", 4)}},
		"forty paths":    {Results: crowd},
		"many of one":    {Results: append(crowd, crowd...)},
	} {
		t.Run(name, func(t *testing.T) {
			run := Run{File: "x.json", Document: d}
			page := makePage(t, run)
			makePage(t, NewRuns([]string{"x", "y"}, []*Document{d, d})...)
			apart := makePage(t, NewRuns([]string{"first.json", "second.json"}, []*Document{d, {}})...)
			if !strings.Contains(apart, "2 runs of weft-bench") || strings.Contains(apart, "Side by side") {
				t.Error("two runs with nothing in common are not listed")
			}
			if len(d.Results) == 0 && (!strings.Contains(page, "no results") || !strings.Contains(d.Tables(), "no results") || !strings.Contains(d.Markdown(), "no results")) {
				t.Error("it is not said that there are no results")
			}
			for _, r := range d.Results {
				if !strings.Contains(page, r.Path) {
					t.Errorf("path %s is missing", r.Path)
				}
			}
			for _, bad := range []string{"NaN", "Inf"} {
				if strings.Contains(page, bad) {
					t.Errorf("the page has %s", bad)
				}
			}
			for _, s := range d.sheets() {
				checkSVG(t, s.svg)
			}
		})
	}
}

// checkSVG parses an SVG file as XML.
func checkSVG(t *testing.T, svg []byte) {
	t.Helper()
	decoder := xml.NewDecoder(strings.NewReader(string(svg)))
	for {
		token, err := decoder.Token()
		if err == io.EOF {
			return
		}
		if err != nil {
			t.Fatalf("%v in %.300s", err, svg)
		}
		if start, ok := token.(xml.StartElement); ok {
			for _, a := range start.Attr {
				if strings.Contains(a.Value, "://") && a.Name.Local != "xmlns" && a.Name.Local != "aria-label" || strings.HasPrefix(a.Name.Local, "on") || a.Name.Local == "href" {
					t.Errorf("<%s %s=%q>", start.Name.Local, a.Name.Local, a.Value)
				}
			}
		}
	}
}

func TestWriteSVG(t *testing.T) {
	dir := t.TempDir() + "/new/charts"
	files, err := read(t, "full.json")[0].WriteSVG(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"carried-veth.svg", "latency-veth.svg", "cpu-veth.svg", "carried-loss1.svg", "latency-loss1.svg", "cpu-loss1.svg", "ratio-vxlan.svg"} {
		b, err := os.ReadFile(dir + "/" + name)
		if err != nil {
			t.Error(err)
		}
		checkSVG(t, b)
	}
	if len(files) != 7 {
		t.Errorf("written: %v", files)
	}
	if _, err := read(t, "full.json")[0].WriteSVG("/dev/null/charts"); err == nil {
		t.Error("a directory that cannot be made is no error")
	}
}

func TestFileNames(t *testing.T) {
	d := &Document{}
	for _, profile := range []string{"../../etc/x", "..-..-etc-x", "______etc_x", strings.Repeat("ä", 200)} {
		d.Results = append(d.Results, Result{Path: "p", Profile: profile, Workload: "tcp1", Metric: "throughput", Unit: "Gbit/s", Median: 1})
	}
	seen := make(map[string]bool)
	for _, s := range d.sheets() {
		if strings.ContainsAny(strings.TrimSuffix(s.name, ".svg"), "./") || len(s.name) > 120 || seen[s.name] {
			t.Errorf("file name %q", s.name)
		}
		seen[s.name] = true
	}
	if len(seen) != 4 {
		t.Errorf("%v", seen)
	}
}
