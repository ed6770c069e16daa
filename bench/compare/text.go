package compare

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"github.com/weftnet/weft/bench/report"
)

// JSON is the comparison for scripts.
func (c *Comparison) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(c, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write comparison: %w", err)
	}
	return append(b, '\n'), nil
}

// Text is the comparison for people: what counts first.
func (c *Comparison) Text() string {
	var b strings.Builder
	for _, s := range []struct {
		name string
		side Side
	}{{"old", c.Old}, {"new", c.New}} {
		fmt.Fprintf(&b, "%s: %s, %s, weftd %s\n", s.name, s.side.File, s.side.Started, cmp.Or(s.side.Weftd, "not used"))
	}
	for _, w := range c.Warnings {
		fmt.Fprintf(&b, "warning: %s\n", w)
	}
	fmt.Fprintf(&b, "\n%d worse, %d better, %d the same, %d undecided\n", len(c.Of(Worse)), len(c.Of(Better)), len(c.Of(Same)), len(c.Of(Undecided)))
	c.writeChanges(&b, "Worse", c.Of(Worse))
	c.writeChanges(&b, "Better", c.Of(Better))
	c.writeUndecided(&b)
	writeFigures(&b, "Only in the old run", c.OnlyOld)
	writeFigures(&b, "Only in the new run", c.OnlyNew)
	fmt.Fprintf(&b, "\nA change counts if the median moved by more than %g %% and the %g %% interval of the ratio leaves 1 out.\n", 100*c.Threshold, 100*c.Confidence)
	judged := len(c.Changes) - len(c.Of(Undecided))
	if chance := (1 - c.Confidence) * float64(judged); chance >= 0.5 {
		fmt.Fprintf(&b, "Of %d intervals about %.0f would leave 1 out by chance.\n", judged, chance)
	}
	return b.String()
}

// writeChanges lists the greatest changes first.
func (c *Comparison) writeChanges(b *strings.Builder, title string, changes []Change) {
	if len(changes) == 0 {
		return
	}
	slices.SortStableFunc(changes, func(x, y Change) int { return cmp.Compare(y.size(), x.size()) })
	t := table.NewWriter()
	t.SetStyle(table.StyleLight)
	t.Style().Format.Header = text.FormatDefault
	t.AppendHeader(table.Row{"path", "profile", "workload", "metric", "old", "new", "unit", "change", fmt.Sprintf("%g %% interval", 100*c.Confidence)})
	var configs []table.ColumnConfig
	for _, column := range []int{5, 6, 8, 9} {
		configs = append(configs, table.ColumnConfig{Number: column, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(configs)
	for _, change := range changes {
		interval := cmp.Or(change.Reason, percent(change.Low)+" to "+percent(change.High))
		t.AppendRow(table.Row{
			change.Path, change.Profile, change.Workload, change.Metric, report.Number(change.Old), report.Number(change.New), change.Unit,
			percent(change.Ratio), interval,
		})
	}
	fmt.Fprintf(b, "\n%s\n%s\n", title, t.Render())
}

// size of a change, up or down: half counts as much as twice.
func (c Change) size() float64 { return max(c.Ratio, 1/max(c.Ratio, 1e-9)) }

// percent takes a ratio of 1.05 for "+5.0 %".
func percent(ratio float64) string {
	return strings.Replace(fmt.Sprintf("%+.1f %%", 100*(ratio-1)), "-", "−", 1)
}

// writeUndecided lists figures by the reason that they have in common.
func (c *Comparison) writeUndecided(b *strings.Builder) {
	var reasons []string
	figures := make(map[string][]Figure)
	for _, change := range c.Of(Undecided) {
		if figures[change.Reason] == nil {
			reasons = append(reasons, change.Reason)
		}
		figures[change.Reason] = append(figures[change.Reason], change.Figure)
	}
	for _, reason := range reasons {
		writeFigures(b, "Undecided: "+reason, figures[reason])
	}
}

// writeFigures has a line for each workload of a path.
func writeFigures(b *strings.Builder, title string, figures []Figure) {
	if len(figures) == 0 {
		return
	}
	fmt.Fprintf(b, "\n%s\n", title)
	var places []string
	metrics := make(map[string][]string)
	for _, f := range figures {
		place := fmt.Sprintf("%s %s %s", f.Path, f.Profile, f.Workload)
		if metrics[place] == nil {
			places = append(places, place)
		}
		metrics[place] = append(metrics[place], f.Metric)
	}
	for _, place := range places {
		fmt.Fprintf(b, "  %s: %s\n", place, strings.Join(metrics[place], ", "))
	}
}
