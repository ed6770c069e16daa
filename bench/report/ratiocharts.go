package report

import (
	"fmt"

	"github.com/weftnet/weft/bench/report/chart"
)

// opponents are the paths that others are compared with.
func (d *Document) opponents() (paths []string) {
	for _, r := range d.Ratios {
		paths = once(paths, r.To)
	}
	return paths
}

// ratioCharts compare all others with one path over the profiles, a chart for
// each figure. Of one other path there are rows by profile, of several groups.
func (d *Document) ratioCharts(to string, colours palette) (charts []*chart.Chart) {
	var others []string
	for _, r := range d.Ratios {
		if r.To == to {
			others = once(others, r.Of)
		}
	}
	for _, r := range d.ratioRows() {
		c := ratioChart(r)
		for _, profile := range d.profiles() {
			g := chart.Group{Title: profile}
			for _, of := range others {
				if ratio := d.FindRatio(of, to, profile, r.workload, r.metric); ratio != nil {
					g.Rows = append(g.Rows, ratio.row(of, colours[of]))
				}
			}
			if len(g.Rows) > 0 {
				c.Groups = append(c.Groups, g)
			}
		}
		if len(c.Groups) == 0 {
			continue
		}
		if len(others) == 1 {
			c.Subtitle = others[0] + " : " + to + ", logarithmic; 1 is equal"
			c.Groups = flattened(c.Groups)
		}
		describe(c, " to "+to)
		charts = append(charts, c)
	}
	return charts
}

// flattened has one row for each group of one row, by the group's title.
func flattened(groups []chart.Group) []chart.Group {
	var all chart.Group
	for _, g := range groups {
		r := g.Rows[0]
		r.Label = g.Title
		all.Rows = append(all.Rows, r)
	}
	return []chart.Group{all}
}

// ratioRows are the figures that are compared in charts.
func (d *Document) ratioRows() (rows []row) {
	for _, profile := range d.profiles() {
		for _, r := range d.rows(profile, isMain) {
			rows = once(rows, r)
		}
	}
	return rows
}

// ratioChart is one without rows yet.
func ratioChart(r row) *chart.Chart {
	c := &chart.Chart{Title: r.title(), Subtitle: "ratio, logarithmic; 1 is equal", Log: true, Reference: 1, Less: "worse", More: "better"}
	if directionOf(r.metric, r.unit) == LessIsBetter {
		c.Less, c.More = c.More, c.Less
	}
	return c
}

func (r *Ratio) row(label string, colour int) chart.Row {
	return chart.Row{
		Label: label, Colour: colour, Marks: []float64{r.Ratio}, Low: r.Low, High: r.High, Value: Number(r.Ratio),
		Tip: fmt.Sprintf("%s, %s : %s is %s; the %.0f %% interval is %s to %s, from %d pairs of samples",
			r.Profile, r.Of, r.To, Number(r.Ratio), 100*r.Confidence, Number(r.Low), Number(r.High), r.Pairs),
	}
}

// runRatioCharts compare the ratios that several runs have of the same paths.
func runRatioCharts(runs []Run, colours palette) (charts []*chart.Chart) {
	var rows []row
	var pairs [][3]string // with their profile
	for _, run := range runs {
		for _, r := range run.ratioRows() {
			rows = once(rows, r)
		}
		for _, r := range run.Ratios {
			pairs = once(pairs, [3]string{r.Profile, r.Of, r.To})
		}
	}
	for _, r := range rows {
		c := ratioChart(r)
		for _, p := range pairs {
			g := chart.Group{Title: p[0] + ", " + p[1] + " : " + p[2]}
			for _, run := range runs {
				if ratio := run.FindRatio(p[1], p[2], p[0], r.workload, r.metric); ratio != nil {
					g.Rows = append(g.Rows, ratio.row(run.Letter, colours[p[1]]))
				}
			}
			if len(g.Rows) > 1 {
				c.Groups = append(c.Groups, g)
			}
		}
		if len(c.Groups) > 0 {
			describe(c, "")
			charts = append(charts, c)
		}
	}
	return charts
}
