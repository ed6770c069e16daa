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
		var m moderation
		for i, s := range steps {
			if m.note(s.at*us, s.datagrams); m.on != s.on {
				t.Errorf("%s, step %d: on is %v", name, i, m.on)
			}
		}
	}
}

// recordingPoller has something ready at the sockets or nothing at all.
type recordingPoller struct {
	sockets int16   // what is ready at them
	want    []int16 // of the TUN and each socket
	timeout time.Duration
}

func (p *recordingPoller) poll(ports []portState, timeout time.Duration) {
	p.want, p.timeout = nil, timeout
	for i := range ports {
		p.want = append(p.want, ports[i].want)
		ports[i].ready = p.sockets
	}
	ports[0].ready = 0
}

// Only while a flood lasts, and only with nothing left to read, does a packet wait,
// but none that arrives at a socket.
func TestFloodPauses(t *testing.T) {
	for _, c := range []struct {
		on, drained bool
		sockets     int16
		want        []int16
		timeout     time.Duration
		ready       int16 // at the TUN
	}{
		{false, false, 0, []int16{unix.POLLIN, unix.POLLIN}, 0, 0},
		{false, true, 0, []int16{unix.POLLIN, unix.POLLIN}, 0, 0},
		{true, false, 0, []int16{unix.POLLIN, unix.POLLIN}, 0, 0},
		{true, true, 0, []int16{0, unix.POLLIN}, 50 * time.Microsecond, unix.POLLIN},
		{true, true, unix.POLLIN, []int16{0, unix.POLLIN}, 50 * time.Microsecond, unix.POLLIN},
		{true, true, unix.POLLERR, []int16{0, unix.POLLIN}, 50 * time.Microsecond, unix.POLLIN},
	} {
		m := newMemNode(t, 1)
		poller := &recordingPoller{sockets: c.sockets}
		m.worker.poller = poller
		m.worker.moderation.on, m.sender.drained = c.on, c.drained
		m.worker.await()
		if !slices.Equal(poller.want, c.want) || poller.timeout != c.timeout {
			t.Errorf("%+v: wanted %#x for %v", c, poller.want, poller.timeout)
		}
		if tun, socket := m.worker.ports[0].ready, m.worker.ports[1].ready; tun != c.ready || socket != c.sockets {
			t.Errorf("%+v: then ready %#x, %#x", c, tun, socket)
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
	ports[0].ready, ports[1].ready = 0, 0
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
		ports[0].ready = unix.POLLIN
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
