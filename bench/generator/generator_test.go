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

func self(t *testing.T) []string {
	t.Helper()
	program, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return []string{program, asGenerator}
}

func pair(spec Spec) Pair {
	spec.Addr = netip.AddrPortFrom(loopback, 0)
	return Pair{From: here{}, To: here{}, Spec: spec}
}

func open(t *testing.T, specs ...Spec) *Session {
	t.Helper()
	var pairs []Pair
	for _, spec := range specs {
		pairs = append(pairs, pair(spec))
	}
	s, err := Open(t.Context(), self(t), pairs)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// warmup is before the window of windowOf.
const warmup = 50 * time.Millisecond

// windowOf is a step with one window, after a little warm-up.
func windowOf(d time.Duration, rate float64) Step {
	begin := Now() + int64(warmup)
	end := begin + int64(d)
	return Step{Until: end, Rate: rate, Window: Window{begin, end}}
}

// The windows of step.
const (
	window       = 300 * time.Millisecond
	windowsTried = 5
)

// step goes through steps until both ends counted for most of a window, and
// nothing is amiss. On a busy machine a process may hear of a step when half of it
// is over, or get nothing done: so one window of some must do, each of them twice
// as long as the one before.
func step(t *testing.T, s *Session, rate float64, amiss func(d time.Duration, results []Result) string) {
	t.Helper()
	var what string
	for d := window; d < window<<windowsTried; d *= 2 {
		results, err := s.Step(windowOf(d, rate), nil)
		if err != nil {
			t.Fatal(err)
		}
		what = amiss(d, results)
		for i, r := range results {
			if r.Sent.Elapsed < d/2 || r.Received.Elapsed < d/2 {
				what = fmt.Sprintf("pair %d: not counted for half of %v: %+v", i, d, r)
			}
		}
		if what == "" {
			return
		}
	}
	t.Errorf("in each of %d windows, in the last one: %s", windowsTried, what)
}

// bothCount: both ends of each pair carried something.
func bothCount(_ time.Duration, results []Result) string {
	for i, r := range results {
		if r.Sent.Bytes == 0 || r.Received.Bytes == 0 {
			return fmt.Sprintf("pair %d: %+v", i, r)
		}
	}
	return ""
}

func TestTCP(t *testing.T) {
	for _, flows := range []int{1, 4} {
		s := open(t, Spec{Kind: TCP, Flows: flows, Congestion: "reno"})
		if s.Senders()[0].Pid == s.Receivers()[0].Pid {
			t.Error("one process does both")
		}
		step(t, s, 0, bothCount)
	}
}

// Traffic of two kinds at once, and again.
func TestPairs(t *testing.T) {
	s := open(t, Spec{Kind: TCP, Flows: 1}, Spec{Kind: Echo, Size: 64})
	for range 2 {
		step(t, s, 0, bothCount)
	}
}

// As fast as can be, and then at a rate that any machine bears: of the second
// step no datagram is lost or taken for one of the first.
func TestUDP(t *testing.T) {
	labtest.RequireRoot(t) // for the receiver's large buffer
	for _, size := range []int{64, 1400} {
		s := open(t, Spec{Kind: UDP, Size: size})
		step(t, s, 0, func(d time.Duration, results []Result) string {
			ofSize(t, size, results[0])
			return bothCount(d, results)
		})
		const rate = 5000
		step(t, s, rate, func(d time.Duration, results []Result) string {
			r := results[0]
			ofSize(t, size, r)
			if most := uint64(rate*(warmup+d).Seconds()) + 1; r.Sent.OfStep > most {
				t.Errorf("%d bytes: more than %d in a step at %d a second: %+v", size, most, rate, r)
			}
			if r.Sent.OfStep < 100 || r.Received.OfStep != r.Sent.OfStep {
				return fmt.Sprintf("%d bytes, %d a second: %+v", size, rate, r)
			}
			return ""
		})
	}
}

// ofSize: whatever was counted, it was whole datagrams, of the step and sent.
func ofSize(t *testing.T, size int, r Result) {
	t.Helper()
	sent, received := r.Sent, r.Received
	if received.Bytes != received.Packets*uint64(size) || sent.Bytes != sent.Packets*uint64(size) {
		t.Errorf("%d bytes: %+v", size, r)
	}
	if sent.OfStep < sent.Packets || received.OfStep > sent.OfStep {
		t.Errorf("%d bytes: of the step %+v", size, r)
	}
}

func TestEcho(t *testing.T) {
	step(t, open(t, Spec{Kind: Echo, Size: 64}), 0, func(_ time.Duration, results []Result) string {
		sent := results[0].Sent
		l := sent.HalfRTT
		if l.P50 < 0 || l.P99 < l.P50 || l.P999 < l.P99 || l.Max < l.P999 {
			t.Errorf("%+v", sent)
		}
		if sent.Packets == 0 || sent.Lost > 0 || l.P50 == 0 { // an answer may be late
			return fmt.Sprintf("%+v", sent)
		}
		return ""
	})
}

func TestConnect(t *testing.T) {
	step(t, open(t, Spec{Kind: Connect, Flows: 4}), 0, bothCount)
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
	for want, change := range map[string]func(*Spec, *[]string){
		"tcp_available_congestion_control": func(s *Spec, _ *[]string) { s.Congestion = "no-such" },
		"0 flows":                          func(s *Spec, _ *[]string) { s.Flows = 0 },
		"unknown kind":                     func(s *Spec, _ *[]string) { s.Kind = "carrier pigeon" },
		"is no IPv4 address":               func(s *Spec, _ *[]string) { s.Addr = netip.MustParseAddrPort("[::1]:0") },
		"datagrams of 7 bytes":             func(s *Spec, _ *[]string) { s.Kind, s.Size = Echo, 7 },
		"no such file":                     func(_ *Spec, program *[]string) { *program = []string{"/nonexistent"} },
		"ended without an answer":          func(_ *Spec, program *[]string) { *program = []string{"/bin/true"} },
	} {
		p, program := pair(Spec{Kind: TCP, Flows: 1}), self(t)
		change(&p.Spec, &program)
		if _, err := Open(t.Context(), program, []Pair{p}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("the error is %v, want %q", err, want)
		}
	}
	for _, bad := range []Step{{Until: 9, Window: Window{5, 4}}, {Until: 3, Window: Window{2, 4}}} {
		if _, err := open(t, Spec{Kind: TCP, Flows: 1}).Step(bad, nil); err == nil || !strings.Contains(err.Error(), "out of order") {
			t.Error("the error is", err)
		}
	}
}

// A receiver that dies is an error, and none of the processes stays.
func TestReceiverDies(t *testing.T) {
	s := open(t, Spec{Kind: TCP, Flows: 1})
	began := time.Now()
	const d = time.Minute
	_, err := s.Step(windowOf(d, 0), func(ctx context.Context) error {
		s.Receivers()[0].Kill()
		<-ctx.Done() // the failure is told
		return ctx.Err()
	})
	if err == nil || time.Since(began) > d/2 {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}

func TestInterruption(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	s, err := Open(ctx, self(t), []Pair{pair(Spec{Kind: TCP, Flows: 1})})
	if err != nil {
		t.Fatal(err)
	}
	pids := []int{s.Senders()[0].Pid, s.Receivers()[0].Pid}
	stop := errors.New("Ctrl-C")
	if _, err := s.Step(windowOf(10*time.Second, 0), func(context.Context) error { cancel(stop); return nil }); !errors.Is(err, stop) {
		t.Error("the error is", err)
	}
	s.Close()
	for _, pid := range pids {
		if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); err == nil {
			t.Errorf("process %d is left", pid)
		}
	}
}

// A generator ends when whoever started it does.
func TestEndsWithStdin(t *testing.T) {
	spec := pair(Spec{Kind: TCP, Flows: 1}).Spec
	spec.Receive = true
	p, err := start(t.Context(), here{}, self(t), spec)
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
