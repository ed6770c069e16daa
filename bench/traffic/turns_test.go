package traffic

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestOvertaken(t *testing.T) {
	var r UDPTurns
	for _, a := range []struct {
		number uint64
		took   time.Duration
	}{{1, 1}, {4, 2}, {2, 30}, {3, 20}, {5, 3}, {7, 4}, {6, 25}} {
		r.count(a.number, a.took)
	}
	if r.Arrived != 7 || r.Overtaken != 3 || r.Quickest != 20 {
		t.Errorf("%+v", r)
	}
}

// Over a cable nothing is overtaken, and TCP has nothing to repeat, if nobody who sends is
// moved to another CPU.
func TestTurns(t *testing.T) {
	a, b := labtest.Namespace(t, "a"), labtest.Namespace(t, "b")
	if err := lab.Veth(lab.End{In: a, Device: "eth0"}, lab.End{In: b, Device: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	for ns, addr := range map[*lab.Namespace]string{a: "192.0.2.1/24", b: "192.0.2.2/24"} {
		if err := ns.AddAddr("eth0", netip.MustParsePrefix(addr)); err != nil {
			t.Fatal(err)
		}
	}
	to := netip.MustParseAddr("192.0.2.2")
	if err := WaitReachable(t.Context(), a, to); err != nil {
		t.Fatal(err)
	}
	pauses := []time.Duration{0, 10 * time.Millisecond}
	labtest.PinThreads(t, 1)
	if err := labtest.Lossless(t, func() error {
		udp, err := TakeTurnsUDP(t.Context(), a, b, to, pauses)
		if err != nil || udp.Sent != 2*(turnRun+2*turnSingles) || udp.Overtaken > 0 {
			t.Fatalf("%+v, %v", udp, err)
		}
		tcp, err := TakeTurnsTCP(t.Context(), a, b, to, pauses)
		if err != nil {
			t.Fatal(err)
		}
		if udp.Arrived < udp.Sent || tcp.Reordered > 0 || tcp.OutOfOrder > 0 { // as what comes behind a loss is, too
			return fmt.Errorf("%+v, %+v", udp, tcp)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
}
