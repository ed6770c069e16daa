package assist

import (
	"math/bits"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// takeAll takes all that waits in a ring.
func takeAll(t testing.TB, r *Ring) (all [][]byte) {
	t.Helper()
	_, more := r.Take(nil, nil)
	if !more {
		return nil
	}
	arena, packets := make([]byte, 1<<16), make([][]byte, 64)
	for more {
		var n int
		if n, more = r.Take(arena, packets); more && n == 0 {
			t.Fatal("an arena of 64 KiB has no room for a packet")
		}
		for _, pkt := range packets[:n] {
			all = append(all, slices.Clone(pkt))
		}
	}
	return all
}

// newRingHost makes an egressHost whose flows are all floods of a seat, without an end,
// with packets of any length. Nothing else is the kernel's.
func newRingHost(t testing.TB, seat uint32) *egressHost {
	t.Helper()
	h := newLeaving(t)
	h.SetLimit(egressPeers[0].Subnet, maxLimit)
	h.setSeat(t, seat)
	return h
}

func (h *egressHost) setSeat(t testing.TB, seat uint32) {
	h.setFloods(floodState{now(t) + uint64(time.Hour), 7, seat})
}

// The lengths of packets that BPF_PROG_TEST_RUN takes: not less than an Ethernet and an IP
// header, and a page with what the kernel needs beside it (net/bpf/test_run.c).
const (
	shortest = etherLen + ipLen
	longest  = 3600
)

// recordOf is how long a record is for a packet.
func recordOf(length int) int {
	for _, size := range []int{128, 256, 512, 1024, 1536, 4096, 9216} {
		if length <= size {
			return size
		}
	}
	return 0
}

// Packets of all lengths get into the ring of their seat, in the record that is just long
// enough, and into no other ring. For shorter and longer ones see TestRingByTUN.
func TestRingLengths(t *testing.T) {
	t.Parallel()
	h := newRingHost(t, 1)
	seats := [MaxFloods]taker{}
	for i, r := range h.Rings() {
		seats[i].ring = r
	}
	if len(h.Rings()) != MaxFloods {
		t.Fatalf("%d rings", len(h.Rings()))
	}
	for length := shortest; length <= longest; length++ {
		seat := uint32(length%MaxFloods + 1)
		h.setFlood(place(t, numbered(length, 0)), floodState{now(t) + uint64(time.Hour), 7, seat})
		pkt := numbered(length, length)
		if got := h.marked(pkt, 0, 0); got != tcxRedirect {
			t.Fatalf("%d bytes: %d", length, got)
		}
		k := &seats[seat-1]
		k.waits = append(k.waits, waiting{pkt: pkt, size: recordOf(length)})
		for i := range seats {
			seats[i].take(t, longest, 2)
		}
	}
	if _, _, lost := h.Floods(); lost != 0 || h.Drops() != 0 {
		t.Errorf("%d packets lost, %d dropped", lost, h.Drops())
	}
}

// Rings are filled and emptied for many times their length, by bits. What there is no room
// for is dropped and counted, and nothing else happens.
func TestRingWraps(t *testing.T) {
	t.Parallel()
	h := newRingHost(t, 1)
	k := taker{ring: h.Rings()[0]}
	lengths := []int{shortest, 64, 127, 128, 129, 256, 257, 512, 513, 1024, 1025, 1472, 1536, 1537, longest}
	random := rand.New(rand.NewPCG(1, 2))
	var produced uintptr
	lost, took, packets := uint64(0), 0, 0
	for produced < 30*ringLen {
		// A burst, which in the end is more than the ring has room for, then some of it.
		for range random.IntN(500) {
			packets++
			pkt := numbered(lengths[random.IntN(len(lengths))], packets)
			w := waiting{pkt: pkt, size: recordOf(len(pkt))}
			want := int32(tcxDrop)
			if produced+w.length()-k.at < ringLen {
				produced += w.length()
				k.waits = append(k.waits, w)
				want = tcxRedirect
			} else {
				lost++
			}
			if got := h.marked(pkt, 0, 0); got != want {
				t.Fatalf("packet %d, of %d bytes: %d, want %d; %d bytes wait", packets, len(pkt), got, want, produced-k.at)
			}
		}
		for range random.IntN(4) {
			n, _ := k.take(t, random.IntN(1<<18), random.IntN(300))
			took += n
		}
		if _, _, got := h.Floods(); got != lost {
			t.Fatalf("%d packets lost, want %d", got, lost)
		}
	}
	n := len(k.waits)
	if got, more := k.take(t, 1<<20, n+1); got != n || more || len(k.waits) > 0 {
		t.Errorf("%d packets at the end, want %d", got, n)
	}
	took += n
	if lost == 0 || took+int(lost) != packets || h.Drops() != 0 {
		t.Errorf("%d packets, %d taken, %d lost, %d dropped", packets, took, lost, h.Drops())
	}
}

// A full ring has 7710 of the smallest records. What comes then is dropped, until there is
// room again, and harms neither what waits nor other rings.
func TestRingFull(t *testing.T) {
	t.Parallel()
	h := newRingHost(t, 2)
	k := taker{ring: h.Rings()[1]}
	n := 0
	send := func(packets int, want int32) {
		t.Helper()
		for range packets {
			n++
			pkt := numbered(128, n)
			if got := h.marked(pkt, 0, 0); got != want {
				t.Fatalf("packet %d: %d, want %d", n, got, want)
			}
			if want == tcxRedirect {
				k.waits = append(k.waits, waiting{pkt: pkt, size: 128})
			}
		}
	}
	lost := func(want uint64) {
		t.Helper()
		if _, _, got := h.Floods(); got != want {
			t.Errorf("%d packets lost, want %d", got, want)
		}
	}
	send(7710, tcxRedirect)
	lost(0)
	send(7, tcxDrop)
	lost(7)
	k.take(t, 128, 1)
	send(1, tcxRedirect)
	send(1, tcxDrop)
	lost(8)

	// Another seat's has room, and is another's.
	h.setSeat(t, 4)
	pkt := numbered(100, 0)
	if got := h.marked(pkt, 0, 0); got != tcxRedirect {
		t.Errorf("to another ring: %d", got)
	}
	other := taker{ring: h.Rings()[3], waits: []waiting{{pkt: pkt, size: 128}}}
	other.take(t, 128, 2)
	h.setSeat(t, 2)
	send(1, tcxDrop)
	lost(9)

	if n, more := k.take(t, ringLen, 8000); n != 7710 || more {
		t.Errorf("%d packets, more: %v", n, more)
	}
	send(7710, tcxRedirect)
	send(1, tcxDrop)
	lost(10)
	k.take(t, ringLen, 8000)
	if h.Drops() != 0 {
		t.Errorf("%d dropped", h.Drops())
	}
}

// To take packets leaves no garbage.
func TestTakeAllocates(t *testing.T) { // not in parallel: it counts
	h := newRingHost(t, 1)
	const at, runs = 10, 100
	for n := range at * (runs + 1) { // once more to begin with
		if got := h.marked(numbered(64, n), 0, 0); got != tcxRedirect {
			t.Fatal(got)
		}
	}
	r, arena, packets := h.Rings()[0], make([]byte, 64*at), make([][]byte, at+1)
	took := 0
	if allocs := testing.AllocsPerRun(runs, func() { n, _ := r.Take(arena, packets); took += n }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
	if n, _ := r.Take(arena, packets); took != at*(runs+1) || n != 0 {
		t.Errorf("%d packets were taken, then %d", took, n)
	}
}

func TestCheckRings(t *testing.T) {
	if err := CheckRings(); (err == nil) != (bits.UintSize == 64) {
		t.Errorf("a program of %d bits: %v", bits.UintSize, err)
	}
}
