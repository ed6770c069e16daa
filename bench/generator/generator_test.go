package generator

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// asGenerator makes the test binary a generator.
const asGenerator = "generator"

func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == asGenerator {
		os.Exit(Main(os.Args[2:]))
	}
	goleak.VerifyTestMain(m)
}

// here starts processes where the test runs.
type here struct{}

func (here) Start(cmd *exec.Cmd) error { return cmd.Start() }

var loopback = netip.MustParseAddr("127.0.0.1")

func measurement(t *testing.T, spec Spec) Measurement {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	spec.Addr = netip.AddrPortFrom(loopback, 0)
	return Measurement{Program: []string{self, asGenerator}, From: here{}, To: here{}, Spec: spec,
		Warmup: 50 * time.Millisecond, Duration: 500 * time.Millisecond}
}

func TestTCP(t *testing.T) {
	for _, flows := range []int{1, 4} {
		m := measurement(t, Spec{Kind: TCP, Flows: flows, Congestion: "reno"})
		seen := false
		m.During = func(w Window, sender, receiver *os.Process) {
			seen = w.End-w.Start == m.Duration.Nanoseconds() && sender.Pid != receiver.Pid
		}
		r, err := Measure(t.Context(), m)
		if err != nil {
			t.Fatal(err)
		}
		// What is received was sent, but for what was under way at the start.
		if r.Received.Bytes == 0 || r.Sent.Bytes == 0 || r.Sent.Elapsed < m.Duration/2 || r.Received.Elapsed < m.Duration/2 || !seen {
			t.Errorf("%d flows: %+v, called during it: %v", flows, r, seen)
		}
	}
}

func TestUDP(t *testing.T) {
	labtest.RequireRoot(t) // for the receiver's large buffer
	for _, size := range []int{64, 1400} {
		r, err := Measure(t.Context(), measurement(t, Spec{Kind: UDP, Size: size}))
		if err != nil {
			t.Fatal(err)
		}
		if r.Received.Packets == 0 || r.Received.Bytes != r.Received.Packets*uint64(size) || r.Sent.Bytes != r.Sent.Packets*uint64(size) {
			t.Errorf("%d bytes: %+v", size, r)
		}
	}
}

func TestEcho(t *testing.T) {
	r, err := Measure(t.Context(), measurement(t, Spec{Kind: Echo, Size: 64}))
	if err != nil {
		t.Fatal(err)
	}
	l := r.Sent.HalfRTT
	if r.Sent.Packets == 0 || r.Sent.Lost > 0 || l.P50 <= 0 || l.P99 < l.P50 || l.P999 < l.P99 || l.Max < l.P999 {
		t.Errorf("%+v", r.Sent)
	}
}

func TestLatency(t *testing.T) {
	// 1000 round trips of 2, 4 … 2000 ns, one begun each µs.
	var trips []roundTrip
	for i := range int64(1000) {
		trips = append(trips, roundTrip{sent: i * 1000, took: 2 * (i + 1)})
	}
	for _, c := range []struct {
		w    Window
		want Latency
	}{
		{Window{0, 1_000_000_000}, Latency{P50: 500, P99: 990, P999: 999, Max: 1000}},
		{Window{0, 999_000}, Latency{P50: 499, P99: 989, P999: 998, Max: 998}},
		{Window{998_500, 1_000_000_000}, Latency{1000, 1000, 1000, 1000}},
		{Window{100_000, 101_500}, Latency{101, 102, 102, 102}},
		{Window{2_000_000, 3_000_000}, Latency{}},
	} {
		if got := latency(trips, c.w); got != c.want {
			t.Errorf("window %+v: %+v, want %+v", c.w, got, c.want)
		}
	}
}

func TestErrorsAreTold(t *testing.T) {
	for want, change := range map[string]func(*Measurement){
		"tcp_available_congestion_control": func(m *Measurement) { m.Spec.Congestion = "no-such" },
		"0 flows":                          func(m *Measurement) { m.Spec.Flows = 0 },
		"unknown kind":                     func(m *Measurement) { m.Spec.Kind = "carrier pigeon" },
		"is no IPv4 address":               func(m *Measurement) { m.Spec.Addr = netip.MustParseAddrPort("[::1]:0") },
		"datagrams of 7 bytes":             func(m *Measurement) { m.Spec.Kind, m.Spec.Size = Echo, 7 },
		"no such file":                     func(m *Measurement) { m.Program = []string{"/nonexistent"} },
		"ended without an answer":          func(m *Measurement) { m.Program = []string{"/bin/true"} },
	} {
		m := measurement(t, Spec{Kind: TCP, Flows: 1})
		change(&m)
		if _, err := Measure(t.Context(), m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
}

// A receiver that dies is an error, and none of the processes stays.
func TestReceiverDies(t *testing.T) {
	m := measurement(t, Spec{Kind: TCP, Flows: 1})
	m.Duration = 10 * time.Second
	m.During = func(_ Window, _, receiver *os.Process) { receiver.Kill() }
	began := time.Now()
	if _, err := Measure(t.Context(), m); err == nil || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestInterruption(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	stop := errors.New("Ctrl-C")
	m := measurement(t, Spec{Kind: TCP, Flows: 1})
	m.Duration = 10 * time.Second
	var pids []int
	m.During = func(_ Window, sender, receiver *os.Process) {
		pids = append(pids, sender.Pid, receiver.Pid)
		cancel(stop)
	}
	if _, err := Measure(ctx, m); !errors.Is(err, stop) {
		t.Error("the error is", err)
	}
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

// A generator ends when whoever started it does.
func TestEndsWithStdin(t *testing.T) {
	m := measurement(t, Spec{Kind: TCP, Flows: 1})
	spec := m.Spec
	spec.Receive = true
	p, err := start(t.Context(), here{}, m.Program, spec)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.ready(); err != nil {
		t.Fatal(err)
	}
	p.stdin.Close()
	ended := make(chan error, 1)
	go func() { ended <- p.cmd.Wait() }()
	select {
	case <-ended:
	case <-time.After(5 * time.Second):
		t.Error("it goes on")
		p.cmd.Process.Kill()
		<-ended
	}
}
