package udp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestDefaultWorkers(t *testing.T) {
	for cpus, want := range map[int]int{1: 1, 2: 1, 3: 1, 4: 2, 8: 4, 64: 4} {
		if got := defaultWorkers(cpus); got != want {
			t.Errorf("%d workers on %d CPUs, want %d", got, cpus, want)
		}
	}
}

// Flows are spread over the workers of their sender, over those of their
// receiver if there are several source ports, and each stays in order.
func TestWorkersKeepOrder(t *testing.T) {
	for _, sourcePorts := range []int{1, maxSourcePorts} {
		t.Run(fmt.Sprintf("%d source ports", sourcePorts), func(t *testing.T) { workersKeepOrder(t, sourcePorts) })
	}
}

func workersKeepOrder(t *testing.T, sourcePorts int) {
	const flows = 32
	a, b := newPair(t, setup{workers: 4, sourcePorts: sourcePorts})
	// The kernel puts packets out of order by itself: those that wait until it knows the
	// neighbour's address, and those that leave from two CPUs.
	ping(t, a, b.ipv4)
	labtest.PinThreads(t, 1)
	check(t, labtest.Lossless(t, func() error { return arriveInOrder(t, a, b, flows) }))
	busy := 0
	for _, w := range a.workers {
		if w.sender.counters.in.packets.Load() > 0 {
			busy++
		}
	}
	if busy < 2 {
		t.Errorf("%d workers carried %d flows", busy, flows)
	}
	busy = 0
	for _, w := range b.workers {
		if w.receivers[0].counters.in.packets.Load() > 0 {
			busy++
		}
	}
	if (busy == 1) != (sourcePorts == 1) {
		t.Errorf("what one peer sent from %d ports was received by %d workers", sourcePorts, busy)
	}
}

// arriveInOrder sends packets of many flows at once, and fails if one was overtaken. It is
// an error if one was lost.
func arriveInOrder(t *testing.T, a, b *node, flows int) error {
	t.Helper()
	const rounds = 100
	const burst = 2 // of each flow; all together fit the queues
	to := listenUDP(t, b, b.ipv4)
	target := net.UDPAddrFromAddrPort(netip.MustParseAddrPort(to.LocalAddr().String()))
	var from []net.PacketConn
	for range flows {
		from = append(from, listenUDP(t, a, a.ipv4))
	}
	next := map[string]uint32{} // what comes next, by flow
	buf := make([]byte, 2048)
	for round := range uint32(rounds) {
		for i := range uint32(burst) {
			for _, c := range from {
				// Of any length, so that joining has something to do.
				payload := binary.BigEndian.AppendUint32(make([]byte, 0, 600), round*burst+i)
				_, err := c.WriteTo(payload[:4+i%7*80], target)
				check(t, err)
			}
		}
		for n := range flows * burst {
			to.SetReadDeadline(time.Now().Add(patience))
			_, sender, err := to.ReadFrom(buf)
			if err != nil {
				return fmt.Errorf("%d of %d packets arrived: %w", n, flows*burst, err)
			}
			flow := sender.String()
			i := binary.BigEndian.Uint32(buf)
			if i < next[flow] {
				t.Fatalf("packet %d of %s behind %d", i, flow, next[flow]-1)
			}
			next[flow] = i + 1
		}
	}
	return nil
}

func TestWorkersTransfer(t *testing.T) {
	a, b := newPair(t, setup{workers: 3})
	for _, inner6 := range []bool{false, true} {
		exchangeUDP(t, a, b, inner6)
		transferTCP(t, a, b, inner6, 8<<20)
		transferTCP(t, b, a, inner6, 8<<20)
	}
	for _, n := range []*node{a, b} {
		check(t, n.Health())
	}
}

// The port is shared among the workers' sockets, and with nobody else.
func TestPortIsNotShared(t *testing.T) {
	ns := newNamespace(t, "node")
	check(t, ns.LinkUp("lo"))
	check(t, ns.Do(func() error {
		addr := netip.MustParseAddrPort("127.0.0.1:8285")
		mine, err := openSockets(addr, 3)
		check(t, err)
		for _, n := range []int{1, 2} {
			if _, err := openSockets(addr, n); !errors.Is(err, unix.EADDRINUSE) {
				t.Errorf("%d more sockets: %v", n, err)
			}
		}
		for _, s := range mine {
			s.close()
		}
		again, err := openSockets(addr, 2)
		check(t, err)
		for _, s := range again {
			s.close()
		}
		return nil
	}))
}
