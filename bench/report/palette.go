package report

import "github.com/weftnet/weft/bench/report/chart"

// palette gives each path its colour, the same in all charts and runs.
type palette map[string]int

// preferred are the colours of known paths; others get those that are left.
var preferred = []string{"udp", "vxlan", "direct", "host-gw", "udp-classic", "flanneld-udp", "flanneld-vxlan", "udp-user"}

func newPalette(runs ...Run) palette {
	var paths []string
	for _, run := range runs {
		for _, r := range run.Results {
			paths = once(paths, r.Path)
		}
	}
	p, taken := palette{}, make(map[int]bool)
	for _, path := range paths {
		for colour, name := range preferred {
			if name == path {
				p[path], taken[colour] = colour, true
			}
		}
	}
	next := 0
	for _, path := range paths {
		if _, has := p[path]; has {
			continue
		}
		for taken[next] && len(taken) < chart.Colours {
			next++
		}
		p[path], taken[next] = next, true
		next = (next + 1) % chart.Colours
	}
	return p
}
