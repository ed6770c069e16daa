package run

import (
	"errors"

	"github.com/weftnet/weft/bench/generator"
)

// A workload is one kind of traffic, and what is learned from it.
type workload struct {
	name    string
	spec    generator.Spec
	main    string // the metric to judge a path by
	metrics func(generator.Result, usage) ([]metric, error)
}

type metric struct {
	name, unit string
	value      float64
}

var workloads = []workload{
	{name: "tcp1", spec: generator.Spec{Kind: generator.TCP, Flows: 1}, main: "throughput", metrics: tcpMetrics},
	{name: "tcp4", spec: generator.Spec{Kind: generator.TCP, Flows: 4}, main: "throughput", metrics: tcpMetrics},
	// 1400 bytes fit all paths' MTUs.
	{name: "udp1400", spec: generator.Spec{Kind: generator.UDP, Size: 1400}, main: "delivered", metrics: udpBits},
	{name: "udp64", spec: generator.Spec{Kind: generator.UDP, Size: 64}, main: "delivered", metrics: udpPackets},
	{name: "rtt", spec: generator.Spec{Kind: generator.Echo, Size: 64}, main: "half_rtt_p50", metrics: echoMetrics},
}

// WorkloadNames lists the workloads.
func WorkloadNames() (names []string) {
	for _, w := range workloads {
		names = append(names, w.name)
	}
	return names
}

func workloadOf(name string) (found workload) {
	for _, w := range workloads {
		if w.name == name {
			found = w
		}
	}
	return found
}

const gbitPerSecond = "Gbit/s"

var errNothing = errors.New("nothing arrived")

func tcpMetrics(r generator.Result, u usage) ([]metric, error) {
	if r.Received.Bytes == 0 {
		return nil, errNothing
	}
	return append([]metric{{"throughput", gbitPerSecond, gigabits(r.Received)}}, cpuMetrics(r, u)...), nil
}

func udpBits(r generator.Result, u usage) ([]metric, error) {
	if r.Received.Bytes == 0 {
		return nil, errNothing
	}
	return append([]metric{
		{"delivered", gbitPerSecond, gigabits(r.Received)},
		{"offered", gbitPerSecond, gigabits(r.Sent)},
	}, cpuMetrics(r, u)...), nil
}

func udpPackets(r generator.Result, u usage) ([]metric, error) {
	if r.Received.Packets == 0 {
		return nil, errNothing
	}
	thousands := func(c generator.Count) float64 { return float64(c.Packets) / c.Elapsed.Seconds() / 1e3 }
	return append([]metric{
		{"delivered", "kpacket/s", thousands(r.Received)},
		{"offered", "kpacket/s", thousands(r.Sent)},
	}, cpuMetrics(r, u)...), nil
}

func gigabits(c generator.Count) float64 { return float64(c.Bytes) * 8 / c.Elapsed.Seconds() / 1e9 }

// cpuMetrics are CPU seconds for each gigabyte (10⁹ bytes) of payload that
// arrived in the same time.
func cpuMetrics(r generator.Result, u usage) []metric {
	gigabytes := float64(r.Received.Bytes) / 1e9 * u.elapsed.Seconds() / r.Received.Elapsed.Seconds()
	list := []metric{
		{"cpu", "s/GB", u.machine.busy() / gigabytes},
		{"cpu_user", "s/GB", u.machine.user / gigabytes},
		{"cpu_system", "s/GB", u.machine.system / gigabytes},
		{"cpu_softirq", "s/GB", u.machine.softirq / gigabytes},
	}
	if u.hasWeftd {
		list = append(list, metric{"cpu_weftd", "s/GB", u.weftd / gigabytes})
	}
	return list
}

func echoMetrics(r generator.Result, _ usage) ([]metric, error) {
	l := r.Sent.HalfRTT
	if l.P50 == 0 {
		return nil, errNothing
	}
	return []metric{
		{"half_rtt_p50", "us", float64(l.P50) / 1e3},
		{"half_rtt_p99", "us", float64(l.P99) / 1e3},
	}, nil
}
