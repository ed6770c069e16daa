package run

import (
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestParseStat(t *testing.T) {
	got, switches, err := parseStat("cpu  100 200 300 4000 50 6 7 800 0 0\ncpu0 1 2 3 4 5 6 7 8 0 0\nintr 1 2\nctxt 123456\nbtime 9\n")
	want := cpuTime{user: 3, system: 3, softirq: 0.13, steal: 8}
	if err != nil || got != want || switches != 123456 {
		t.Errorf("%+v, %d, %v, want %+v", got, switches, err, want)
	}
	if got := want.sub(cpuTime{user: 1, system: 1, softirq: 0.03, steal: 1}); got.busy() < 4.099 || got.busy() > 4.101 || got.steal != 7 {
		t.Errorf("difference %+v, busy %v", got, got.busy())
	}
	for _, bad := range []string{"", "cpu0 1 2 3 4 5 6 7 8\nctxt 1", "cpu 1 2 3\nctxt 1", "cpu 1 2 3 4 5 6 7 x 0 0\nctxt 1",
		"cpu 1 2 3 4 5 6 7 8 0 0\n", "cpu 1 2 3 4 5 6 7 8 0 0\nctxt x\n"} {
		if got, _, err := parseStat(bad); err == nil {
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
	m := meter{receivers: []int{os.Getpid()}}
	start := time.Now()
	before, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	// What counts is the CPU that others leave to this process, not the time.
	spinning := time.Now()
	for used := 0.0; used < 0.1; {
		if time.Since(start) > time.Minute {
			t.Fatalf("%v s of CPU time in a minute", used)
		}
		user, _, err := processTime(os.Getpid())
		if err != nil {
			t.Fatal(err)
		}
		used = user - before.ownUser
	}
	least := time.Since(spinning)
	after, err := m.read()
	if err != nil {
		t.Fatal(err)
	}
	most := time.Since(start)
	u := after.since(before)
	if u.elapsed < least || u.elapsed > most || u.daemons != 0 || u.senders != 0 || u.receivers < 0.09 ||
		after.ownUser <= before.ownUser || u.machine.user <= 0 || u.foreign > u.machine.user || u.switches == 0 {
		t.Errorf("within %v to %v: %+v", least, most, u)
	}
	m = meter{daemons: []int{1 << 30}}
	if _, err := m.read(); err == nil {
		t.Error("a process that is not there has CPU time")
	}
}

func TestStatusNumber(t *testing.T) {
	const text = "Name:\tVmHWM:\nVmHWM:\t    4711 kB\nnonvoluntary_ctxt_switches:\t2\nvoluntary_ctxt_switches:\t300\n"
	for key, want := range map[string]uint64{"VmHWM": 4711, "voluntary_ctxt_switches": 300, "nonvoluntary_ctxt_switches": 2} {
		if got, err := statusNumber(text, key); err != nil || got != want {
			t.Errorf("%s is %d, %v", key, got, err)
		}
	}
	for key, text := range map[string]string{"VmRSS": text, "Name": text, "x": "x: -1 kB"} {
		if got, err := statusNumber(text, key); err == nil {
			t.Errorf("%s is %d", key, got)
		}
	}
}

func TestMemoryAndSwitches(t *testing.T) {
	labtest.RequireRoot(t)
	m := meter{daemons: []int{os.Getpid()}}
	debug.FreeOSMemory() // what other tests have left would be used again
	if err := m.resetMemory(); err != nil {
		t.Fatal(err)
	}
	before, err := m.memory()
	if err != nil {
		t.Fatal(err)
	}
	const size = 64 << 20
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i)
	}
	after, err := m.memory()
	if err != nil || after < before+size/2 || after > before+2*size {
		t.Errorf("%d bytes more make %d of %d, %v", size, after, before, err)
	}
	runtime.KeepAlive(b)
	if n, err := processSwitches(os.Getpid()); err != nil || n == 0 {
		t.Errorf("%d context switches, %v", n, err)
	}
}

// Each call of each thread counts, also of threads that start later.
func TestSystemCallsAreCounted(t *testing.T) {
	labtest.RequireRoot(t)
	if err := canCountCalls(); err != nil {
		// The environment of a run says so; there is nothing to test.
		if !kernelHasCallEvent(t) {
			t.Skip("the kernel was built without the tracepoint of system calls: ", err)
		}
		t.Fatalf("%v (is tracefs mounted at /sys/kernel/tracing?)", err)
	}
	c, err := openCallCounters([]int{os.Getpid()})
	if err != nil {
		t.Fatal(err)
	}
	defer c.close()
	const calls = 10_000
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // a thread of its own
		for range calls {
			unix.Getppid()
		}
	}()
	<-done
	if n, err := c.read(); err != nil || n < calls || n > 2*calls {
		t.Errorf("%d calls are counted as %d, %v", calls, n, err)
	}
}

// kernelHasCallEvent looks for the tracepoint in a tracefs of its own, for the
// host's may not be mounted.
func kernelHasCallEvent(t *testing.T) bool {
	dir := t.TempDir()
	err := unix.Mount("tracefs", dir, "tracefs", 0, "")
	if errors.Is(err, unix.ENODEV) {
		return false
	}
	if err != nil {
		t.Fatalf("mount tracefs: %v", err)
	}
	defer unix.Unmount(dir, unix.MNT_DETACH)
	_, err = os.Stat(filepath.Join(dir, "events/raw_syscalls/sys_enter"))
	return err == nil
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
