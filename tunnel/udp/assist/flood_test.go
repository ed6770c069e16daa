package assist

import (
	"bytes"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// What a packet makes of a flow, and which way it goes. Ages are those of windows and
// seats; two of four seats are in use.
func TestFloodPackets(t *testing.T) {
	t.Parallel()
	h := newFloodHost(t, 2)
	pkt := unhex(t, innerPacket)
	at := place(t, pkt)
	const (
		ms    = time.Millisecond
		free  = 40 * ms // a seat
		taken = free - 1
		ahead = -time.Hour // by another CPU's clock
		anew  = true       // the window begins now
	)
	type way int
	const (
		kernel way = iota // to the peer
		ring              // of its seat
		user              // by the TUN
	)
	both := [2]time.Duration{taken, taken}
	for _, c := range []struct {
		name        string
		age         time.Duration
		count, seat uint32
		seats       [2]time.Duration
		want        way
		anew        bool
		count2      uint32
		seat2       uint32
		renews      int // which seat's time is now; 0: none
	}{
		{"one of many", 1, 5, 0, [2]time.Duration{free, free}, kernel, false, 6, 0, 0},
		{"the last of a window", 20*ms - 1, 3998, 0, [2]time.Duration{free, free}, kernel, false, 3999, 0, 0},
		{"the first of the next", 20 * ms, 3999, 0, [2]time.Duration{free, free}, kernel, anew, 1, 0, 0},
		{"after an hour", time.Hour, 3999, 0, [2]time.Duration{free, free}, kernel, anew, 1, 0, 0},
		{"one too many", 20*ms - 1, 3999, 0, [2]time.Duration{free, free}, ring, anew, 1, 1, 1},
		{"one too many, ahead", ahead, 3999, 0, [2]time.Duration{free, free}, ring, anew, 1, 1, 1},
		{"the first seat is taken", 0, 3999, 0, [2]time.Duration{taken, free}, ring, anew, 1, 2, 2},
		{"the first seat is taken, ahead", 0, 3999, 0, [2]time.Duration{ahead, free}, ring, anew, 1, 2, 2},
		{"the second seat is taken", 0, 3999, 0, [2]time.Duration{free, taken}, ring, anew, 1, 1, 1},
		{"no seat is free", 0, 3999, 0, both, kernel, false, 4000, 0, 0},
		{"no seat is free yet", 20*ms - 1, 5000, 0, both, kernel, false, 5001, 0, 0},
		{"a seat is free now", 20*ms - 1, 5000, 0, [2]time.Duration{taken, free}, ring, anew, 1, 2, 2},

		{"a flood's", 20*ms - 1, 7, 2, both, ring, false, 8, 2, 0},
		{"a flood's first", 0, 1, 1, both, ring, false, 2, 1, 0},
		{"a flood's, ahead", ahead, 7, 2, both, ring, false, 8, 2, 0},
		{"a flood's next window", 20 * ms, 500, 2, both, ring, anew, 1, 2, 2},
		{"of the first seat", 20 * ms, 500, 1, both, ring, anew, 1, 1, 1},
		{"a flood's next window, late", 40*ms - 1, 500, 2, both, ring, anew, 1, 2, 2},
		{"too slow", 20 * ms, 499, 2, both, kernel, anew, 1, 0, 0},
		{"too slow, late", 40*ms - 1, 499, 2, both, kernel, anew, 1, 0, 0},
		{"silent", 40 * ms, 5000, 2, both, kernel, anew, 1, 0, 0},
		{"silent for an hour", time.Hour, 5000, 1, both, kernel, anew, 1, 0, 0},
		{"a seat without a ring", 0, 7, 3, both, user, false, 8, 3, 0},
		{"a seat that nobody has", 0, 7, 1 << 31, both, user, false, 8, 1 << 31, 0},
	} {
		var before, after [MaxFloods]uint64
		var got int32
		var sent uint64
		var rings [MaxFloods][][]byte
		now := h.inOneTick(func(now uint64) {
			h.setFlood(at, floodState{now - uint64(c.age), c.count, c.seat})
			before = [MaxFloods]uint64{now - uint64(c.seats[0]), now - uint64(c.seats[1])}
			h.setRenewed(before)
		}, func() {
			before := h.sent()
			got = h.verdict(pkt, 0)
			sent, rings = h.sent()-before, h.taken()
		})
		// A flood's packet is redirected to nowhere: it is not sent, and in one ring.
		verdict, sends, in := int32(tcxRedirect), uint64(0), uint32(0)
		switch c.want {
		case kernel:
			sends = 1
		case ring:
			in = c.seat2
		case user:
			verdict = tcxNext
		}
		if got != verdict || sent != sends {
			t.Errorf("%s: %s, %d sent, want %s, %d", c.name, verdictNames[got], sent, verdictNames[verdict], sends)
		}
		if want := onlyIn(in, pkt); !reflect.DeepEqual(rings, want) {
			t.Errorf("%s: the rings have %x, want %x", c.name, rings, want)
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
			var floods, most int
			var rings [MaxFloods][][]byte
			run := func() {
				got = h.verdict(pkt, 0)
				rings = h.taken()
				floods, most, _ = h.Floods()
			}
			h.inOneTick(func(now uint64) {
				var taken [MaxFloods]uint64
				for i := range n {
					if i < seats {
						taken[i] = now
					}
				}
				h.setRenewed(taken)
				h.setFlood(place(t, pkt), floodState{now, 3999, 0})
			}, run)
			want := onlyIn(0, nil)
			if n < seats {
				want = onlyIn(uint32(n+1), pkt)
			}
			if got != tcxRedirect || !reflect.DeepEqual(rings, want) || floods != min(n+1, seats) || most != seats {
				t.Errorf("flood %d with %d seats: %s, %x is in the rings, and there are %d of %d", n+1, seats, verdictNames[got], rings, floods, most)
			}
			if n >= seats {
				continue
			}
			var renewed [MaxFloods]uint64
			renewed[n] = h.inOneTick(func(now uint64) {
				h.setRenewed([MaxFloods]uint64{})
				h.setFlood(place(t, pkt), floodState{now - uint64(floodWindow), floodEnds, uint32(n + 1)})
			}, run)
			if s := h.renewed(); got != tcxRedirect || s != renewed {
				t.Errorf("of seat %d of %d: %s, and the seats were renewed at %d, want %d", n+1, seats, verdictNames[got], s, renewed)
			}
			if !reflect.DeepEqual(rings, want) {
				t.Errorf("of seat %d of %d: the rings have %x, want %x", n+1, seats, rings, want)
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
		before := h.taken() // some, if this process was kept waiting
		if first != carried || count != 3999 || !reflect.DeepEqual(before, onlyIn(0, nil)) || send(one, 1) != tcxRedirect {
			return false
		}
		if got := h.taken(); !reflect.DeepEqual(got, onlyIn(1, one)) {
			t.Errorf("the rings have %x", got)
		}
		return true
	})
	if n, most, lost := h.Floods(); n > 1 || most != 1 || lost != 0 {
		t.Errorf("%d floods of %d, %d packets lost", n, most, lost)
	}
	began := h.floodAt(place(t, one)).began
	waitFor(t, "the flood to have been silent", func() bool { return coarseTime()-began >= uint64(40*time.Millisecond) })
	if n, _, _ := h.Floods(); n != 0 {
		t.Errorf("%d floods after a silence", n)
	}
	if got := send(one, 1); got != carried || !reflect.DeepEqual(h.taken(), onlyIn(0, nil)) {
		t.Errorf("after a silence: %d", got)
	}
	waitFor(t, "another flood", func() bool { return send(two, 4000) == tcxRedirect })
	rings := h.taken()
	if !bytes.Equal(rings[0][0], two) || len(slices.Concat(rings[1:]...)) > 0 {
		t.Errorf("the rings have %x", rings)
	}
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
		{"UDP", udp, nil, 0, tcxRedirect, true},
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
		{"as long as the limit", udp, []change{{18, "05"}}, 0, tcxRedirect, true},
		{"longer than the limit", udp, []change{{18, "03"}}, 0, tcxNext, false},
	} {
		pkt := changed(t, c.pkt, c.changes)
		h.forget()
		h.setFloods(floodState{now(t) + uint64(time.Hour), 7, 1})
		if got := h.marked(pkt, c.gsoSize, 0); got != c.want {
			t.Errorf("%s: %d, want %d", c.name, got, c.want)
		}
		want, rings := []uint32(nil), onlyIn(0, nil)
		if c.counted {
			want, rings = []uint32{place(t, pkt)}, onlyIn(1, pkt)
		}
		if got := h.taken(); !reflect.DeepEqual(got, rings) {
			t.Errorf("%s: the rings have %x, want %x", c.name, got, rings)
		}
		if got := h.counted(7); !slices.Equal(got, want) {
			t.Errorf("%s: counted at places %d, want %d", c.name, got, want)
		}
		if h.renewed() != [MaxFloods]uint64{} {
			t.Errorf("%s takes a seat", c.name)
		}
	}
}

// Without seats there are no floods, nor anything that looks for them.
func TestFloodsOff(t *testing.T) {
	t.Parallel()
	h := newFloodHost(t, 0)
	pkt := unhex(t, innerPacket)
	h.setFloods(floodState{now(t) + uint64(time.Hour), 3999, 1})
	if got := h.verdict(pkt, 0); got != tcxRedirect || h.sent() != 1 || h.counted(3999) != nil {
		t.Errorf("%s, %d sent, counted at places %d", verdictNames[got], h.sent(), h.counted(3999))
	}
	if got := h.taken(); !reflect.DeepEqual(got, onlyIn(0, nil)) {
		t.Errorf("the rings have %x", got)
	}
	off, on := h.cfg, h.cfg
	on.Floods = 1
	without, with := egress(off, h.programs.shared), egress(on, h.programs.shared)
	if n := len(noteHash(on)) + len(divertFloods(on, h.programs.shared)); len(with)-len(without) != n || n < 20 {
		t.Errorf("%d instructions, %d without floods, which %d are for", len(with), len(without), n)
	}
	maps := []*ebpf.Map{h.programs.floods}
	maps = append(maps, h.programs.rings...)
	for _, i := range without {
		ofFloods := func(m *ebpf.Map) bool { return i.IsLoadFromMap() && int32(i.Constant) == int32(m.FD()) }
		if slices.ContainsFunc(maps, ofFloods) || i == asm.FnKtimeGetCoarseNs.Call() {
			t.Errorf("%v", i)
		}
	}
}

// Floods counts the seats that were renewed lately, and no others, and has what the
// programs count.
func TestFloods(t *testing.T) {
	t.Parallel()
	h := newFloodHost(t, 3)
	const silence = 40 * time.Millisecond
	store64(h.floods, floodsLost, 1<<33)
	for _, c := range []struct {
		ages [MaxFloods]time.Duration
		want int
	}{
		{[MaxFloods]time.Duration{time.Hour, time.Hour, time.Hour, 0}, 0}, // the last is not in use
		{[MaxFloods]time.Duration{0, time.Hour, time.Hour, time.Hour}, 1},
		{[MaxFloods]time.Duration{silence - 1, silence, silence - 1, time.Hour}, 2},
		{[MaxFloods]time.Duration{0, 0, -time.Hour, 0}, 3}, // another CPU is ahead
	} {
		var got, most int
		var lost uint64
		h.inOneTick(func(now uint64) {
			var all [MaxFloods]uint64
			for i, age := range c.ages {
				all[i] = now - uint64(age)
			}
			h.setRenewed(all)
		}, func() { got, most, lost = h.Floods() })
		if got != c.want || most != 3 || lost != 1<<33 {
			t.Errorf("%v: %d floods of %d, want %d of 3; %d lost", c.ages, got, most, c.want, lost)
		}
	}
	check(t, h.Close())
	if n, most, lost := h.Floods(); n != 0 || most != 0 || lost != 0 {
		t.Errorf("%d floods of %d after Close, %d lost", n, most, lost)
	}
}
