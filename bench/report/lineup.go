package report

import (
	"fmt"
	"slices"
	"strings"

	"github.com/weftnet/weft/bench/report/chart"
)

// lineup is whose figures a chart shows beside each other, on one profile: the
// paths of a run, or for each path the runs.
type lineup struct {
	profile string
	colours palette
	groups  []lineupGroup
}

type lineupGroup struct {
	title   string
	sources []source
}

// source is where a row's figures are from.
type source struct {
	*Document
	path, label string
}

// find returns the source's figure, nil where there is none in that unit.
func (s source) find(profile string, r row) *Result {
	result := s.Find(s.path, profile, r.workload, r.metric)
	if result == nil || result.Unit != r.unit {
		return nil
	}
	return result
}

// pathLineup compares the paths of one run.
func (d *Document) pathLineup(profile string, colours palette) lineup {
	var g lineupGroup
	for _, path := range d.paths(profile) {
		g.sources = append(g.sources, source{d, path, path})
	}
	return lineup{profile, colours, []lineupGroup{g}}
}

// runLineup compares runs, path by path, where a path is in several.
func runLineup(runs []Run, profile string, colours palette) lineup {
	l := lineup{profile: profile, colours: colours}
	var paths []string
	for _, run := range runs {
		for _, path := range run.paths(profile) {
			paths = once(paths, path)
		}
	}
	for _, path := range paths {
		g := lineupGroup{title: path}
		for _, run := range runs {
			if slices.Contains(run.paths(profile), path) {
				g.sources = append(g.sources, source{run.Document, path, run.Letter})
			}
		}
		if len(g.sources) > 1 {
			l.groups = append(l.groups, g)
		}
	}
	return l
}

// fill gives the chart the rows that there are, and says in words what it
// shows. Without rows there is no chart.
func (l lineup) fill(charts []*chart.Chart, c *chart.Chart, make func(source) (chart.Row, bool)) []*chart.Chart {
	for _, lg := range l.groups {
		g := chart.Group{Title: lg.title}
		for _, s := range lg.sources {
			if r, ok := make(s); ok {
				r.Label, r.Colour = s.label, l.colours[s.path]
				g.Rows = append(g.Rows, r)
			}
		}
		if len(g.Rows) > 0 {
			c.Groups = append(c.Groups, g)
		}
	}
	if len(c.Groups) == 0 {
		return charts
	}
	describe(c, ", underlay "+l.profile)
	return append(charts, c)
}

// describe says in words what a chart shows, for those who do not see it.
func describe(c *chart.Chart, where string) {
	var rows []string
	for _, g := range c.Groups {
		for _, r := range g.Rows {
			rows = append(rows, strings.TrimSpace(g.Title+" "+r.Label)+" "+r.Value)
		}
	}
	c.Desc = fmt.Sprintf("%s%s: %s.", c.Subtitle, where, strings.Join(rows, "; "))
}
