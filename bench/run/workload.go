package run

import (
	"errors"
	"time"

	"github.com/weftnet/weft/bench/generator"
)

// A workload is one kind of traffic, and what is learned from it.
type workload struct {
	name   string
	flows  []flow
	search bool   // for the highest rate without loss; one flow of UDP
	main   string // the metric to judge a path by
	unit   unit   // of work
	// figures are what the traffic itself tells.
	figures func([]generator.Result) ([]metric, error)
}

// flow is what one pair of generators does.
type flow struct {
	spec    generator.Spec
	reverse bool // from the second host's container to the first's
}

type metric struct {
	name, unit string
	value      float64
}

const (
	gbitPerSecond   = "Gbit/s"
	thousandPackets = "kpacket/s"
	connectClients  = 16
	requestBytes    = 64
	largestDatagram = 1400 // fits the MTU of all paths
)

var (
	bulk    = flow{spec: generator.Spec{Kind: generator.TCP, Flows: 1}}
	back    = flow{spec: bulk.spec, reverse: true}
	request = flow{spec: generator.Spec{Kind: generator.Echo, Size: requestBytes}}

	workloads = []workload{
		{name: "tcp1", flows: []flow{bulk}, main: "throughput", unit: payload, figures: tcpFigures},
		{name: "tcp4", flows: []flow{{spec: generator.Spec{Kind: generator.TCP, Flows: 4}}}, main: "throughput", unit: payload, figures: tcpFigures},
		{name: "tcpboth", flows: []flow{bulk, back}, main: "throughput", unit: payload, figures: bothFigures},
		{name: "udp1400", flows: udpFlow(largestDatagram), search: true, main: "throughput", unit: payload},
		{name: "udp64", flows: udpFlow(64), search: true, main: "throughput", unit: payload},
		{name: "rtt", flows: []flow{request}, main: "half_rtt_p50", unit: requests, figures: echoFigures},
		{name: "rttload", flows: []flow{request, bulk}, main: "half_rtt_p50", unit: bulkPayload, figures: loadFigures},
		{name: "connect", flows: []flow{{spec: generator.Spec{Kind: generator.Connect, Flows: connectClients}}}, main: "connections", unit: connections, figures: connectFigures},
	}
)

func udpFlow(size int) []flow {
	return []flow{{spec: generator.Spec{Kind: generator.UDP, Size: size}}}
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

var errNothing = errors.New("nothing arrived")

func tcpFigures(e []generator.Result) ([]metric, error) {
	if e[0].Received.Bytes == 0 {
		return nil, errNothing
	}
	return []metric{{"throughput", gbitPerSecond, gigabits(e[0].Received)}}, nil
}

func bothFigures(e []generator.Result) ([]metric, error) {
	forth, back := gigabits(e[0].Received), gigabits(e[1].Received)
	if forth == 0 || back == 0 {
		return nil, errNothing
	}
	return []metric{
		{"throughput", gbitPerSecond, forth + back},
		{"throughput_forth", gbitPerSecond, forth},
		{"throughput_back", gbitPerSecond, back},
	}, nil
}

// udpFigure is a rate as the workload tells it: bits of large datagrams, and
// the number of small ones.
func udpFigure(name string, size int, perSecond float64) metric {
	if size == largestDatagram {
		return metric{name, gbitPerSecond, perSecond * float64(size) * 8 / 1e9}
	}
	return metric{name, thousandPackets, perSecond / 1e3}
}

func echoFigures(e []generator.Result) ([]metric, error) {
	l := e[0].Sent.HalfRTT
	if l.P50 == 0 {
		return nil, errNothing
	}
	microseconds := func(ns int64) float64 { return float64(ns) / float64(time.Microsecond) }
	return []metric{
		{"half_rtt_p50", "us", microseconds(l.P50)},
		{"half_rtt_p99", "us", microseconds(l.P99)},
		{"half_rtt_p999", "us", microseconds(l.P999)},
	}, nil
}

func loadFigures(e []generator.Result) ([]metric, error) {
	latency, err := echoFigures(e)
	if err == nil && e[1].Received.Bytes == 0 {
		err = errNothing
	}
	return append(latency, metric{"bulk", gbitPerSecond, gigabits(e[1].Received)}), err
}

func connectFigures(e []generator.Result) ([]metric, error) {
	if e[0].Sent.Packets == 0 {
		return nil, errNothing
	}
	return []metric{{"connections", "1/s", packets(e[0].Sent)}}, nil
}

func gigabits(c generator.Count) float64 { return float64(c.Bytes) * 8 / c.Elapsed.Seconds() / 1e9 }

// packets per second.
func packets(c generator.Count) float64 { return float64(c.Packets) / c.Elapsed.Seconds() }
