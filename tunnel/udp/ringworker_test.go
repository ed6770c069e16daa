package udp

import (
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// restingPoller keeps what was wanted of each port.
type restingPoller struct {
	memPoller
	wants [][]int16
}

func (p *restingPoller) poll(ports []portState, timeout time.Duration) {
	var want []int16
	for _, port := range ports {
		want = append(want, port.want)
	}
	p.wants = append(p.wants, want)
	p.memPoller.poll(ports, timeout)
}

// While the sender waits for the underlay, neither the TUN nor the ring wakes it:
// there is no room for what they have.
func TestRingWaitsForUnderlay(t *testing.T) {
	const in = unix.POLLIN
	for errno, want := range map[unix.Errno][]int16{
		unix.EAGAIN:  {0, 0, in | unix.POLLOUT},
		unix.ENOBUFS: {0, 0, in},
	} {
		m := newMemNode(t, 1)
		poller := &restingPoller{memPoller: memPoller{m}}
		m.worker.poller = poller
		small := udp4(inside, outside, nil)
		m.socket.refuse = func(*memSend) unix.Errno {
			if len(poller.wants) > 0 {
				return 0
			}
			// More of everything, of which only what arrives is carried.
			m.tun.give(plain(small))
			m.ring.give(small)
			m.socket.arrive(arrival(udp4(outside, inside, nil)))
			return errno
		}
		m.ring.give(small)
		check(t, m.sender.serve(0))
		for _, got := range poller.wants {
			if !slices.Equal(got, want) {
				t.Errorf("%v: wanted %#x, want %#x", errno, got, want)
			}
		}
		if len(poller.wants) == 0 || len(m.socket.sent) != 1 || len(m.tun.take()) != 1 || !m.ring.waiting() || len(m.tun.input) != 1 {
			t.Errorf("%v: %d waits, %d sent, %d left in the TUN", errno, len(poller.wants), len(m.socket.sent), len(m.tun.input))
		}
	}
}

// pipeRing is a ring whose descriptor is a pipe's, readable only by the packets that
// are to wake somebody.
type pipeRing struct {
	memRing
	fd    int
	later [][]byte // to be there, without a word, two Takes after something was taken
	since int      // Takes since then
}

func (p *pipeRing) Take(arena []byte, packets [][]byte) (n int, more bool) {
	if n, more = p.memRing.Take(arena, packets); n > 0 {
		p.since = 0
		_, _ = unix.Read(p.fd, make([]byte, 100))
		return n, more
	}
	if p.since++; p.since == 2 {
		p.give(p.later...)
		p.later = nil
	}
	return n, more
}

// countingPoller counts how often a worker waits without end.
type countingPoller struct {
	*fdPoller
	idle atomic.Int64
}

func (p *countingPoller) poll(ports []portState, timeout time.Duration) {
	if timeout == 0 {
		p.idle.Add(1)
	}
	p.fdPoller.poll(ports, timeout)
}

// A ring's descriptor wakes a worker for a flood's first packet. From then on it comes
// back by itself, for packets that wake nobody, until there were none for a while; then
// another flood's first packet wakes it again.
func TestRingWakesWorker(t *testing.T) {
	var stop, pipe [2]int
	for _, p := range []*[2]int{&stop, &pipe} {
		check(t, unix.Pipe2(p[:], unix.O_CLOEXEC|unix.O_NONBLOCK))
		defer unix.Close(p[0])
		defer unix.Close(p[1])
	}
	m := newMemNode(t, 1)
	ring := &pipeRing{memRing: memRing{memWaiter: newMemWaiter()}, fd: pipe[0]}
	poller := &countingPoller{fdPoller: newPoller(stop[0], -1, pipe[0], -1)}
	m.sender.ring, m.worker.poller = ring, poller
	state := m.peer().State
	th := startThread("worker", func(err error) { t.Errorf("a thread ended: %v", err) }, m.worker.run)
	defer join([]*thread{th})
	defer func() {
		m.closing.Store(true)
		_, err := unix.Write(stop[1], []byte{1})
		check(t, err)
	}()
	waits := func(times int64) func() bool { return func() bool { return poller.idle.Load() == times } }
	waitFor(t, "the worker to wait", waits(1))
	floods := 0
	for round := int64(1); floods < 3; round++ {
		before := state.Tx.Packets.Load()
		small := udp4(inside, outside, nil)
		ring.later = repeated(small, 3) // which the worker reads after it was woken
		ring.give(small)
		_, err := unix.Write(pipe[1], []byte{1})
		check(t, err)
		waitFor(t, "the worker to wait again", waits(round+1))
		// To a worker that has no CPU for 40 ms the flood is over before.
		if ring.later != nil && round < 50 {
			ring.later = nil
			continue
		}
		if n := state.Tx.Packets.Load() - before; n != 4 {
			t.Fatalf("%d packets sent", n)
		}
		floods++
	}
}
