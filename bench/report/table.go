package report

import (
	"fmt"
	"html"
	"math"
	"strconv"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
)

// Tables shows runs one after the other, see Document.Tables.
func Tables(runs []Run) string {
	return joined(runs, "Run %s: %s\n\n", func(s string) string { return s }, (*Document).Tables)
}

// Markdown shows runs one after the other, see Document.Markdown.
func Markdown(runs []Run) string {
	return joined(runs, "### Run %s: %s\n\n", markdown, (*Document).Markdown)
}

// joined puts a heading before each run if there are several.
func joined(runs []Run, heading string, escape func(string) string, show func(*Document) string) string {
	var parts []string
	for _, r := range runs {
		part := show(r.Document)
		if len(runs) > 1 {
			part = fmt.Sprintf(heading, r.Letter, escape(r.File)) + part
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "\n")
}

// Tables shows the document to people: for each profile what the paths
// carried, their ratios, and what that took.
func (d *Document) Tables() string {
	var b strings.Builder
	for _, profile := range d.profiles() {
		for _, g := range d.grids(profile, false) {
			fmt.Fprintf(&b, "Underlay %s: %s\n\n%s\n\n", profile, g.Caption, g.writer(func(s string) string { return s }).Render())
		}
	}
	if len(d.Results) == 0 {
		b.WriteString("The run has no results.\n\n")
	}
	for _, note := range d.notes() {
		b.WriteString(note + "\n")
	}
	for _, w := range d.doubts() {
		b.WriteString("warning: " + w + "\n")
	}
	return b.String()
}

// Markdown is Tables for a README on GitHub, with the warnings first.
func (d *Document) Markdown() string {
	var b strings.Builder
	if doubts := d.doubts(); len(doubts) > 0 {
		b.WriteString("> [!WARNING]\n")
		for _, w := range doubts {
			b.WriteString("> - " + markdown(w) + "\n")
		}
		b.WriteString("\n")
	}
	for _, profile := range d.profiles() {
		b.WriteString("**Underlay " + markdown(profile) + "**")
		if title := profileTitle(profile); title != "" {
			b.WriteString(": " + title)
		}
		b.WriteString("\n\n")
		for _, g := range d.grids(profile, false) {
			fmt.Fprintf(&b, "%s%s:\n\n%s\n\n", strings.ToUpper(g.Caption[:1]), g.Caption[1:], g.writer(markdown).RenderMarkdown())
		}
	}
	if len(d.Results) == 0 {
		b.WriteString("The run has no results.\n\n")
	}
	for _, note := range d.notes() {
		b.WriteString("- " + markdown(note) + "\n")
	}
	return b.String()
}

// markdown escapes what Markdown and the HTML in it would not show as it is.
// The writer of tables escapes the bars.
func markdown(s string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "_", `\_`, "`", "\\`", "[", `\[`, "]", `\]`).Replace(html.EscapeString(s))
}

// writer lays the grid out.
func (g *grid) writer(escape func(string) string) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	header := table.Row{""}
	var configs []table.ColumnConfig
	for i, title := range g.Columns {
		header = append(header, escape(title))
		configs = append(configs, table.ColumnConfig{Number: i + 2, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.AppendHeader(header)
	t.SetColumnConfigs(configs)
	for _, r := range g.Rows {
		cells := table.Row{escape(r.Title)}
		for _, c := range r.Cells {
			cells = append(cells, c.String())
		}
		t.AppendRow(cells)
	}
	return t
}

// notes say where the figures come from.
func (d *Document) notes() (lines []string) {
	add := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	e := &d.Environment
	weftd := ""
	if e.Weftd != "" {
		weftd = ", weftd " + e.Weftd
	}
	add("%s, %s, %s, samples of %s s%s", e.Started.UTC().Format(timeLayout), e.machine(), e.Congestion, Number(e.Duration), weftd)
	add("Hosts, containers and generators share these CPUs: ratios tell more than figures.")
	for _, c := range d.CrossChecks {
		add("iperf3 on %s, %s, %s: %s %s, this generator %s", c.Path, c.Profile, c.Workload, Number(c.IPerf3), c.Unit, Number(c.Generator))
	}
	return lines
}

const timeLayout = "2006-01-02 15:04 UTC"

// machine names the machine in a few words.
func (e *Environment) machine() string {
	virtual, model := "", ""
	if e.Hypervisor {
		virtual = " of a virtual machine"
	}
	if e.CPUModel != "" {
		model = " (" + e.CPUModel + ")"
	}
	return fmt.Sprintf("Linux %s, %d CPUs%s%s", e.Kernel, e.CPUs, virtual, model)
}

// doubts are the warnings, and that a run did not come to its end.
func (d *Document) doubts() (list []string) {
	if d.Environment.Interrupted {
		list = append(list, "the run did not come to its end: there are fewer samples than planned")
	}
	return append(list, d.Warnings...)
}

// Number has three digits that count, and no exponent unless it is huge or next
// to nothing.
func Number(v float64) string {
	switch abs := max(v, -v); {
	case abs >= 1e12, abs < 1e-6 && abs > 0:
		return strconv.FormatFloat(v, 'e', 2, 64)
	case abs >= 100 || abs == 0:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case abs >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	case abs >= 0.1:
		return strconv.FormatFloat(v, 'f', 2, 64)
	}
	leadingZeros := -1 - int(math.Floor(math.Log10(max(v, -v)))) // behind the point
	return strconv.FormatFloat(v, 'f', leadingZeros+3, 64)
}
