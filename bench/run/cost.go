package run

import "github.com/weftnet/weft/bench/generator"

// unit is the work that costs are told for.
type unit struct {
	rate func([]generator.Result) float64 // of work: units per second

	cpu      string  // unit of CPU time for work
	cpuScale float64 // from seconds per unit of work
	calls    string  // unit of calls and switches for work
	callWork float64 // units of work that they are told for
}

var (
	// Bytes of payload that arrived.
	payload = unit{rate: func(e []generator.Result) (sum float64) {
		for _, f := range e {
			sum += float64(f.Received.Bytes) / f.Received.Elapsed.Seconds()
		}
		return sum
	}, cpu: "s/GB", cpuScale: 1e9, calls: "1/MB", callWork: 1e6}

	// The same of the bulk flow beside requests.
	bulkPayload = unit{rate: func(e []generator.Result) float64 { return payload.rate(e[1:]) }, cpu: payload.cpu, cpuScale: payload.cpuScale, calls: payload.calls, callWork: payload.callWork}

	requests    = unit{rate: answered, cpu: "us/request", cpuScale: 1e6, calls: "1/request", callWork: 1}
	connections = unit{rate: answered, cpu: "us/connection", cpuScale: 1e6, calls: "1/connection", callWork: 1}
)

func answered(e []generator.Result) float64 { return packets(e[0].Sent) }

// costs are what the work of one window took.
func (u unit) costs(e []generator.Result, used usage) []metric {
	work := u.rate(e) * used.elapsed.Seconds()
	cpu := func(name string, seconds float64) metric {
		return metric{name, u.cpu, seconds / work * u.cpuScale}
	}
	calls := func(name string, n float64) metric { return metric{name, u.calls, n / work * u.callWork} }
	list := []metric{
		cpu("cpu", used.machine.busy()),
		cpu("cpu_user", used.machine.user),
		cpu("cpu_system", used.machine.system),
		cpu("cpu_softirq", used.machine.softirq),
		cpu("cpu_senders", used.senders),
		cpu("cpu_receivers", used.receivers),
		calls("context_switches", used.switches),
	}
	if used.hasDaemons {
		list = append(list, cpu("cpu_daemons", used.daemons), calls("context_switches_daemons", used.daemonSwitches))
	}
	return list
}

// callCosts are the system calls that the work of another window took.
func (u unit) callCosts(e []generator.Result, c calls, hasDaemons bool) []metric {
	work := u.rate(e) * c.elapsed.Seconds()
	list := []metric{{"syscalls", u.calls, float64(c.daemons+c.generators) / work * u.callWork}}
	if hasDaemons {
		list = append(list, metric{"syscalls_daemons", u.calls, float64(c.daemons) / work * u.callWork})
	}
	return list
}
