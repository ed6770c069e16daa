package udp

import (
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

// recordingPoller has nothing ready.
type recordingPoller struct {
	want    int16 // of the TUN
	timeout time.Duration
}

func (p *recordingPoller) poll(ports []portState, timeout time.Duration) {
	p.want, p.timeout = ports[0].want, timeout
	for i := range ports {
		ports[i].ready = 0
	}
}

// Only while a flood lasts, and only with nothing left to read, does a packet wait.
func TestFloodPauses(t *testing.T) {
	for _, on := range []bool{false, true} {
		for _, drained := range []bool{false, true} {
			m := newMemNode(t, 1)
			poller := new(recordingPoller)
			m.worker.poller = poller
			m.worker.moderation.on, m.sender.drained = on, drained
			m.worker.await()
			ready := m.worker.ports[0].ready
			if on && drained {
				if poller.want != 0 || poller.timeout != floodPause || ready != unix.POLLIN {
					t.Errorf("flood: wanted %#x for %v, then %#x", poller.want, poller.timeout, ready)
				}
			} else if poller.want != unix.POLLIN || poller.timeout != 0 || ready != 0 {
				t.Errorf("on %v, drained %v: wanted %#x for %v, then %#x", on, drained, poller.want, poller.timeout, ready)
			}
		}
	}
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

// A pause takes as long as it is to take, but for what the machine needs.
func TestPauseEndsByItself(t *testing.T) {
	var pipe [2]int
	check(t, unix.Pipe2(pipe[:], unix.O_CLOEXEC))
	defer unix.Close(pipe[0])
	defer unix.Close(pipe[1])
	ports := []portState{{}}
	begin := time.Now()
	newPoller(pipe[0], pipe[1]).poll(ports, floodPause)
	if d := time.Since(begin); d < floodPause || ports[0].ready != 0 {
		t.Errorf("after %v: ready %#x", d, ports[0].ready)
	}
}
