package udp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
)

// link joins the sockets of two nodes in memory by a wire that loses messages.
func link(a, b *memNode, lose func() bool) {
	wire := func(from, to *memNode) {
		from.socket.deliver = func(s memSend) {
			if s.to != to.socket.addr {
				return
			}
			if lose() {
				return
			}
			s.to = from.socket.addr // as the receiver sees it
			to.socket.arrive(s)
		}
	}
	wire(a, b)
	wire(b, a)
}

// start runs the node's worker until the end of the test.
func (m *memNode) start(t *testing.T) {
	t.Helper()
	fail := func(err error) { t.Errorf("a thread ended: %v", err) }
	threads := []*thread{startThread("worker", fail, m.worker.run)}
	t.Cleanup(func() {
		m.closing.Store(true)
		close(m.input.stopped)
		join(threads)
		for _, th := range threads {
			if th.health() == nil {
				t.Error("a thread that has ended is healthy")
			}
		}
	})
	for _, th := range threads {
		check(t, th.health())
	}
}

// Two engines back to back: whatever arrives is what was sent, in order, also
// when a part of it is lost and peer tables are replaced meanwhile.
func TestBackToBack(t *testing.T) {
	defer goleak.VerifyNone(t)
	t.Run("", func(t *testing.T) {
		a, b := newMemNode(t, 1), newMemNode(t, 2)
		random := rand.New(rand.NewPCG(1, 2))
		var lost atomic.Int64
		link(a, b, func() bool {
			lose := random.IntN(10) == 0
			if lose {
				lost.Add(1)
			}
			return lose
		})
		a.start(t)
		b.start(t)
		const total = 2000
		for i := range total {
			payload := bytes.Repeat([]byte{byte(i)}, 4+i%7*150)
			binary.BigEndian.PutUint32(payload, uint32(i))
			a.tun.give(plain(udp4(inside, outside, payload)))
			if i%100 == 0 {
				a.setPeers(1, testLease(2, setup{}), testLease(3+i/100, setup{}))
				b.setPeers(2, []subnet.Lease{testLease(3+i/100, setup{}), testLease(1, setup{})}...)
			}
		}
		state := a.peer().State
		waitFor(t, "all packets to be sent", func() bool { return state.Tx.Packets.Load() == total })
		rx := b.table.Load().Lookup(addr(inside)).State
		var got [][]byte
		waitFor(t, "the last packets", func() bool {
			got = append(got, unpack(t, b.tun.take())...)
			a.socket.mu.Lock()
			defer a.socket.mu.Unlock()
			return len(got) > 0 && rx.Rx.Packets.Load() == uint64(len(got)) && queued(b) == 0
		})
		if len(got) < total/2 || lost.Load() == 0 || len(got) == total {
			t.Fatalf("%d of %d packets arrived, %d messages lost", len(got), total, lost.Load())
		}
		last := -1
		for _, p := range got {
			i := int(binary.BigEndian.Uint32(p[28:]))
			payload := bytes.Repeat([]byte{byte(i)}, 4+i%7*150)
			binary.BigEndian.PutUint32(payload, uint32(i))
			if i <= last || !bytes.Equal(p, udp4(inside, outside, payload)) {
				t.Fatalf("packet %d after %d:\n%x", i, last, p)
			}
			last = i
		}
	})
}

func queued(m *memNode) int {
	m.socket.mu.Lock()
	defer m.socket.mu.Unlock()
	return len(m.socket.queue)
}

// While the underlay takes nothing, what arrives is carried all the same.
func TestReceiveWhileSenderWaits(t *testing.T) {
	for _, errno := range []unix.Errno{unix.EAGAIN, unix.ENOBUFS} {
		m := newMemNode(t, 1)
		calls := 0
		m.socket.refuse = func(*memSend) unix.Errno {
			if calls++; calls > 1 {
				// The sender has waited once: only then anything arrived.
				if n := len(m.tun.take()); n != 1 {
					t.Errorf("%v: %d packets written meanwhile", errno, n)
				}
				return 0
			}
			m.socket.arrive(arrival(udp4(outside, inside, nil)))
			return errno
		}
		m.tun.give(plain(udp4(inside, outside, nil)))
		check(t, m.sender.serve(unix.POLLIN))
		if calls != 2 || len(m.socket.sent) != 1 || m.worker.err != nil {
			t.Errorf("%v: %d calls, %d sent, error %v", errno, calls, len(m.socket.sent), m.worker.err)
		}
	}
}

// The device is found deleted by what is carried meanwhile.
func TestDeviceGoneWhileSenderWaits(t *testing.T) {
	m := newMemNode(t, 1)
	m.tun.refuse = func([]byte) unix.Errno { return unix.EBADFD }
	m.socket.refuse = func(*memSend) unix.Errno { return unix.EAGAIN }
	m.socket.arrive(arrival(udp4(outside, inside, nil)))
	m.tun.give(plain(udp4(inside, outside, nil)))
	check(t, m.sender.serve(unix.POLLIN))
	if m.worker.err == nil {
		t.Error("no error")
	}
}

// A thread that hangs in a batch is not healthy; one that waits is.
func TestHeartbeat(t *testing.T) {
	stop := make(chan struct{})
	var failure atomic.Value
	th := startThread("test", func(err error) { failure.Store(err) }, func(*thread) error {
		<-stop
		return errors.New("gone")
	})
	check(t, th.health())
	th.busy()
	check(t, th.health())
	th.busySince.Store(int64(time.Since(epoch) - 2*stuckAfter))
	if th.health() == nil {
		t.Error("a thread that hangs is healthy")
	}
	th.idle()
	check(t, th.health())
	close(stop)
	join([]*thread{th})
	if th.health() == nil || failure.Load() == nil {
		t.Error("a thread that failed is healthy")
	}
}

// nullTUN and nullSocket cost nothing themselves, so that what allocates is
// the engine.
type nullTUN struct {
	packets [][]byte
	next    int
	writes  int
}

func (n *nullTUN) read(b []byte) (int, unix.Errno) {
	if n.next == len(n.packets) {
		return 0, unix.EAGAIN
	}
	n.next++
	return copy(b, n.packets[n.next-1]), 0
}

func (n *nullTUN) writev([]unix.Iovec) unix.Errno {
	n.writes++
	return 0
}

type nullSocket struct {
	memSocket
	messages int
}

func (n *nullSocket) sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	n.messages += len(msgs)
	return len(msgs), 0
}

func TestNoAllocations(t *testing.T) {
	m := newMemNode(t, 1)
	small := plain(udp4(inside, outside, make([]byte, 100)))
	tun := &nullTUN{packets: [][]byte{superUDP(inside, outside, 40, 1400), small, small, superUDP(inside, outside, 40, 1400)}}
	socket := &nullSocket{}
	m.sender.tun, m.sender.batches[0][0].port = tun, socket
	if n := testing.AllocsPerRun(100, func() {
		tun.next = 0
		n, err := m.sender.read()
		if err != nil || n != len(tun.packets) {
			t.Fatal(n, err)
		}
		if err := m.sender.forward(m.sender.packets[:n]); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("sending a batch allocates %v times", n)
	}
	if socket.messages == 0 {
		t.Error("nothing was sent")
	}

	a := newMemNode(t, 2)
	a.send(t, superUDP(outside, inside, 40, 1400), plain(udp4(outside, inside, nil)))
	m.receiver.deliver.tun = tun
	for _, s := range a.socket.sent {
		s.to = outer(2, false)
		m.socket.arrive(s)
	}
	received, err := m.receiver.receive()
	check(t, err)
	if n := testing.AllocsPerRun(100, func() {
		if err := m.receiver.accept(received); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Errorf("receiving a batch allocates %v times", n)
	}
	if tun.writes == 0 || m.receiver.deliver.counters.out.packets.Load() == 0 {
		t.Error("nothing was written")
	}
	if fmtDrops := m.drops(); len(fmtDrops) != 0 {
		t.Errorf("drops: %v", fmtDrops)
	}
}
