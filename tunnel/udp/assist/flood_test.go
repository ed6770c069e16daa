package assist

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf/asm"
)

// newFloodHost makes an egressHost with so many seats.
func newFloodHost(t testing.TB, seats int) *egressHost {
	t.Helper()
	h := newEgressHost(t)
	h.cfg.Floods = seats
	h.replace(egress(h.cfg, h.programs.shared))
	return h
}

// floodState is what there is of a flow.
type floodState struct {
	began       uint64
	count, seat uint32
}

func (h *egressHost) floodAt(place uint32) (s floodState) {
	var b [floodLen]byte
	h.floods.ReadAt(b[:], int64(place)*floodLen)
	return floodState{binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])}
}

func (h *egressHost) setFlood(place uint32, s floodState) {
	at := int64(place) * floodLen
	store64(h.floods, at, s.began)
	store32(h.floods, at+8, s.count)
	store32(h.floods, at+12, s.seat)
}

// renewed are the times of all seats.
func (h *egressHost) renewed() (all [MaxFloods]uint64) {
	for i := range all {
		all[i] = load64(h.floods, floodSeats+8*int64(i))
	}
	return all
}

func (h *egressHost) setRenewed(all [MaxFloods]uint64) {
	for i, at := range all {
		store64(h.floods, floodSeats+8*int64(i), at)
	}
}

// inOneTick sets something and then does something until both lie between two ticks, so
// that the program's time is the one that set was given.
func (h *egressHost) inOneTick(set func(now uint64), do func()) (now uint64) {
	for {
		now = coarseTime()
		set(now)
		if do(); coarseTime() == now {
			return now
		}
	}
}

// What a packet makes of a flow, and which way it goes. Ages are those of windows and
// seats; two of four seats are in use.
func TestFloodPackets(t *testing.T) {
	t.Parallel()
	h := newFloodHost(t, 2)
	pkt := unhex(t, innerPacket)
	at := place(t, pkt)
	const (
		ms     = time.Millisecond
		free   = 40 * ms // a seat
		taken  = free - 1
		ahead  = -time.Hour // by another CPU's clock
		anew   = true       // the window begins now
		kernel = tcxRedirect
		user   = tcxNext
	)
	both := [2]time.Duration{taken, taken}
	for _, c := range []struct {
		name        string
		age         time.Duration
		count, seat uint32
		seats       [2]time.Duration
		want        int32
		anew        bool
		count2      uint32
		seat2       uint32
		renews      int // which seat's time is now; 0: none
	}{
		{"one of many", 1, 5, 0, [2]time.Duration{free, free}, kernel, false, 6, 0, 0},
		{"the last of a window", 20*ms - 1, 3998, 0, [2]time.Duration{free, free}, kernel, false, 3999, 0, 0},
		{"the first of the next", 20 * ms, 3999, 0, [2]time.Duration{free, free}, kernel, anew, 1, 0, 0},
		{"after an hour", time.Hour, 3999, 0, [2]time.Duration{free, free}, kernel, anew, 1, 0, 0},
		{"one too many", 20*ms - 1, 3999, 0, [2]time.Duration{free, free}, user, anew, 1, 1, 1},
		{"one too many, ahead", ahead, 3999, 0, [2]time.Duration{free, free}, user, anew, 1, 1, 1},
		{"the first seat is taken", 0, 3999, 0, [2]time.Duration{taken, free}, user, anew, 1, 2, 2},
		{"the first seat is taken, ahead", 0, 3999, 0, [2]time.Duration{ahead, free}, user, anew, 1, 2, 2},
		{"the second seat is taken", 0, 3999, 0, [2]time.Duration{free, taken}, user, anew, 1, 1, 1},
		{"no seat is free", 0, 3999, 0, both, kernel, false, 4000, 0, 0},
		{"no seat is free yet", 20*ms - 1, 5000, 0, both, kernel, false, 5001, 0, 0},
		{"a seat is free now", 20*ms - 1, 5000, 0, [2]time.Duration{taken, free}, user, anew, 1, 2, 2},

		{"a flood's", 20*ms - 1, 7, 2, both, user, false, 8, 2, 0},
		{"a flood's first", 0, 1, 1, both, user, false, 2, 1, 0},
		{"a flood's, ahead", ahead, 7, 2, both, user, false, 8, 2, 0},
		{"a flood's next window", 20 * ms, 500, 2, both, user, anew, 1, 2, 2},
		{"of the first seat", 20 * ms, 500, 1, both, user, anew, 1, 1, 1},
		{"a flood's next window, late", 40*ms - 1, 500, 2, both, user, anew, 1, 2, 2},
		{"too slow", 20 * ms, 499, 2, both, kernel, anew, 1, 0, 0},
		{"too slow, late", 40*ms - 1, 499, 2, both, kernel, anew, 1, 0, 0},
		{"silent", 40 * ms, 5000, 2, both, kernel, anew, 1, 0, 0},
		{"silent for an hour", time.Hour, 5000, 1, both, kernel, anew, 1, 0, 0},
	} {
		var before, after [MaxFloods]uint64
		var got int32
		now := h.inOneTick(func(now uint64) {
			h.setFlood(at, floodState{now - uint64(c.age), c.count, c.seat})
			before = [MaxFloods]uint64{now - uint64(c.seats[0]), now - uint64(c.seats[1])}
			h.setRenewed(before)
		}, func() { got = h.verdict(pkt, 0) })
		if got != c.want {
			t.Errorf("%s: %s, want %s", c.name, verdictNames[got], verdictNames[c.want])
		}
		want := floodState{now - uint64(c.age), c.count2, c.seat2}
		if c.anew {
			want.began = now
		}
		if s := h.floodAt(at); s != want {
			t.Errorf("%s: %+v, want %+v", c.name, s, want)
		}
		if after = before; c.renews > 0 {
			after[c.renews-1] = now
		}
		if s := h.renewed(); s != after {
			t.Errorf("%s: the seats were renewed at %d, want %d", c.name, s, after)
		}
	}
}

// As many floods as there are seats, and each renews its own.
func TestFloodSeats(t *testing.T) {
	t.Parallel()
	for seats := 1; seats <= MaxFloods; seats++ {
		h := newFloodHost(t, seats)
		for n := range MaxFloods + 1 {
			pkt := unhex(t, innerPacket)
			pkt[21] = byte(n) // of the source port
			var got int32
			var floods int
			h.inOneTick(func(now uint64) {
				var taken [MaxFloods]uint64
				for i := range n {
					if i < seats {
						taken[i] = now
					}
				}
				h.setRenewed(taken)
				h.setFlood(place(t, pkt), floodState{now, 3999, 0})
			}, func() { got, floods = h.verdict(pkt, 0), h.Floods() })
			if user := n < seats; (got == tcxNext) != user || floods != min(n+1, seats) {
				t.Errorf("flood %d with %d seats: %s, and there are %d", n+1, seats, verdictNames[got], floods)
			}
			if n >= seats {
				continue
			}
			var want [MaxFloods]uint64
			want[n] = h.inOneTick(func(now uint64) {
				h.setRenewed([MaxFloods]uint64{})
				h.setFlood(place(t, pkt), floodState{now - uint64(floodWindow), floodEnds, uint32(n + 1)})
			}, func() { got = h.verdict(pkt, 0) })
			if s := h.renewed(); got != tcxNext || s != want {
				t.Errorf("of seat %d of %d: %s, and the seats were renewed at %d, want %d", n+1, seats, verdictNames[got], s, want)
			}
		}
	}
}

// A flow is a flood from its 4000th packet in a window on, ends when it is silent and
// may be one again. In the meantime its seat is another's.
func TestFloodBeginsAndEnds(t *testing.T) {
	t.Parallel()
	h := newLeaving(t)
	h.cfg.Floods = 1
	h.replace(leaving(h.cfg, h.programs.shared, carry()))
	one := unhex(t, innerPacket)
	two := changed(t, one, []change{{21, "89"}})
	send := func(pkt []byte, packets int) (last int32) {
		t.Helper()
		check(t, h.Do(func() error {
			v, _, err := h.programs.egress.Benchmark(pkt, packets, nil)
			last = int32(v)
			return err
		}))
		return last
	}
	// All within one window, if this process is not kept waiting, nor is interrupted by
	// a signal, after which it sends all once more.
	waitFor(t, "a flood", func() bool {
		h.setFloods(floodState{})
		h.setRenewed([MaxFloods]uint64{})
		first := send(one, 3999)
		count := h.floodAt(place(t, one)).count
		return first == carried && count == 3999 && send(one, 1) == tcxNext
	})
	if n := h.Floods(); n > 1 {
		t.Errorf("%d floods", n)
	}
	began := h.floodAt(place(t, one)).began
	waitFor(t, "the flood to have been silent", func() bool { return coarseTime()-began >= uint64(40*time.Millisecond) })
	if n := h.Floods(); n != 0 {
		t.Errorf("%d floods after a silence", n)
	}
	if got := send(one, 1); got != carried {
		t.Errorf("after a silence: %d", got)
	}
	waitFor(t, "another flood", func() bool { return send(two, 4000) == tcxNext })
	if s := h.floodAt(place(t, two)); s.seat != 1 {
		t.Errorf("another flood has seat %d", s.seat)
	}
}

// What is not the kernel's, and what is not UDP, is not counted, whatever stands at its
// place.
func TestFloodsAreUDP(t *testing.T) {
	t.Parallel()
	h := newLeaving(t)
	h.SetSuperpackets(takesSuperpackets, true)
	udp, tcp := unhex(t, innerPacket), unhex(t, tcpPacket)
	for _, c := range []struct {
		name    string
		pkt     []byte
		changes []change
		gsoSize uint32
		want    int32
		counted bool
	}{
		{"UDP", udp, nil, 0, tcxNext, true},
		{"TCP", tcp, nil, 0, carried, false},
		{"TCP superpacket", tcp, nil, 100, carried, false},
		{"TCP superpacket to a peer that takes none", tcp, []change{{18, "06"}}, 100, tcxNext, false},
		{"UDP superpacket", udp, nil, 8, tcxNext, false},
		{"ICMP", udp, []change{{9, "01"}}, 0, carried, false},
		{"UDP lite", udp, []change{{9, "88"}}, 0, carried, false},
		{"first fragment", udp, []change{{6, "2000"}}, 0, tcxNext, false},
		{"options", udp, []change{{0, "46"}}, 0, tcxNext, false},
		{"to nobody", udp, []change{{16, "0b"}}, 0, tcxNext, false},
		{"to user space's peer", udp, []change{{18, "04"}}, 0, tcxNext, false},
		{"source not in the own subnet", udp, []change{{14, "02"}}, 0, tcxNext, false},
		{"as long as the limit", udp, []change{{18, "05"}}, 0, tcxNext, true},
		{"longer than the limit", udp, []change{{18, "03"}}, 0, tcxNext, false},
	} {
		pkt := changed(t, c.pkt, c.changes)
		h.forget()
		h.setFloods(floodState{now(t) + uint64(time.Hour), 7, 1})
		if got := h.marked(pkt, c.gsoSize, 0); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		want := []uint32(nil)
		if c.counted {
			want = []uint32{place(t, pkt)}
		}
		if got := h.counted(7); !slices.Equal(got, want) {
			t.Errorf("%s: counted at places %d, want %d", c.name, got, want)
		}
		if h.renewed() != [MaxFloods]uint64{} {
			t.Errorf("%s takes a seat", c.name)
		}
	}
}

// setFloods makes all places alike.
func (h *egressHost) setFloods(s floodState) {
	var all []byte
	for range flowPlaces {
		all = binary.NativeEndian.AppendUint64(all, s.began)
		all = binary.NativeEndian.AppendUint32(all, s.count)
		all = binary.NativeEndian.AppendUint32(all, s.seat)
	}
	h.floods.WriteAt(all, 0)
}

// counted are the places at which there is another count.
func (h *egressHost) counted(before uint32) (places []uint32) {
	all := make([]byte, floodSeats)
	h.floods.ReadAt(all, 0)
	for i := range uint32(flowPlaces) {
		if binary.NativeEndian.Uint32(all[i*floodLen+8:]) != before {
			places = append(places, i)
		}
	}
	return places
}

// Without seats there are no floods, nor anything that looks for them.
func TestFloodsOff(t *testing.T) {
	t.Parallel()
	h := newFloodHost(t, 0)
	pkt := unhex(t, innerPacket)
	h.setFloods(floodState{now(t) + uint64(time.Hour), 3999, 1})
	if got := h.verdict(pkt, 0); got != tcxRedirect || h.counted(3999) != nil {
		t.Errorf("%s, counted at places %d", verdictNames[got], h.counted(3999))
	}
	off, on := h.cfg, h.cfg
	on.Floods = 1
	without, with := egress(off, h.programs.shared), egress(on, h.programs.shared)
	if n := len(noteHash(on)) + len(leaveFloods(on, h.programs.shared)); len(with)-len(without) != n || n < 20 {
		t.Errorf("%d instructions, %d without floods, which %d are for", len(with), len(without), n)
	}
	for _, i := range without {
		if i.IsLoadFromMap() && int32(i.Constant) == int32(h.programs.floods.FD()) || i == asm.FnKtimeGetCoarseNs.Call() {
			t.Errorf("%v", i)
		}
	}
}

// Floods counts the seats that were renewed lately, and no others.
func TestFloods(t *testing.T) {
	t.Parallel()
	h := newFloodHost(t, 3)
	const silence = 40 * time.Millisecond
	for _, c := range []struct {
		ages [MaxFloods]time.Duration
		want int
	}{
		{[MaxFloods]time.Duration{time.Hour, time.Hour, time.Hour, 0}, 0}, // the last is not in use
		{[MaxFloods]time.Duration{0, time.Hour, time.Hour, time.Hour}, 1},
		{[MaxFloods]time.Duration{silence - 1, silence, silence - 1, time.Hour}, 2},
		{[MaxFloods]time.Duration{0, 0, -time.Hour, 0}, 3}, // another CPU is ahead
	} {
		var got int
		h.inOneTick(func(now uint64) {
			var all [MaxFloods]uint64
			for i, age := range c.ages {
				all[i] = now - uint64(age)
			}
			h.setRenewed(all)
		}, func() { got = h.Floods() })
		if got != c.want {
			t.Errorf("%v: %d floods, want %d", c.ages, got, c.want)
		}
	}
	check(t, h.Close())
	if n := h.Floods(); n != 0 {
		t.Errorf("%d floods after Close", n)
	}
}
