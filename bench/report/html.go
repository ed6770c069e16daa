package report

import (
	"bytes"
	_ "embed"
	"fmt"
	"html/template"
	"maps"
	"path/filepath"
	"slices"

	"github.com/weftnet/weft/bench/report/chart"
)

// Run is a document among others.
type Run struct {
	Letter string // A, B, …, by which it is called where there are several
	File   string // name of the file it is from
	*Document
}

// NewRuns names documents that are shown together. There are as many files;
// the folders they are in concern nobody who is shown the report.
func NewRuns(files []string, documents []*Document) (runs []Run) {
	for i, d := range documents {
		runs = append(runs, Run{Letter: letters(i), File: printableText(filepath.Base(files[i])), Document: d})
	}
	return runs
}

// letters counts A to Z, AA to AZ and so on.
func letters(n int) string {
	s := string(rune('A' + n%26))
	if n >= 26 {
		return letters(n/26-1) + s
	}
	return s
}

var (
	//go:embed page.html.tmpl
	pageText string
	//go:embed page.css
	pageCSS string

	pageTemplate = template.Must(template.New("page").Funcs(template.FuncMap{
		"svg":    func(c *chart.Chart) template.HTML { return template.HTML(c.SVG()) },
		"title":  profileTitle,
		"number": Number,
	}).Parse(pageText))
)

// page is what the template shows.
type page struct {
	CSS        template.CSS
	SideBySide []section
	Runs       []pageRun
}

type pageRun struct {
	Run
	ID       string // for links into the page; empty with one run only
	Machine  string
	Time     string
	Doubts   []string
	Sections []section
	Tables   []pageTables
	Checks   []CrossCheck
	Facts    [][2]string
	Devices  []grid
	Command  string
}

// Doubtful are the runs with warnings.
func (p page) Doubtful() (runs []pageRun) {
	for _, r := range p.Runs {
		if len(r.Doubts) > 0 {
			runs = append(runs, r)
		}
	}
	return runs
}

// section is charts of one kind, in parts: one for each profile, or one.
type section struct {
	ID, Title string
	Caption   string
	Parts     []sectionPart
}

type sectionPart struct {
	Profile string
	Charts  []*chart.Chart
}

type pageTables struct {
	Profile string
	Grids   []grid
}

// HTML is a page of its own about one or several runs, with charts and tables.
// It loads nothing.
func HTML(runs []Run) ([]byte, error) {
	colours := newPalette(runs...)
	p := page{CSS: template.CSS(chart.Variables() + pageCSS + chart.CSS())}
	if len(runs) > 1 {
		p.SideBySide = sideBySide(runs, colours)
	}
	for _, run := range runs {
		id := ""
		if len(runs) > 1 {
			id = run.Letter + "-"
		}
		p.Runs = append(p.Runs, run.page(id, colours))
	}
	var b bytes.Buffer
	if err := pageTemplate.Execute(&b, p); err != nil {
		return nil, fmt.Errorf("make page: %w", err)
	}
	return b.Bytes(), nil
}

func (r Run) page(id string, colours palette) pageRun {
	e := &r.Environment
	p := pageRun{
		Run: r, ID: id, Machine: e.machine(), Time: e.Started.UTC().Format(timeLayout), Doubts: r.doubts(),
		Sections: r.sections(colours), Checks: r.CrossChecks, Facts: e.facts(), Devices: []grid{e.mtuGrid(), e.offloadGrid()}, Command: r.command(),
	}
	for i := range p.Sections {
		p.Sections[i].ID = id + p.Sections[i].ID
	}
	for _, profile := range r.profiles() {
		p.Tables = append(p.Tables, pageTables{profile, r.grids(profile, true)})
	}
	return p
}

// sections are the charts of one run.
func (d *Document) sections(colours palette) []section {
	rates := section{ID: "carried", Title: "What each path carries", Caption: "Bars are medians; the lines through their ends reach from the least to the greatest sample. An arrow goes on beyond the chart."}
	latencies := section{ID: "latency", Title: "How long it takes", Caption: "Percentiles of one sample, each the median over the samples."}
	costs := section{ID: "cpu", Title: "What CPU time it takes", Caption: "Of the whole machine, generators included, for each gigabyte (10⁹ bytes) of payload that arrived, each request or each connection. The parts are medians of their own; the line reaches from the least to the greatest sample of their sum, an arrow beyond the chart."}
	for _, profile := range d.profiles() {
		l := d.pathLineup(profile, colours)
		rates.add(profile, l.rates(d.rows(profile, isRate)))
		latencies.add(profile, l.latencies(d.rows(profile, isLatency)))
		costs.add(profile, l.cpu(d.rows(profile, isCPU)))
	}
	sections := []section{rates}
	for i, to := range d.opponents() {
		s := section{
			ID: fmt.Sprintf("ratio-%d", i+1), Title: "Beside " + to,
			Caption: fmt.Sprintf("Median of a path divided by that of %s, of samples taken in turns; the line is the %.0f %% interval. Where it crosses 1, these samples do not tell which is better.", to, 100*d.confidence()),
		}
		s.add("", d.ratioCharts(to, colours))
		sections = append(sections, s)
	}
	return slices.DeleteFunc(append(sections, latencies, costs), section.empty)
}

// sideBySide are the charts of what several runs have in common.
func sideBySide(runs []Run, colours palette) []section {
	rates := section{ID: "side-carried", Title: "Side by side: what each path carries", Caption: "Bars are medians; the lines through their ends reach from the least to the greatest sample. Runs on different machines tell more by their ratios."}
	latencies := section{ID: "side-latency", Title: "Side by side: how long it takes"}
	ratios := section{ID: "side-ratio", Title: "Side by side: ratios", Caption: "Each within its run; the line is the interval."}
	var profiles []string
	for _, run := range runs {
		for _, profile := range run.profiles() {
			profiles = once(profiles, profile)
		}
	}
	for _, profile := range profiles {
		l := runLineup(runs, profile, colours)
		all := func(want func(row) bool) (rows []row) {
			for _, run := range runs {
				for _, r := range run.rows(profile, want) {
					rows = once(rows, r)
				}
			}
			return rows
		}
		rates.add(profile, l.rates(all(isRate)))
		latencies.add(profile, l.latencies(all(isLatency)))
	}
	ratios.add("", runRatioCharts(runs, colours))
	return slices.DeleteFunc([]section{ratios, rates, latencies}, section.empty)
}

func (s *section) add(profile string, charts []*chart.Chart) {
	if len(charts) > 0 {
		s.Parts = append(s.Parts, sectionPart{profile, charts})
	}
}

func (s section) empty() bool { return len(s.Parts) == 0 }

// sorted lists the keys of a map, for a page that is the same each time.
func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
