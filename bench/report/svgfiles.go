package report

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/weftnet/weft/bench/report/chart"
)

// sheetColumns side by side are as wide as a README is shown.
const sheetColumns = 2

// WriteSVG writes the charts as files for a README into a directory, which it
// makes if need be: for each profile carried-PROFILE.svg, latency-PROFILE.svg
// and cpu-PROFILE.svg, and ratio-PATH.svg for the path that others are compared
// with. It returns the names of the files.
func (d *Document) WriteSVG(dir string) (files []string, err error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("write charts: %w", err)
	}
	for _, s := range d.sheets() {
		file := filepath.Join(dir, s.name)
		if err := os.WriteFile(file, s.svg, 0o644); err != nil {
			return files, fmt.Errorf("write charts: %w", err)
		}
		files = append(files, file)
	}
	return files, nil
}

// sheet is a file of charts.
type sheet struct {
	name string
	svg  []byte
}

func (d *Document) sheets() (list []sheet) {
	colours := newPalette(Run{Document: d})
	taken := make(map[string]bool)
	add := func(name, title string, charts []*chart.Chart) {
		if len(charts) == 0 {
			return
		}
		file := fileName(name)
		for n := 2; taken[file]; n++ {
			file = fmt.Sprintf("%s-%d", fileName(name), n)
		}
		taken[file] = true
		list = append(list, sheet{file + ".svg", chart.Sheet(title, charts, sheetColumns)})
	}
	for _, profile := range d.profiles() {
		l := d.pathLineup(profile, colours)
		add("carried-"+profile, "What each path carries, underlay "+profile, l.rates(d.rows(profile, isRate)))
		add("latency-"+profile, "How long it takes, underlay "+profile, l.latencies(d.rows(profile, isLatency)))
		add("cpu-"+profile, "What CPU time it takes, underlay "+profile, l.cpu(d.rows(profile, isCPU)))
	}
	for _, to := range d.opponents() {
		add("ratio-"+to, "Paths beside "+to, d.ratioCharts(to, colours))
	}
	return list
}

// fileName keeps of a name what is harmless in a file's.
func fileName(name string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '-':
			return r
		}
		return '_'
	}, name[:min(len(name), 100)])
}
