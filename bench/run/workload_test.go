package run

import (
	"reflect"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/generator"
)

// some is traffic of 1 GB and a million datagrams in two seconds at the
// receiver, of twice that at the sender.
var some = generator.Result{
	Sent: generator.Count{Elapsed: 2 * time.Second, Bytes: 2e9, Packets: 2e6,
		HalfRTT: generator.Latency{P50: 31_500, P99: 99_000, P999: 250_000}},
	Received: generator.Count{Elapsed: 2 * time.Second, Bytes: 1e9, Packets: 1e6},
}

func TestFigures(t *testing.T) {
	latency := []metric{{"half_rtt_p50", "us", 31.5}, {"half_rtt_p99", "us", 99}, {"half_rtt_p999", "us", 250}}
	for name, want := range map[string][]metric{
		"tcp1":    {{"throughput", "Gbit/s", 4}},
		"tcp4":    {{"throughput", "Gbit/s", 4}},
		"tcpboth": {{"throughput", "Gbit/s", 8}, {"throughput_forth", "Gbit/s", 4}, {"throughput_back", "Gbit/s", 4}},
		"rtt":     latency,
		"rttload": append(latency[:3:3], metric{"bulk", "Gbit/s", 4}),
		"connect": {{"connections", "1/s", 1e6}},
	} {
		w := workloadOf(name)
		traffic, nothing := make([]generator.Result, len(w.flows)), make([]generator.Result, len(w.flows))
		for i := range traffic {
			traffic[i] = some
			nothing[i].Received.Elapsed, nothing[i].Sent.Elapsed = time.Second, time.Second
		}
		got, err := w.figures(traffic)
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
		if got[0].name != w.main {
			t.Errorf("%s is judged by %s", name, w.main)
		}
		if got, err := w.figures(nothing); err == nil {
			t.Errorf("%s of nothing: %+v", name, got)
		}
	}
	for size, want := range map[int]metric{
		1400: {"throughput", "Gbit/s", 1.12},
		64:   {"throughput", "kpacket/s", 100},
	} {
		if got := udpFigure("throughput", size, 100_000); got != want {
			t.Errorf("%d bytes: %+v", size, got)
		}
	}
}

// Costs are of the work in the time that they were counted, which is half of
// the generators'.
func TestCosts(t *testing.T) {
	u := usage{elapsed: time.Second, machine: cpuTime{user: 1, system: 2, softirq: 0.5, steal: 9},
		senders: 0.25, receivers: 0.125, daemons: 1.5, switches: 1000, daemonSwitches: 500, hasDaemons: true}
	for _, c := range []struct {
		unit     unit
		flows    int
		cpu      string
		calls    string
		perCPU   float64 // of one second
		perCalls float64 // of one call
	}{
		{payload, 1, "s/GB", "1/MB", 2, 1.0 / 500},
		{payload, 2, "s/GB", "1/MB", 1, 1.0 / 1000},
		{bulkPayload, 2, "s/GB", "1/MB", 2, 1.0 / 500},
		{requests, 1, "us/request", "1/request", 1, 1e-6},
		{connections, 1, "us/connection", "1/connection", 1, 1e-6},
	} {
		traffic := []generator.Result{some, some}[:c.flows]
		want := []metric{
			{"cpu", c.cpu, 3.5 * c.perCPU}, {"cpu_user", c.cpu, c.perCPU}, {"cpu_system", c.cpu, 2 * c.perCPU}, {"cpu_softirq", c.cpu, 0.5 * c.perCPU},
			{"cpu_senders", c.cpu, 0.25 * c.perCPU}, {"cpu_receivers", c.cpu, 0.125 * c.perCPU}, {"context_switches", c.calls, 1000 * c.perCalls},
			{"cpu_daemons", c.cpu, 1.5 * c.perCPU}, {"context_switches_daemons", c.calls, 500 * c.perCalls},
		}
		if got := c.unit.costs(traffic, u); !reflect.DeepEqual(got, want) {
			t.Errorf("%s of %d flows:\n%+v\nwant\n%+v", c.cpu, c.flows, got, want)
		}
		n := calls{elapsed: time.Second, daemons: 3000, generators: 1000}
		want = []metric{{"syscalls", c.calls, 4000 * c.perCalls}, {"syscalls_daemons", c.calls, 3000 * c.perCalls}}
		if got := c.unit.callCosts(traffic, n, true); !reflect.DeepEqual(got, want) {
			t.Errorf("calls: %+v, want %+v", got, want)
		}
		if got := c.unit.callCosts(traffic, n, false); len(got) != 1 {
			t.Errorf("calls without daemons: %+v", got)
		}
	}
	u.hasDaemons = false
	for _, m := range payload.costs([]generator.Result{some}, u) {
		if m.name == "cpu_daemons" || m.name == "context_switches_daemons" {
			t.Errorf("without daemons: %+v", m)
		}
	}
}

func TestLossOf(t *testing.T) {
	for _, c := range []struct {
		sent, received uint64
		want           float64
	}{{1000, 1000, 0}, {1000, 999, 0.001}, {4, 0, 1}, {0, 0, 1}} {
		r := generator.Result{Sent: generator.Count{OfStep: c.sent}, Received: generator.Count{OfStep: c.received}}
		if got := lossOf(r); got < c.want-1e-9 || got > c.want+1e-9 {
			t.Errorf("%d of %d: %v", c.received, c.sent, got)
		}
	}
}

func TestMissedWindow(t *testing.T) {
	for _, c := range []struct {
		sent, received time.Duration // of a second, by the last of two
		want           bool
	}{{1e9, 1e9, false}, {501e6, 1700e6, false}, {499e6, 1e9, true}, {1e9, 1600, true}} {
		last := generator.Result{Sent: generator.Count{Elapsed: c.sent}, Received: generator.Count{Elapsed: c.received}}
		if got := missedWindow([]generator.Result{some, last}, time.Second); got != c.want {
			t.Errorf("counted for %v and %v of a second: %v", c.sent, c.received, got)
		}
	}
}
