package generator

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// answerWithin is when a request without an answer counts as lost.
const answerWithin = 100 * time.Millisecond

// maxSamples is the room for round trips: of half a minute of the shortest.
const maxSamples = 1 << 23

// roundTrip is one request that was answered, in times of a Window's clock.
type roundTrip struct{ sent, took int64 }

type echoClient struct {
	spec  Spec
	fd    int
	trips []roundTrip // the first done of them are valid
	done  atomic.Uint64
	lost  atomic.Uint64
}

func (c *echoClient) open() (_ uint16, err error) {
	c.trips = make([]roundTrip, maxSamples)
	if c.fd, err = openSocket(unix.SOCK_DGRAM); err != nil {
		return 0, err
	}
	timeout := unix.NsecToTimeval(answerWithin.Nanoseconds())
	if err := unix.SetsockoptTimeval(c.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		return 0, fmt.Errorf("set timeout: %w", err)
	}
	return 0, connectTo(c.fd, c.spec.Addr)
}

// run asks again and again. Its system calls do not tell Go's scheduler, whose
// part in a round trip would be as long as the path's; nothing in this process
// waits for the scheduler to stop all threads.
func (c *echoClient) run() error {
	request, answer := make([]byte, c.spec.Size), make([]byte, c.spec.Size)
	for n := uint64(1); ; n++ {
		if c.done.Load() == maxSamples {
			return errors.New("no room for more round trips: measure for a shorter time")
		}
		binary.NativeEndian.PutUint64(request, n)
		start := Now()
		if _, errno := rawIO(unix.SYS_WRITE, c.fd, request); errno != 0 && errno != unix.ECONNREFUSED {
			return fmt.Errorf("send: %w", errno)
		}
		for {
			got, errno := rawIO(unix.SYS_READ, c.fd, answer)
			if errno == unix.EINTR {
				continue
			}
			if errno == unix.EAGAIN || errno == unix.ECONNREFUSED {
				c.lost.Add(1)
				break
			}
			if errno != 0 {
				return fmt.Errorf("receive: %w", errno)
			}
			if got == len(request) && binary.NativeEndian.Uint64(answer) == n {
				i := c.done.Load()
				c.trips[i] = roundTrip{start, Now() - start}
				c.done.Store(i + 1)
				break
			} // else the late answer to one that was given up
		}
	}
}

func (c *echoClient) count() Count {
	count := packetsOf(c.done.Load(), c.spec.Size)
	count.Lost = c.lost.Load()
	return count
}

func (c *echoClient) finish(count *Count, w Window) {
	count.HalfRTT = latency(c.trips[:c.done.Load()], w)
}

// latency summarises the round trips that began and ended within the window.
func latency(trips []roundTrip, w Window) Latency {
	first, _ := slices.BinarySearchFunc(trips, w.Start, func(t roundTrip, start int64) int { return cmp.Compare(t.sent, start) })
	var half []int64
	for _, t := range trips[first:] {
		if t.sent+t.took > w.End {
			break
		}
		half = append(half, t.took/2)
	}
	if len(half) == 0 {
		return Latency{}
	}
	slices.Sort(half)
	// The least sample that so many of a thousand do not exceed.
	rank := func(permille int) int64 { return half[(len(half)*permille+999)/1000-1] }
	return Latency{P50: rank(500), P99: rank(990), P999: rank(999), Max: half[len(half)-1]}
}

type echoServer struct {
	spec     Spec
	fd       int
	answered counter
}

func (s *echoServer) open() (_ uint16, err error) {
	if s.fd, err = openSocket(unix.SOCK_DGRAM); err != nil {
		return 0, err
	}
	return bindTo(s.fd, s.spec.Addr)
}

// run answers the one client there is.
func (s *echoServer) run() error {
	b := make([]byte, s.spec.Size)
	_, from, err := unix.Recvfrom(s.fd, b, unix.MSG_PEEK)
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	if err := unix.Connect(s.fd, from); err != nil {
		return fmt.Errorf("connect to the client: %w", err)
	}
	for {
		n, errno := rawIO(unix.SYS_READ, s.fd, b)
		if errno == 0 {
			_, errno = rawIO(unix.SYS_WRITE, s.fd, b[:n])
		}
		switch errno {
		case 0:
			s.answered.add(1)
		case unix.EINTR:
		default:
			return fmt.Errorf("answer: %w", errno)
		}
	}
}

func (s *echoServer) count() Count          { return packetsOf(s.answered.n.Load(), s.spec.Size) }
func (s *echoServer) finish(*Count, Window) {}

func rawIO(trap uintptr, fd int, b []byte) (int, unix.Errno) {
	n, _, errno := unix.RawSyscall(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	runtime.KeepAlive(b)
	return int(n), errno
}
