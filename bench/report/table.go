package report

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/weftnet/weft/bench/stats"
)

// row is one workload's in the tables.
type row struct {
	workload, metric string
	over             string // metric shown behind a slash: what was offered
	title            string
}

// rows of the tables, in order; those without results are left out.
var rows = []row{
	{workload: "tcp1", metric: "throughput", title: "TCP 1 flow, Gbit/s"},
	{workload: "tcp4", metric: "throughput", title: "TCP 4 flows, Gbit/s"},
	{workload: "udp1400", metric: "delivered", over: "offered", title: "UDP 1400 B, Gbit/s"},
	{workload: "udp64", metric: "delivered", over: "offered", title: "UDP 64 B, kpacket/s"},
	{workload: "rtt", metric: "half_rtt_p50", title: "RTT/2 p50, µs"},
	{workload: "rtt", metric: "half_rtt_p99", title: "RTT/2 p99, µs"},
}

// cpuRows of the table of CPU time.
var cpuRows = []row{
	{workload: "tcp1", metric: "cpu", title: "TCP 1 flow, s/GB"},
	{workload: "tcp4", metric: "cpu", title: "TCP 4 flows, s/GB"},
	{workload: "udp1400", metric: "cpu", title: "UDP 1400 B, s/GB"},
	{workload: "udp64", metric: "cpu", title: "UDP 64 B, s/GB"},
}

// Tables shows the document to people: for each profile what the paths
// carried, their ratios, and the CPU time that took.
func (d *Document) Tables() string { return d.tables(table.Writer.Render, "") }

// Markdown is Tables for a README.
func (d *Document) Markdown() string { return d.tables(table.Writer.RenderMarkdown, "- ") }

// tables renders tables one way, and puts bullet before each note.
func (d *Document) tables(render func(table.Writer) string, bullet string) string {
	var b strings.Builder
	for _, profile := range d.profiles() {
		for _, part := range []struct {
			caption string
			table   table.Writer
		}{
			{"median [least–greatest], UDP delivered/offered", d.figures(profile, rows)},
			{fmt.Sprintf("ratio of medians [%.0f %% interval]", 100*stats.Confidence), d.ratios(profile)},
			{"CPU time of the whole machine per gigabyte delivered", d.figures(profile, cpuRows)},
		} {
			if part.table.Length() > 0 {
				fmt.Fprintf(&b, "Underlay %s: %s\n\n%s\n\n", profile, part.caption, render(part.table))
			}
		}
	}
	for _, note := range d.notes() {
		b.WriteString(bullet + note + "\n")
	}
	return b.String()
}

// figures has a column for each path.
func (d *Document) figures(profile string, rows []row) table.Writer {
	paths := d.paths(profile)
	t := newTable(paths)
	for _, r := range rows {
		addRow(t, r.title, paths, func(path string) string {
			result := d.Find(path, profile, r.workload, r.metric)
			if result == nil {
				return ""
			}
			cell := number(result.Median)
			if over := d.Find(path, profile, r.workload, r.over); over != nil {
				cell += "/" + number(over.Median)
			}
			return fmt.Sprintf("%s [%s–%s]", cell, number(result.Low), number(result.High))
		})
	}
	return t
}

// ratios has a column for each pair of paths.
func (d *Document) ratios(profile string) table.Writer {
	pairs := d.pairs(profile)
	var titles []string
	for _, p := range pairs {
		titles = append(titles, p[0]+" : "+p[1])
	}
	t := newTable(titles)
	for _, r := range rows {
		title, _, _ := strings.Cut(r.title, ",")
		addRow(t, title, pairs, func(p [2]string) string {
			ratio := d.FindRatio(p[0], p[1], profile, r.workload, r.metric)
			if ratio == nil {
				return ""
			}
			return fmt.Sprintf("%s [%s–%s]", number(ratio.Ratio), number(ratio.Low), number(ratio.High))
		})
	}
	return t
}

func newTable(titles []string) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	header := table.Row{""}
	var configs []table.ColumnConfig
	for i, title := range titles {
		header = append(header, title)
		configs = append(configs, table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	return t
}

// addRow adds a row unless all its cells are empty.
func addRow[T any](t table.Writer, title string, columns []T, cell func(T) string) {
	r, any := table.Row{title}, false
	for _, c := range columns {
		text := cell(c)
		any = any || text != ""
		r = append(r, cmp.Or(text, "–"))
	}
	if any {
		t.AppendRow(r)
	}
}

// notes say where the figures come from, and what is doubtful about them.
func (d *Document) notes() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	e := &d.Environment
	virtual, weftd := "", ""
	if e.Hypervisor {
		virtual = " of a virtual machine"
	}
	if e.Weftd != "" {
		weftd = ", weftd " + e.Weftd
	}
	add("%s, Linux %s, %d CPUs%s (%s), %s, samples of %s s%s",
		e.Started.UTC().Format("2006-01-02 15:04 UTC"), e.Kernel, e.CPUs, virtual, e.CPUModel, e.Congestion, number(e.Duration), weftd)
	add("Hosts, containers and generators share these CPUs: ratios tell more than figures.")
	for _, c := range d.CrossChecks {
		add("iperf3 on %s, %s, %s: %s %s, this generator %s", c.Path, c.Profile, c.Workload, number(c.IPerf3), c.Unit, number(c.Generator))
	}
	if e.Interrupted {
		add("The run did not come to its end: there are fewer samples than planned.")
	}
	for _, w := range d.Warnings {
		add("warning: %s", w)
	}
	return lines
}

func (d *Document) profiles() (names []string) {
	for _, r := range d.Results {
		if !slices.Contains(names, r.Profile) {
			names = append(names, r.Profile)
		}
	}
	return names
}

func (d *Document) paths(profile string) (names []string) {
	for _, r := range d.Results {
		if r.Profile == profile && !slices.Contains(names, r.Path) {
			names = append(names, r.Path)
		}
	}
	return names
}

func (d *Document) pairs(profile string) (pairs [][2]string) {
	for _, r := range d.Ratios {
		if pair := [2]string{r.Of, r.To}; r.Profile == profile && !slices.Contains(pairs, pair) {
			pairs = append(pairs, pair)
		}
	}
	return pairs
}

// number has three digits that count, and no exponent.
func number(v float64) string {
	switch abs := max(v, -v); {
	case abs >= 100 || abs == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	return strconv.FormatFloat(v, 'f', 4, 64)
}
