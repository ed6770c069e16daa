package report

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/bench/stats"
)

// grid is a table before it is text, Markdown or HTML.
type grid struct {
	Caption string
	Columns []string
	Rows    []gridRow
}

type gridRow struct {
	Title string
	Cells []cell
}

// cell is a figure and how sure it is. Either may be empty.
type cell struct{ Value, Range string }

func (c cell) String() string {
	if c.Range == "" {
		return c.Value
	}
	return c.Value + " [" + c.Range + "]"
}

// add adds a row unless all its cells are empty.
func (g *grid) add(title string, cells []cell) {
	if slices.ContainsFunc(cells, func(c cell) bool { return c.Value != "" }) {
		for i := range cells {
			cells[i].Value = cmp.Or(cells[i].Value, "–")
		}
		g.Rows = append(g.Rows, gridRow{title, cells})
	}
}

// row is a figure of all paths.
type row struct{ workload, metric, unit string }

// rows are those figures of a profile that are wanted, as they first come.
func (d *Document) rows(profile string, want func(row) bool) (list []row) {
	for _, r := range d.Results {
		if next := (row{r.Workload, r.Metric, r.Unit}); r.Profile == profile && want(next) {
			list = once(list, next)
		}
	}
	return list
}

// The kinds of figures: each has a table.
func isRate(r row) bool    { return directionOf(r.metric, r.unit) == MoreIsBetter }
func isLatency(r row) bool { _, _, ok := percentileOf(r.metric); return ok && !isRate(r) }
func isMain(r row) bool    { return isRate(r) || isLatency(r) }
func isOffered(r row) bool { return r.metric == offered }
func isCPU(r row) bool     { return r.metric == cpu }
func isAnyCPU(r row) bool  { return isCPU(r) || strings.HasPrefix(r.metric, cpu+"_") }
func isOther(r row) bool {
	return !isMain(r) && !isAnyCPU(r) && !isOffered(r) && !isRatePart(r)
}

// isRatePart is for instance one direction of two.
func isRatePart(r row) bool { return isPart(r.metric) && strings.HasSuffix(r.unit, "/s") }

// title names a row, without its unit.
func (r row) title() string {
	workload, metric := workloadTitle(r.workload), metricTitle(r.metric)
	isUDP := strings.HasPrefix(r.workload, "udp")
	rest, isRoundTrip := strings.CutPrefix(workload, roundTrip)
	switch {
	case isUDP && r.metric == "throughput": // the highest with next to no loss
		return workload + " without loss"
	case isUDP && r.metric == "delivered": // of more than can get through
		return workload + ", overload"
	case r.metric == "throughput" || r.metric == "delivered" || r.metric == cpu || metric == workload:
		return workload
	case r.metric == "bulk":
		return metric
	case isPart(r.metric) && isAnyCPU(r):
		return workload + ", " + spaced(strings.TrimPrefix(r.metric, cpu+"_"))
	case isRoundTrip: // which both would say
		return metric + rest
	}
	return workload + ": " + metric
}

// grids are the tables of one profile. In detail they hold every figure.
func (d *Document) grids(profile string, detail bool) (list []grid) {
	carried, spent := isMain, isCPU
	if detail {
		carried = func(r row) bool { return isMain(r) || isRatePart(r) }
		spent = isAnyCPU
	}
	caption := "median [least–greatest sample]"
	if len(d.rows(profile, isOffered)) > 0 {
		caption += ", UDP delivered/offered"
	}
	for _, g := range []grid{
		d.figures(profile, caption, carried),
		d.ratioGrid(profile, func(r row) bool { return isMain(r) || detail && isCPU(r) }),
		d.figures(profile, "CPU time of the whole machine", spent),
		d.figures(profile, "what else it took", isOther),
	} {
		if len(g.Rows) > 0 {
			list = append(list, g)
		}
	}
	return list
}

// figures has a column for each path.
func (d *Document) figures(profile, caption string, want func(row) bool) grid {
	g := grid{Caption: caption, Columns: d.paths(profile)}
	for _, r := range d.rows(profile, want) {
		cells := make([]cell, len(g.Columns))
		for i, path := range g.Columns {
			result := d.Find(path, profile, r.workload, r.metric)
			if result == nil {
				continue
			}
			cells[i] = cell{Number(result.Median), Number(result.Low) + "–" + Number(result.High)}
			if over := d.Find(path, profile, r.workload, offered); over != nil && r.metric == "delivered" {
				cells[i].Value += "/" + Number(over.Median)
			}
		}
		g.add(r.title()+", "+unitTitle(r.unit), cells)
	}
	return g
}

// ratioGrid has a column for each pair of paths.
func (d *Document) ratioGrid(profile string, want func(row) bool) grid {
	pairs := d.pairs(profile)
	g := grid{Caption: fmt.Sprintf("ratio of medians [%.0f %% interval]", 100*d.confidence())}
	for _, p := range pairs {
		g.Columns = append(g.Columns, p[0]+" : "+p[1])
	}
	for _, r := range d.rows(profile, want) {
		cells := make([]cell, len(pairs))
		for i, p := range pairs {
			if ratio := d.FindRatio(p[0], p[1], profile, r.workload, r.metric); ratio != nil {
				cells[i] = cell{Number(ratio.Ratio), Number(ratio.Low) + "–" + Number(ratio.High)}
			}
		}
		title := r.title()
		if r.metric == cpu {
			title += ", CPU"
		}
		g.add(title, cells)
	}
	return g
}

// confidence of the document's intervals, which are all alike.
func (d *Document) confidence() float64 {
	for _, r := range d.Ratios {
		return r.Confidence
	}
	return stats.Confidence
}

// profiles, paths and pairs are listed as they first come.
func (d *Document) profiles() (names []string) {
	for _, r := range d.Results {
		names = once(names, r.Profile)
	}
	return names
}

func (d *Document) paths(profile string) (names []string) {
	for _, r := range d.Results {
		if r.Profile == profile {
			names = once(names, r.Path)
		}
	}
	return names
}

func (d *Document) pairs(profile string) (pairs [][2]string) {
	for _, r := range d.Ratios {
		if r.Profile == profile {
			pairs = once(pairs, [2]string{r.Of, r.To})
		}
	}
	return pairs
}

// once adds a value that is not there yet.
func once[T comparable](list []T, value T) []T {
	if slices.Contains(list, value) {
		return list
	}
	return append(list, value)
}
