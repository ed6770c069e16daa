package report

import "testing"

func TestDirection(t *testing.T) {
	for _, c := range []struct {
		metric, unit string
		want         Direction
	}{
		{"throughput", "Gbit/s", MoreIsBetter},
		{"delivered", "kpacket/s", MoreIsBetter},
		{"connections", "1/s", MoreIsBetter},
		{"something_new", "furlong/s", MoreIsBetter},
		{"half_rtt_p999", "us", LessIsBetter},
		{"cpu", "s/GB", LessIsBetter},
		{"cpu", "us/request", LessIsBetter},
		{"syscalls", "1/MB", LessIsBetter},
		{"memory_daemons", "MiB", LessIsBetter},
		{"offered", "Gbit/s", Neither},
		{"by_kernel", "%", Neither},
		{"throughput_forth", "Gbit/s", Neither},
		{"cpu_softirq", "s/GB", Neither},
		{"syscalls_daemons", "1/MB", Neither},
	} {
		if got := (&Result{Metric: c.metric, Unit: c.unit}).Direction(); got != c.want {
			t.Errorf("%s in %s: %v, want %v", c.metric, c.unit, got, c.want)
		}
	}
}

func TestTitles(t *testing.T) {
	for r, want := range map[row]string{
		{"tcp1", "throughput", ""}:         "TCP 1 flow",
		{"tcp16", "throughput", ""}:        "TCP 16 flows",
		{"tcpboth", "throughput", ""}:      "TCP both ways",
		{"tcpboth", "throughput_back", ""}: "TCP both ways: throughput, back",
		{"udp1400", "throughput", ""}:      "UDP 1400 B without loss",
		{"udp64", "delivered", ""}:         "UDP 64 B, overload",
		{"udp64", "cpu", ""}:               "UDP 64 B",
		{"rtt", "half_rtt_p50", ""}:        "RTT/2 p50",
		{"rttload", "half_rtt_p999", ""}:   "RTT/2 p99.9 beside TCP",
		{"rttload", "bulk", ""}:            "TCP beside requests",
		{"connect", "connections", ""}:     "connections",
		{"tcp1", "cpu_user", ""}:           "TCP 1 flow, user",
		{"quic-3", "first_byte", ""}:       "quic 3: first byte",
		{"", "", ""}:                       "",
	} {
		if got := r.title(); got != want {
			t.Errorf("%v: %q, want %q", r, got, want)
		}
	}
}

func TestPercentileOf(t *testing.T) {
	for metric, want := range map[string][2]string{
		"half_rtt_p50": {"half_rtt", "p50"}, "x_p99": {"x", "p99"}, "rtt_p999": {"rtt", "p99.9"}, "rtt_p9999": {"rtt", "p99.99"},
		"half_rtt": {}, "_p50": {}, "p50": {}, "rtt_p5": {}, "rtt_p50_x": {},
	} {
		of, title, ok := percentileOf(metric)
		if of != want[0] || title != want[1] || ok != (want[0] != "") {
			t.Errorf("%s: %q, %q, %v", metric, of, title, ok)
		}
	}
}

func TestShort(t *testing.T) {
	for v, want := range map[float64]string{0: "0", 0.123: "0.12", 2.66: "2.7", 9.96: "10", 21.4: "21", 99.6: "100", 241.7: "240", 1660: "1700"} {
		if got := short(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}

func TestPalette(t *testing.T) {
	results := func(paths ...string) Run {
		d := new(Document)
		for _, path := range paths {
			d.Results = append(d.Results, Result{Path: path})
		}
		return Run{Document: d}
	}
	p := newPalette(results("wireguard", "vxlan", "udp"), results("udp", "nebula"))
	want := palette{"udp": 0, "vxlan": 1, "wireguard": 2, "nebula": 3}
	for path, colour := range want {
		if p[path] != colour {
			t.Errorf("%s has colour %d, want %d", path, p[path], colour)
		}
	}
	many := make([]string, 20)
	for i := range many {
		many[i] = string(rune('a' + i))
	}
	p = newPalette(results(many...))
	for i, path := range many {
		if p[path] != i%8 {
			t.Errorf("path %d of 20 has colour %d", i, p[path])
		}
	}
}

func TestLetters(t *testing.T) {
	for n, want := range map[int]string{0: "A", 25: "Z", 26: "AA", 51: "AZ", 52: "BA"} {
		if got := letters(n); got != want {
			t.Errorf("run %d is %s, want %s", n, got, want)
		}
	}
}
