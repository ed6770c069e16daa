package report

import (
	"cmp"
	"regexp"
	"strings"
)

// Direction is which way a figure is good.
type Direction int

const (
	Neither      Direction = iota // it explains other figures, and is not judged
	MoreIsBetter                  // what is carried
	LessIsBetter                  // what it costs: time, CPU, memory
)

// Direction follows from metric and unit alone, so that metrics which a later
// weft-bench measures are judged too: a unit "per second" is better the more
// there is of it, any other the less. What is offered is neither, nor are
// parts.
func (r *Result) Direction() Direction { return directionOf(r.Metric, r.Unit) }

func directionOf(metric, unit string) Direction {
	switch {
	case metric == offered || metric == byKernel || isPart(metric):
		return Neither
	case strings.HasSuffix(unit, "/s"):
		return MoreIsBetter
	}
	return LessIsBetter
}

// Metrics that are shown together with others.
const (
	offered  = "offered"   // behind a slash after what was delivered
	cpu      = "cpu"       // the sum of its parts
	byKernel = "by_kernel" // part of the tunnel's packets
)

// divided are metrics that have parts: "cpu" has "cpu_user" and so on.
var divided = []string{cpu, "throughput", "syscalls", "context_switches"}

func isPart(metric string) bool {
	for _, whole := range divided {
		if strings.HasPrefix(metric, whole+"_") {
			return true
		}
	}
	return false
}

// cpuParts are those parts of cpu that add up to it, from the axis of a chart.
var cpuParts = []string{"user", "system", "softirq"}

var percentile = regexp.MustCompile(`^(.+)_p([0-9]{2})([0-9]*)$`)

// percentileOf takes "half_rtt_p999" for the percentile 99.9 of "half_rtt".
func percentileOf(metric string) (of, title string, ok bool) {
	m := percentile.FindStringSubmatch(metric)
	if m == nil {
		return "", "", false
	}
	title = "p" + m[2]
	if m[3] != "" {
		title += "." + m[3]
	}
	return m[1], title, true
}

// Words of names, as people read them. A name that is not here is shown with
// its dashes and underscores as spaces.
var (
	words = map[string]string{
		"tcpboth": "TCP both ways", "rtt": roundTrip, "rttload": roundTrip + " beside TCP", "connect": "connections",
		"half_rtt": "RTT/2", byKernel: "packets by the kernel", "bulk": "TCP beside requests", "cpu": "CPU time", "syscalls": "system calls",
	}
	units = map[string]string{"us": "µs", "1/s": "per second", "us/request": "µs/request", "us/connection": "µs/connection"}

	numbered = regexp.MustCompile(`^(tcp|udp)([0-9]+)$`)
)

const roundTrip = "round trip"

// workloadTitle takes "tcp1" for "TCP 1 flow", "udp64" for "UDP 64 B".
func workloadTitle(name string) string {
	m := numbered.FindStringSubmatch(name)
	switch {
	case m == nil:
		return cmp.Or(words[name], spaced(name))
	case m[1] == "udp":
		return "UDP " + m[2] + " B"
	case m[2] == "1":
		return "TCP 1 flow"
	}
	return "TCP " + m[2] + " flows"
}

func metricTitle(name string) string {
	if title, known := words[name]; known {
		return title
	}
	if of, title, ok := percentileOf(name); ok {
		return metricTitle(of) + " " + title
	}
	for _, whole := range divided {
		if part, ok := strings.CutPrefix(name, whole+"_"); ok {
			return metricTitle(whole) + ", " + spaced(part)
		}
	}
	return spaced(name)
}

func unitTitle(unit string) string { return cmp.Or(units[unit], unit) }

func spaced(name string) string { return strings.NewReplacer("-", " ", "_", " ").Replace(name) }

// profileTitle says what kind of underlay a profile is.
func profileTitle(name string) string {
	switch name {
	case "veth":
		return "the underlay as the kernel makes it, which takes superpackets whole"
	case "notso":
		return "a NIC without tunnel-segmentation offload"
	case "noseg":
		return "a NIC without any segmentation offload"
	case "mtu9000":
		return "a NIC without tunnel-segmentation offload, MTU 9000"
	case "1gbit":
		return "a NIC without tunnel-segmentation offload, limited to 1 Gbit/s"
	case "loss1":
		return "a NIC without any segmentation offload, and 1 % of packets lost in each direction"
	}
	return ""
}
