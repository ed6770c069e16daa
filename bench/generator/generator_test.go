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

// windowOf is a step with one window, after a little warm-up.
func windowOf(d time.Duration, rate float64) Step {
	begin := Now() + int64(50*time.Millisecond)
	end := begin + int64(d)
	return Step{Until: end, Rate: rate, Window: Window{begin, end}}
}

const window = 300 * time.Millisecond

func step(t *testing.T, s *Session, step Step) []Result {
	t.Helper()
	results, err := s.Step(step, nil)
	if err != nil {
		t.Fatal(err)
	}
	return results
}

func TestTCP(t *testing.T) {
	for _, flows := range []int{1, 4} {
		s := open(t, Spec{Kind: TCP, Flows: flows, Congestion: "reno"})
		if s.Senders()[0].Pid == s.Receivers()[0].Pid {
			t.Error("one process does both")
		}
		// What is received was sent, but for what was under way at the start.
		r := step(t, s, windowOf(window, 0))[0]
		sent, received := r.Sent, r.Received
		if received.Bytes == 0 || sent.Bytes == 0 || sent.Elapsed < window/2 || received.Elapsed < window/2 {
			t.Errorf("%d flows: %+v", flows, r)
		}
	}
}

// Traffic of two kinds at once, and again.
func TestPairs(t *testing.T) {
	s := open(t, Spec{Kind: TCP, Flows: 1}, Spec{Kind: Echo, Size: 64})
	for range 2 {
		for i, r := range step(t, s, windowOf(window, 0)) {
			if r.Sent.Bytes == 0 || r.Received.Bytes == 0 {
				t.Errorf("pair %d: %+v", i, r)
			}
		}
	}
}

// As fast as can be, and then at a rate that any machine bears: of the second
// step no datagram is lost or taken for one of the first.
func TestUDP(t *testing.T) {
	labtest.RequireRoot(t) // for the receiver's large buffer
	for _, size := range []int{64, 1400} {
		s := open(t, Spec{Kind: UDP, Size: size})
		r := step(t, s, windowOf(window, 0))[0]
		sent, received := r.Sent, r.Received
		if received.Packets == 0 || received.Bytes != received.Packets*uint64(size) || sent.Bytes != sent.Packets*uint64(size) {
			t.Errorf("%d bytes: %+v", size, r)
		}
		if r.Sent.OfStep < sent.Packets || r.Received.OfStep > r.Sent.OfStep {
			t.Errorf("%d bytes: of the step %+v", size, r)
		}
		// The step is 350 ms long, of a machine on which other tests run.
		r = step(t, s, windowOf(window, 5000))[0]
		if r.Sent.OfStep < 100 || r.Sent.OfStep > 1751 || r.Received.OfStep != r.Sent.OfStep {
			t.Errorf("%d bytes, 5000 a second: %+v", size, r)
		}
	}
}

func TestEcho(t *testing.T) {
	sent := step(t, open(t, Spec{Kind: Echo, Size: 64}), windowOf(window, 0))[0].Sent
	l := sent.HalfRTT
	if sent.Packets == 0 || sent.Lost > 0 || l.P50 <= 0 || l.P99 < l.P50 || l.P999 < l.P99 || l.Max < l.P999 {
		t.Errorf("%+v", sent)
	}
}

func TestConnect(t *testing.T) {
	r := step(t, open(t, Spec{Kind: Connect, Flows: 4}), windowOf(window, 0))[0]
	if r.Sent.Packets == 0 || r.Received.Packets == 0 {
		t.Errorf("%+v", r)
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
	_, err := s.Step(windowOf(10*time.Second, 0), func(ctx context.Context) error {
		s.Receivers()[0].Kill()
		<-ctx.Done() // the failure is told
		return ctx.Err()
	})
	if err == nil || time.Since(began) > 5*time.Second {
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
