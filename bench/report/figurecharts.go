package report

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/weftnet/weft/bench/report/chart"
)

// rates have bars of what was carried, a chart for each workload.
func (l lineup) rates(rows []row) (charts []*chart.Chart) {
	for _, r := range rows {
		c := &chart.Chart{Title: r.title(), Subtitle: unitTitle(r.unit) + ", more is better"}
		charts = l.fill(charts, c, func(s source) (chart.Row, bool) {
			result := s.find(l.profile, r)
			if result == nil {
				return chart.Row{}, false
			}
			return chart.Row{
				Bars: []float64{result.Median}, Low: result.Low, High: result.High, Value: Number(result.Median),
				Tip: s.label + ": " + result.tip(),
			}, true
		})
	}
	return charts
}

func (r *Result) tip() string {
	return fmt.Sprintf("median %s %s, %d samples from %s to %s", Number(r.Median), unitTitle(r.Unit), len(r.Samples), Number(r.Low), Number(r.High))
}

// latencies have a mark for each percentile, a chart for each workload.
func (l lineup) latencies(rows []row) (charts []*chart.Chart) {
	var distributions []row // their metric is what the percentiles are of
	metrics := make(map[row][]string)
	for _, r := range rows {
		of, _, _ := percentileOf(r.metric)
		d := row{r.workload, of, r.unit}
		distributions = once(distributions, d)
		metrics[d] = append(metrics[d], r.metric)
	}
	for _, d := range distributions {
		slices.Sort(metrics[d]) // p50, p99, p999
		c := &chart.Chart{Title: d.title(), Subtitle: unitTitle(d.unit) + ", less is better; logarithmic", Log: true}
		for _, m := range metrics[d] {
			_, title, _ := percentileOf(m)
			c.Keys = append(c.Keys, chart.Key{Title: title, Mark: true})
		}
		charts = l.fill(charts, c, func(s source) (out chart.Row, ok bool) {
			var values, tips []string
			for i, m := range metrics[d] {
				value := math.NaN()
				if result := s.find(l.profile, row{d.workload, m, d.unit}); result != nil {
					value, ok = result.Median, true
					values = append(values, short(value))
					tips = append(tips, c.Keys[i].Title+" "+result.tip())
				}
				out.Marks = append(out.Marks, value)
			}
			out.Value = strings.Join(values, " · ")
			out.Tip = s.label + ": " + strings.Join(tips, "; ")
			return out, ok
		})
	}
	return charts
}

// cpu have bars of CPU time, divided where its parts are known.
func (l lineup) cpu(rows []row) (charts []*chart.Chart) {
	for _, r := range rows {
		c := &chart.Chart{Title: r.title(), Subtitle: unitTitle(r.unit) + ", less is better"}
		divided, whole := false, false // there are such rows
		charts = l.fill(charts, c, func(s source) (chart.Row, bool) {
			result := s.find(l.profile, r)
			if result == nil {
				return chart.Row{}, false
			}
			out := chart.Row{Low: result.Low, High: result.High, Value: Number(result.Median), Tip: s.label + ": " + result.tip()}
			known := false
			for _, name := range cpuParts {
				value := 0.0
				if part := s.find(l.profile, row{r.workload, cpu + "_" + name, r.unit}); part != nil {
					value, known = part.Median, true
					out.Tip += "; " + name + " " + Number(value)
				}
				out.Bars = append(out.Bars, value)
			}
			if known {
				divided = true
			} else {
				whole = true
				out.Bars = append(out.Bars, result.Median)
			}
			return out, true
		})
		if divided {
			for _, name := range cpuParts {
				c.Keys = append(c.Keys, chart.Key{Title: name})
			}
		}
		if divided && whole {
			c.Keys = append(c.Keys, chart.Key{Title: "not divided"})
		}
	}
	return charts
}

// short has two digits that count, where three values stand beside each other.
func short(v float64) string {
	if v >= 10 {
		digits := math.Pow(10, math.Floor(math.Log10(v))-1)
		return strconv.FormatFloat(math.Round(v/digits)*digits, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 2, 64)
}
