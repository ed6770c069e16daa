package assist

import (
	"bytes"
	"encoding/binary"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// Two CPUs fill a ring while it is emptied: each packet that was not dropped is taken once,
// whole and in its flow's order, and each that was is counted. There are some: nothing is
// taken before, and then in small batches.
func TestRingOfTwoCPUs(t *testing.T) {
	t.Parallel()
	h := newRingHost(t, 3)
	const flows, packets = 2, 15000
	lengths := []int{64, 1472, 100, 513, longest, 200}
	// packetOf is packet n of a flow, with n in its payload.
	packetOf := func(flow, n int) []byte {
		pkt := numbered(lengths[n%len(lengths)], n)
		pkt[ipLen+udpSource] = byte(flow)
		return pkt
	}
	var went [flows][]int // the numbers of the packets that were not dropped
	var dropped atomic.Int64
	var producers sync.WaitGroup
	for flow := range flows {
		producers.Go(func() {
			if err := labtest.OnCPU(flow); err != nil {
				t.Error(err)
				return
			}
			for n := range packets {
				v, err := h.programs.egress.Run(&ebpf.RunOptions{Data: packetOf(flow, n), Context: skb{}})
				switch {
				case err == nil && int32(v) == tcxRedirect:
					went[flow] = append(went[flow], n)
				case err == nil && int32(v) == tcxDrop:
					dropped.Add(1)
				default:
					t.Errorf("packet %d of flow %d: %d, %v", n, flow, v, err)
					return
				}
			}
		})
	}
	defer producers.Wait()
	ended := make(chan struct{})
	go func() { producers.Wait(); close(ended) }()
	waitFor(t, "a packet to be dropped", func() bool { return dropped.Load() > 0 })

	var took [flows][]int
	r := h.Rings()[2]
	arena, batch := make([]byte, 1<<16), make([][]byte, 100)
	for over := false; ; {
		n, _ := r.Take(arena, batch)
		for _, pkt := range batch[:n] {
			if len(pkt) < overhead+8 || pkt[ipLen+udpSource] >= flows {
				t.Fatalf("%x was never sent", pkt)
			}
			flow, n := int(pkt[ipLen+udpSource]), int(binary.BigEndian.Uint64(pkt[overhead:]))
			if !bytes.Equal(pkt, packetOf(flow, n%packets)) {
				t.Fatalf("%x was never sent, but maybe %x", pkt, packetOf(flow, n%packets))
			}
			took[flow] = append(took[flow], n)
		}
		if n == 0 && over {
			break // there was nothing after the last was sent
		}
		select {
		case <-ended:
			over = true
		default:
			runtime.Gosched()
		}
	}
	for flow := range flows {
		if !slices.Equal(took[flow], went[flow]) {
			t.Errorf("flow %d: %d packets went into the ring, %d were taken, or in another order", flow, len(went[flow]), len(took[flow]))
		}
	}
	if _, _, lost := h.Floods(); lost != uint64(dropped.Load()) {
		t.Errorf("%d packets lost, %d were dropped", lost, dropped.Load())
	}
	if got := h.taken(); len(slices.Concat(got[:]...)) > 0 {
		t.Errorf("there are more in the rings: %x", got)
	}
	t.Logf("%d and %d packets taken, %d dropped", len(took[0]), len(took[1]), dropped.Load())
}
