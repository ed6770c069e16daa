package udp

import (
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestModeration(t *testing.T) {
	const us = int64(time.Microsecond)
	type step struct {
		at        int64 // µs
		datagrams int
		on        bool // after it
	}
	for name, steps := range map[string][]step{
		"nothing":             {{5000, 0, false}, {6000, 0, false}},
		"flood":               {{5000, 64, false}, {5500, 36, false}, {6000, 1, true}, {6999, 98, true}, {7000, 1, false}},
		"one too few":         {{5000, 64, false}, {5999, 35, false}, {6000, 500, false}, {7000, 0, true}},
		"just in time":        {{5000, 100, false}, {6999, 0, true}},
		"too late":            {{5000, 100, false}, {7000, 0, false}},
		"silence ends it":     {{5000, 100, false}, {6000, 100, true}, {8000, 1, false}},
		"a rate that goes on": {{5000, 100, false}, {6000, 100, true}, {7000, 100, true}, {8000, 100, true}, {9000, 99, true}, {10000, 0, false}},
	} {
		for _, taken := range []int{0, 64} { // which makes no difference to the TUN's
			var m moderation
			for i, s := range steps {
				if m.note(s.at*us, s.datagrams, taken); m.tun != s.on || m.ring != (taken > 0) {
					t.Errorf("%s, step %d, %d taken from the ring: %+v", name, i, taken, m)
				}
			}
		}
	}
}

// One packet in the ring is a flood, until there was none for 40 ms, whatever comes
// from the TUN.
func TestModerationOfRing(t *testing.T) {
	const ms = int64(time.Millisecond)
	type step struct {
		at    int64 // ns
		taken int
		on    bool // after it
	}
	for name, steps := range map[string][]step{
		"nothing":         {{0, 0, false}, {1, 0, false}, {50 * ms, 0, false}},
		"the first":       {{5 * ms, 0, false}, {5*ms + 1, 1, true}},
		"not yet over":    {{5 * ms, 64, true}, {45*ms - 1, 0, true}},
		"over":            {{5 * ms, 64, true}, {45 * ms, 0, false}, {46 * ms, 0, false}},
		"it goes on":      {{5 * ms, 64, true}, {45*ms - 1, 1, true}, {85*ms - 2, 0, true}, {85*ms - 1, 0, false}},
		"late, but there": {{5 * ms, 64, true}, {5000 * ms, 1, true}, {5039 * ms, 0, true}},
		"again":           {{5 * ms, 1, true}, {45 * ms, 0, false}, {60 * ms, 1, true}, {99 * ms, 0, true}, {100 * ms, 0, false}},
	} {
		for _, datagrams := range []int{0, 1000} {
			var m moderation
			for i, s := range steps {
				if m.note(s.at, datagrams, s.taken); m.ring != s.on || m.tun && datagrams == 0 {
					t.Errorf("%s, step %d, %d from the TUN: %+v", name, i, datagrams, m)
				}
			}
		}
	}
}

// recordingPoller has something ready at the sockets or nothing at all.
type recordingPoller struct {
	sockets int16   // what is ready at them
	want    []int16 // of the TUN, the ring and each socket
	timeout time.Duration
}

func (p *recordingPoller) poll(ports []portState, timeout time.Duration) {
	p.want, p.timeout = nil, timeout
	for i := range ports {
		p.want = append(p.want, ports[i].want)
		ports[i].ready = p.sockets
	}
	ports[tunAt].ready, ports[ringAt].ready = 0, 0
}

// Only while a flood lasts, and only with nothing left to read, does a packet wait,
// but none that arrives at a socket, nor one by the way that the flood does not come.
func TestFloodPauses(t *testing.T) {
	const in = unix.POLLIN
	for _, c := range []struct {
		tun, ring, drained bool
		want               []int16
		timeout            time.Duration
		ready              int16 // at the TUN
	}{
		{false, false, false, []int16{in, in, in}, 0, 0},
		{false, false, true, []int16{in, in, in}, 0, 0},
		{true, false, false, []int16{in, in, in}, 0, 0},
		{true, false, true, []int16{0, in, in}, 50 * time.Microsecond, in},
		{false, true, false, []int16{in, in, in}, 0, 0},
		{false, true, true, []int16{in, 0, in}, 50 * time.Microsecond, 0},
		{true, true, false, []int16{in, in, in}, 0, 0},
		{true, true, true, []int16{0, 0, in}, 50 * time.Microsecond, in},
	} {
		for _, sockets := range []int16{0, in, unix.POLLERR} {
			m := newMemNode(t, 1)
			poller := &recordingPoller{sockets: sockets}
			m.worker.poller = poller
			m.worker.moderation.tun, m.worker.moderation.ring, m.sender.drained = c.tun, c.ring, c.drained
			m.worker.await()
			if !slices.Equal(poller.want, c.want) || poller.timeout != c.timeout {
				t.Errorf("%+v: wanted %#x for %v", c, poller.want, poller.timeout)
			}
			if tun, socket := m.worker.ports[tunAt].ready, m.worker.ports[socketsAt].ready; tun != c.ready || socket != sockets {
				t.Errorf("%+v: then ready %#x, %#x, want %#x at the socket", c, tun, socket, sockets)
			}
		}
	}
}

// floodingPoller gives a worker datagrams until it pauses for them, and nothing
// then until it does so no more.
type floodingPoller struct {
	*memNode
	t       *testing.T
	pauses  int
	expires time.Time
}

func (p *floodingPoller) poll(ports []portState, timeout time.Duration) {
	p.socket.sent = nil
	ports[tunAt].ready, ports[socketsAt].ready = 0, 0
	switch {
	case time.Now().After(p.expires):
		p.t.Errorf("%d pauses", p.pauses)
		p.closing.Store(true)
	case timeout > 0:
		p.pauses++
		time.Sleep(timeout)
	case p.pauses > 0:
		p.closing.Store(true)
	default:
		for range maxReads - 1 {
			p.tun.give(plain(udp4(inside, outside, nil)))
		}
		ports[tunAt].ready = unix.POLLIN
	}
}

// A worker pauses once there is a flood, and no more once it is over.
func TestWorkerPauses(t *testing.T) {
	m := newMemNode(t, 1)
	m.worker.poller = &floodingPoller{memNode: m, t: t, expires: time.Now().Add(time.Minute)}
	check(t, m.worker.run(new(thread)))
}

// What counts as a flood's, and whether there was more.
func TestDatagramsOfABatch(t *testing.T) {
	m := newMemNode(t, 1)
	serve := func(ready int16, datagrams int, drained bool) {
		t.Helper()
		check(t, m.sender.serve(ready))
		if m.sender.datagrams != datagrams || m.sender.drained != drained {
			t.Errorf("%d datagrams, drained %v; want %d, %v", m.sender.datagrams, m.sender.drained, datagrams, drained)
		}
	}
	m.tun.give(plain(udp4(inside, outside, nil)))
	m.tun.give(plain(udp4(inside, outside, counting(100))))
	m.tun.give(plain(tcp4(inside, outside, 1, 0, nil, true)))
	m.tun.give(superUDP(inside, outside, 10, 100))
	serve(unix.POLLIN, 2, true)
	serve(0, 0, true)
	for range maxReads + 1 {
		m.tun.give(plain(udp4(inside, outside, nil)))
	}
	serve(unix.POLLIN, maxReads, false)
	serve(unix.POLLIN, 1, true)
}

// A pause takes as long as it is to take, but for what the machine needs. What is
// ready, and the end of the engine, cut it short.
func TestPauseEnds(t *testing.T) {
	var stop, socket [2]int
	for _, pipe := range []*[2]int{&stop, &socket} {
		check(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
		defer unix.Close(pipe[0])
		defer unix.Close(pipe[1])
	}
	poller := newPoller(stop[0], socket[0], socket[0])
	ports := []portState{{}, {want: unix.POLLIN}}
	// Any one may be late.
	waitFor(t, "a pause of some 50 µs", func() bool {
		begin := time.Now()
		poller.poll(ports, 50*time.Microsecond)
		d := time.Since(begin)
		if d < 50*time.Microsecond || ports[0].ready != 0 || ports[1].ready != 0 {
			t.Errorf("after %v: ready %#x, %#x", d, ports[0].ready, ports[1].ready)
		}
		return d < 10*time.Millisecond
	})
	_, err := unix.Write(socket[1], []byte{1})
	check(t, err)
	if poller.poll(ports, time.Hour); ports[0].ready != 0 || ports[1].ready != unix.POLLIN {
		t.Errorf("ready: %#x, %#x", ports[0].ready, ports[1].ready)
	}
	ports[1].want = 0
	_, err = unix.Write(stop[1], []byte{1})
	check(t, err)
	if poller.poll(ports, time.Hour); ports[0].ready != 0 || ports[1].ready != 0 {
		t.Errorf("at the end ready: %#x, %#x", ports[0].ready, ports[1].ready)
	}
}
