package assist

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// poller waits in poll(2) for a ring, on a thread of its own.
type poller struct {
	t      *testing.T
	thread int
	events chan int16
}

// pollRing makes a poller, and returns when it waits. Nothing but the ring ends that, no
// signal either.
func pollRing(t *testing.T, r *Ring) *poller {
	t.Helper()
	p := &poller{t: t, events: make(chan int16, 1)}
	thread := make(chan int)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		thread <- unix.Gettid()
		signals, limit := ^uint64(0), unix.Timespec{Sec: 60}
		fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
		_, _, errno := unix.Syscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&fds[0])), 1,
			uintptr(unsafe.Pointer(&limit)), uintptr(unsafe.Pointer(&signals)), unsafe.Sizeof(signals), 0)
		if errno != 0 {
			t.Error(errno)
		}
		p.events <- fds[0].Revents
	}()
	p.thread = <-thread
	waitFor(t, "a thread in poll(2)", p.waits)
	return p
}

// waits reports whether the thread sleeps in poll(2): it has found nothing then, and
// nobody has woken it since.
func (p *poller) waits() bool {
	p.t.Helper()
	// Of a thread that runs, or could, it says "running".
	b, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/syscall", p.thread))
	return err == nil && strings.HasPrefix(string(b), fmt.Sprintf("%d ", unix.SYS_PPOLL))
}

// woken fails unless the thread is woken because there is something to take.
func (p *poller) woken(by string) {
	p.t.Helper()
	select {
	case events := <-p.events:
		if events != unix.POLLIN {
			p.t.Errorf("%s: events %#x", by, events)
		}
	case <-time.After(20 * time.Second):
		p.t.Fatalf("%s does not wake who waits", by)
	}
}

// readableNow is what poll(2) says at once.
func readableNow(t *testing.T, r *Ring) bool {
	t.Helper()
	fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
	n, err := unix.Poll(fds, 0)
	check(t, err)
	return n == 1 && fds[0].Revents == unix.POLLIN
}

// wakes is an epoll instance that notes when the kernel wakes who waits for a ring.
type wakes struct {
	t  *testing.T
	fd int
}

func openWakes(t *testing.T, r *Ring) *wakes {
	t.Helper()
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	check(t, err)
	t.Cleanup(func() { unix.Close(fd) })
	// Edge-triggered: what is readable all the time is no news.
	check(t, unix.EpollCtl(fd, unix.EPOLL_CTL_ADD, r.FD(), &unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET}))
	return &wakes{t, fd}
}

// any reports whether who waits was woken since it was last asked, or is within a time.
func (w *wakes) any(limit time.Duration) bool {
	w.t.Helper()
	for {
		n, err := unix.EpollWait(w.fd, make([]unix.EpollEvent, 1), int(limit.Milliseconds()))
		if err == unix.EINTR {
			continue
		}
		check(w.t, err)
		return n == 1
	}
}

// once fails unless who waits was woken, and nobody fails if so.
func (w *wakes) once(by string) {
	w.t.Helper()
	if !w.any(20 * time.Second) {
		w.t.Errorf("%s does not wake who waits", by)
	}
}

func (w *wakes) nobody(by string) {
	w.t.Helper()
	// What would wake somebody may have to wait for the kernel's next tick.
	now := coarseTime()
	waitFor(w.t, "the next tick", func() bool { return coarseTime() != now })
	if w.any(0) {
		w.t.Errorf("%s wakes who waits", by)
	}
}

// Who waits is woken by the first packet after Take has found nothing, whatever packet of
// a flood it is, and by no other. In any case one can see that there is something.
func TestRingWakes(t *testing.T) {
	t.Parallel()
	h := newRingHost(t, 1)
	r := h.Rings()[0]
	pkt := unhex(t, innerPacket)
	at := place(t, pkt)
	// send sends a packet of a flow until it gets into the ring: this process may be kept
	// waiting, and the flow be silent by then.
	send := func(seat, count uint32, age time.Duration) {
		t.Helper()
		waitFor(t, "a packet in the ring", func() bool {
			h.setRenewed([MaxFloods]uint64{})
			h.setFlood(at, floodState{coarseTime() - uint64(age), count, seat})
			return h.marked(pkt, 0, 0) == tcxRedirect
		})
	}
	arena, packets := make([]byte, MaxRingPacket), make([][]byte, 4)
	take := func(want int, wantMore, readable bool) {
		t.Helper()
		n, more := r.Take(arena, packets)
		if got := readableNow(t, r); n != want || more != wantMore || got != readable {
			t.Errorf("%d packets, more: %v, then something can be seen: %v; want %d, %v, %v", n, more, got, want, wantMore, readable)
		}
	}
	w := openWakes(t, r)
	for range 3 {
		for name, send := range map[string]func(){
			"a flood's first packet":  func() { send(0, floodPackets-1, 0) },
			"a window's first packet": func() { send(1, floodEnds, floodWindow) },
			"a flood's packet":        func() { send(1, 7, -time.Hour) },
		} {
			take(0, false, false)
			send()
			w.once(name)
			for range 5 {
				send()
				w.nobody(name + " behind another")
			}
			take(4, true, true)
			send()
			w.nobody(name + " when some were taken")
			take(3, false, true)
			send()
			w.nobody(name + " when all were taken")
			take(1, false, true)
			take(0, false, false)

			p := pollRing(t, r)
			w.nobody("nothing")
			send()
			p.woken(name)
			w.once(name)
			take(1, false, true)
		}
	}
}

// Who takes packets, and waits whenever there are none, gets all of them, while another
// CPU sends them: nothing is overlooked between the two.
func TestRingWaits(t *testing.T) {
	t.Parallel()
	h := newRingHost(t, 1)
	r := h.Rings()[0]
	const packets = 20000
	var sender sync.WaitGroup
	var over atomic.Bool
	defer func() { over.Store(true); sender.Wait() }()
	sender.Go(func() {
		if err := labtest.OnCPU(1); err != nil {
			t.Error(err)
			return
		}
		for n := range packets {
			// Some at a time, with pauses to wait in.
			for v := tcxDrop; v != tcxRedirect && !over.Load(); {
				got, err := h.programs.egress.Run(&ebpf.RunOptions{Data: numbered(64, n), Context: skb{}})
				if v = int(int32(got)); err != nil || v != tcxRedirect && v != tcxDrop {
					t.Errorf("packet %d: %d, %v", n, v, err)
					return
				}
			}
			for range n % 7 * 500 {
				runtime.KeepAlive(n)
			}
		}
	})
	arena, batch := make([]byte, MaxRingPacket), make([][]byte, 64)
	waits := 0
	for took := 0; took < packets; {
		n, _ := r.Take(arena, batch)
		if took += n; n > 0 {
			continue
		}
		fds := []unix.PollFd{{Fd: int32(r.FD()), Events: unix.POLLIN}}
		waits++
		if n, err := unix.Poll(fds, 20000); n == 0 || err != nil && err != unix.EINTR {
			t.Fatalf("waited in vain for packet %d of %d: %v", took, packets, err)
		}
	}
	t.Logf("waited %d times for %d packets", waits, packets)
}
