package run

import (
	"os"
	"strings"
	"testing"
	"time"
)

func TestParseStat(t *testing.T) {
	got, err := parseStat("cpu  100 200 300 4000 50 6 7 800 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\n")
	want := cpuTime{user: 3, system: 3, softirq: 0.13, steal: 8}
	if err != nil || got != want {
		t.Errorf("%+v, %v, want %+v", got, err, want)
	}
	if got := want.sub(cpuTime{user: 1, system: 1, softirq: 0.03, steal: 1}); got.busy() < 4.099 || got.busy() > 4.101 || got.steal != 7 {
		t.Errorf("difference %+v, busy %v", got, got.busy())
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8", "cpu 1 2 3", "cpu 1 2 3 4 5 6 7 x 0 0"} {
		if got, err := parseStat(bad); err == nil {
			t.Errorf("%q is read as %+v", bad, got)
		}
	}
}

func TestParseProcessStat(t *testing.T) {
	user, system, err := parseProcessStat([]byte("42 (a) b (c)) R 1 2 3 4 5 6 7 8 9 10 1100 1250 0 0 20 0 1 0"))
	if err != nil || user != 11 || system != 12.5 {
		t.Errorf("%v, %v, %v", user, system, err)
	}
	for _, bad := range []string{"", "42 (x) R 1 2", "42 (x) R 1 2 3 4 5 6 7 8 9 10 a 1", "42 (x) R 1 2 3 4 5 6 7 8 9 10 1 b"} {
		if _, _, err := parseProcessStat([]byte(bad)); err == nil {
			t.Errorf("%q is read", bad)
		}
	}
}

// The CPU time of this process, and of nobody else, is its own.
func TestReadings(t *testing.T) {
	before, err := read(nil, []int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	for start := time.Now(); time.Since(start) < 100*time.Millisecond; {
	}
	after, err := read(nil, []int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	u := after.since(before)
	if u.elapsed < 100*time.Millisecond || u.weftd != 0 || after.ownAll <= before.ownAll || u.machine.user <= 0 || u.foreign > u.machine.user {
		t.Errorf("%+v", u)
	}
	if _, err := read([]int{1 << 30}, nil); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}

func TestParseCPUInfo(t *testing.T) {
	model, hypervisor := parseCPUInfo("processor\t: 0\nmodel name\t: Some CPU @ 3 GHz\nflags\t\t: fpu vme hypervisor lahf_lm\n\nprocessor\t: 1\nmodel name\t: Other\n")
	if model != "Some CPU @ 3 GHz" || !hypervisor {
		t.Errorf("%q, %v", model, hypervisor)
	}
	if model, hypervisor := parseCPUInfo("processor\t: 0\nflags\t: fpu hypervisorish\n"); model != "" || hypervisor {
		t.Errorf("%q, %v", model, hypervisor)
	}
}

func TestParseIPerf(t *testing.T) {
	got, err := parseIPerf([]byte(`{"end":{"sum_sent":{"bits_per_second":9e9},"sum_received":{"bits_per_second":8.5e9}}}`))
	if err != nil || got != 8.5 {
		t.Errorf("%v, %v", got, err)
	}
	for text, want := range map[string]string{
		`{"error":"unable to connect to server"}`:        "unable to connect",
		`{"end":{"sum_received":{"bits_per_second":0}}}`: "received nothing",
		``: "read iperf3's answer",
		`{"end":{"sum_received":{"bits_per_second":"so many"}}}`: "read iperf3's answer",
	} {
		if got, err := parseIPerf([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", text, got, err)
		}
	}
}
