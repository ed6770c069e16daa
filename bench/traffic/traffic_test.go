package traffic_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// Two namespaces joined by a cable.
func twoEnds(t *testing.T) (a, b *lab.Namespace, addrB, addrB6 netip.Addr) {
	a, b = labtest.Namespace(t, "a"), labtest.Namespace(t, "b")
	if err := lab.Veth(lab.End{In: a, Device: "eth0"}, lab.End{In: b, Device: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		ns   *lab.Namespace
		addr string
	}{{a, "192.0.2.1/24"}, {a, "2001:db8::1/64"}, {b, "192.0.2.2/24"}, {b, "2001:db8::2/64"}} {
		if err := e.ns.AddAddr("eth0", netip.MustParsePrefix(e.addr)); err != nil {
			t.Fatal(err)
		}
	}
	addrB, addrB6 = netip.MustParseAddr("192.0.2.2"), netip.MustParseAddr("2001:db8::2")
	// IPv6 is not there at once when a link comes up.
	for _, to := range []netip.Addr{addrB, addrB6} {
		if err := traffic.WaitReachable(t.Context(), a, to); err != nil {
			t.Fatal(err)
		}
	}
	return a, b, addrB, addrB6
}

func TestPing(t *testing.T) {
	a, _, addr, addr6 := twoEnds(t)
	for _, to := range []netip.Addr{addr, addr6} {
		if err := labtest.Lossless(t, func() error {
			r, err := traffic.Ping(t.Context(), a, to, traffic.PingOptions{Count: 3})
			if err != nil || r.Sent != 3 || len(r.RTTs) != 3 || r.Median() <= 0 {
				return fmt.Errorf("ping %s: %+v, %v", to, r, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
	}
	r, err := traffic.Ping(t.Context(), a, netip.MustParseAddr("192.0.2.99"), traffic.PingOptions{Count: 2, Timeout: 20 * time.Millisecond})
	if err != nil || r.Sent != 2 || r.Lost() != 2 {
		t.Errorf("ping of nobody: %+v, %v", r, err)
	}
}

func TestPingDontFragment(t *testing.T) {
	a, _, addr, addr6 := twoEnds(t)
	for _, test := range []struct {
		to   netip.Addr
		size int // with the IP and ICMP headers 1500 bytes
	}{{addr, 1472}, {addr6, 1452}} {
		if err := labtest.Lossless(t, func() error {
			r, err := traffic.Ping(t.Context(), a, test.to, traffic.PingOptions{Count: 1, Size: test.size, DontFragment: true})
			if err != nil || r.Lost() != 0 {
				return fmt.Errorf("%d bytes to %s: %+v, %v", test.size, test.to, r, err)
			}
			return nil
		}); err != nil {
			t.Error(err)
		}
		_, err := traffic.Ping(t.Context(), a, test.to, traffic.PingOptions{Count: 1, Size: test.size + 1, DontFragment: true})
		if err == nil || !strings.Contains(err.Error(), "message too long") {
			t.Errorf("%d bytes to %s: %v", test.size+1, test.to, err)
		}
	}
}

func TestWaitReachableEndsWithItsContext(t *testing.T) {
	a, _, _, _ := twoEnds(t)
	for limit := 250 * time.Millisecond; ; limit *= 2 {
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		err := traffic.WaitReachable(ctx, a, netip.MustParseAddr("203.0.113.1")) // no route there
		cancel()
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		if strings.Contains(err.Error(), "unreachable") {
			return
		}
		if limit > 5*time.Second { // on a busy machine a short one may end before the first try does
			t.Fatal("it does not say why:", err)
		}
	}
}

func TestSendChecked(t *testing.T) {
	a, b, addr, addr6 := twoEnds(t)
	for _, to := range []netip.Addr{addr, addr6} {
		var last int64
		r, err := traffic.SendChecked(t.Context(), a, b, to, 3<<20+7, "reno", func(n int64) { last = n })
		if err != nil || r.Bytes != 3<<20+7 || last != r.Bytes || r.Sent != r.Received || r.BitsPerSecond() <= 0 {
			t.Errorf("to %s: %+v, progress up to %d, %v", to, r, last, err)
		}
	}
}

func TestSendCheckedEndsWithItsContext(t *testing.T) {
	a, b, addr, _ := twoEnds(t)
	ctx, cancel := context.WithCancel(t.Context())
	_, err := traffic.SendChecked(ctx, a, b, addr, 1<<40, "", func(int64) { cancel() })
	if !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestMeasureTCP(t *testing.T) {
	a, b, addr, _ := twoEnds(t)
	for d := 50 * time.Millisecond; ; d *= 2 {
		rate, err := traffic.MeasureTCP(t.Context(), a, b, addr, traffic.ThroughputOptions{Flows: 2, Duration: d})
		if err == nil && rate > 0 {
			break
		}
		if d > 3*time.Second { // in a shorter time a busy machine may do nothing
			t.Fatalf("%v bit/s, %v", rate, err)
		}
	}
	_, err := traffic.MeasureTCP(t.Context(), a, b, addr, traffic.ThroughputOptions{Congestion: "weft"})
	if err == nil || !strings.Contains(err.Error(), "tcp_available_congestion_control") {
		t.Error("unknown congestion control:", err)
	}
}

func TestEchoUDP(t *testing.T) {
	a, b, addr, addr6 := twoEnds(t)
	for _, to := range []netip.Addr{addr, addr6} {
		for _, size := range []int{8, 4000} {
			if err := labtest.Lossless(t, func() error {
				r, err := traffic.EchoUDP(t.Context(), a, b, to, traffic.EchoOptions{Count: 50, Size: size})
				if want := (traffic.EchoResult{Sent: 50, Arrived: 50, Returned: 50}); err != nil || r != want {
					return fmt.Errorf("%d bytes to %s: %+v, %v", size, to, r, err)
				}
				return nil
			}); err != nil {
				t.Error(err)
			}
		}
	}
}

func TestEchoUDPCountsLosses(t *testing.T) {
	a, b, addr, _ := twoEnds(t)
	// Datagrams of more than the MTU are lost with their fragments.
	for _, key := range []string{"net/ipv4/ipfrag_low_thresh", "net/ipv4/ipfrag_high_thresh"} {
		if err := b.Sysctl(key, "0"); err != nil {
			t.Fatal(err)
		}
	}
	r, err := traffic.EchoUDP(t.Context(), a, b, addr, traffic.EchoOptions{Count: 5, Size: 4000})
	if want := (traffic.EchoResult{Sent: 5}); err != nil || r != want {
		t.Errorf("%+v, %v", r, err)
	}
}
