package generator

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many datagrams one system call carries at most.
const batch = 64

// receiveBuffer is the receiver's socket buffer in bytes, so large that what is
// lost was lost on the way.
const receiveBuffer = 16 << 20

// Each datagram starts with the number of its step, in the machine's order of
// bytes: lost are those of the step that never arrive, however late the others
// do.

type udpSender struct {
	spec      Spec
	fd        int
	datagrams counter
	steps     chan Step
	ended     chan uint64 // datagrams of a step, at its end
}

func newUDPSender(s Spec) *udpSender {
	return &udpSender{spec: s, steps: make(chan Step, 1), ended: make(chan uint64, 1)}
}

func (s *udpSender) open() (_ uint16, err error) {
	if s.fd, err = openSocket(unix.SOCK_DGRAM); err != nil {
		return 0, err
	}
	return 0, connectTo(s.fd, s.spec.Addr)
}

func (s *udpSender) begin(step Step) { s.steps <- step }
func (s *udpSender) end(Step) uint64 { return <-s.ended }

func (s *udpSender) run() error {
	runtime.LockOSThread()
	// A thread's sleep may otherwise be 50 µs longer than asked.
	if err := unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("set timer slack: %w", err)
	}
	payload := filled(s.spec.Size)
	headers := messages(payload, 0)
	for step := range s.steps {
		binary.NativeEndian.PutUint32(payload, step.Number)
		sent, err := s.send(step, headers)
		if err != nil {
			return err
		}
		s.ended <- uint64(sent)
	}
	return nil
}

// send sends the same bytes again and again, to the end of the step.
func (s *udpSender) send(step Step, headers []unix.Mmsghdr) (sent int, err error) {
	p := newPace(step.Rate, Now())
	for now := Now(); now < step.Until; now = Now() {
		n, wake := p.due(now)
		if n == 0 {
			sleep(min(wake, step.Until) - now)
			continue
		}
		n, errno := call(unix.SYS_SENDMMSG, s.fd, headers[:n], 0)
		switch errno {
		case 0:
			s.datagrams.add(n)
			sent += n
			p.sent(n)
		case unix.EINTR, unix.ECONNREFUSED, unix.ENOBUFS:
		default:
			return sent, fmt.Errorf("send: %w", errno)
		}
	}
	return sent, nil
}

func (s *udpSender) count() Count          { return packetsOf(s.datagrams.n.Load(), s.spec.Size) }
func (s *udpSender) finish(*Count, Window) {}

// sleep is a system call that does not tell Go's scheduler, which would let
// the thread wait for a processor afterwards.
func sleep(nanoseconds int64) {
	t := unix.NsecToTimespec(max(nanoseconds, 1))
	unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&t)), 0, 0)
	runtime.KeepAlive(&t)
}

type udpReceiver struct {
	spec      Spec
	fd        int
	datagrams counter
	step      atomic.Uint32 // latest that a datagram was of
	ofStep    atomic.Uint64 // datagrams of that step
}

func (r *udpReceiver) open() (_ uint16, err error) {
	if r.fd, err = openSocket(unix.SOCK_DGRAM); err != nil {
		return 0, err
	}
	if err := unix.SetsockoptInt(r.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer); err != nil {
		return 0, fmt.Errorf("set receive buffer: %w", err)
	}
	return bindTo(r.fd, r.spec.Addr)
}

func (r *udpReceiver) run() error {
	headers := messages(make([]byte, batch*r.spec.Size), r.spec.Size)
	for {
		n, errno := call(unix.SYS_RECVMMSG, r.fd, headers, unix.MSG_WAITFORONE)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 {
			return fmt.Errorf("receive: %w", errno)
		}
		r.take(headers[:n])
	}
}

// take counts a batch. A datagram that was cut on the way is as good as lost.
func (r *udpReceiver) take(batch []unix.Mmsghdr) {
	whole := 0
	for i := range batch {
		if batch[i].Len != uint32(r.spec.Size) {
			continue
		}
		whole++
		r.arrived(binary.NativeEndian.Uint32(unsafe.Slice(batch[i].Hdr.Iov.Base, minDatagram)))
	}
	r.datagrams.add(whole)
}

// arrived counts a datagram of a step. The first one of a later step ends the
// former: this process may hear of a step after its traffic has begun.
func (r *udpReceiver) arrived(step uint32) {
	switch now := r.step.Load(); {
	case step == now:
		r.ofStep.Store(r.ofStep.Load() + 1) // nobody else writes it
	case step > now:
		r.ofStep.Store(1)
		r.step.Store(step)
	}
}

func (r *udpReceiver) begin(Step) {}

// The step's last datagrams may come late, through queues on the way.
const (
	quietFor  = 50 * time.Millisecond // then nothing is under way any more
	quietPoll = 5 * time.Millisecond
	drainFor  = 500 * time.Millisecond // at most
)

func (r *udpReceiver) end(s Step) uint64 {
	SleepUntil(s.Until)
	last, since := r.ofStep.Load(), Now()
	for now := since; (now-since < int64(quietFor) || r.step.Load() != s.Number) && now < s.Until+int64(drainFor); now = Now() {
		time.Sleep(quietPoll)
		if n := r.ofStep.Load(); n != last {
			last, since = n, now
		}
	}
	if r.step.Load() != s.Number {
		return 0 // nothing of it arrived
	}
	return last
}

func (r *udpReceiver) count() Count          { return packetsOf(r.datagrams.n.Load(), r.spec.Size) }
func (r *udpReceiver) finish(*Count, Window) {}

// messages makes the headers of a batch. Message i has its part of the buffer,
// stride bytes long; with stride 0 all have the whole buffer.
func messages(buffer []byte, stride int) []unix.Mmsghdr {
	headers, iovecs := make([]unix.Mmsghdr, batch), make([]unix.Iovec, batch)
	length := stride
	if stride == 0 {
		length = len(buffer)
	}
	for i := range headers {
		iovecs[i].Base = &buffer[i*stride]
		iovecs[i].SetLen(length)
		headers[i].Hdr.Iov = &iovecs[i]
		headers[i].Hdr.SetIovlen(1)
	}
	return headers
}

func call(trap uintptr, fd int, headers []unix.Mmsghdr, flags uintptr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(trap, uintptr(fd), uintptr(unsafe.Pointer(unsafe.SliceData(headers))), uintptr(len(headers)), flags, 0, 0)
	runtime.KeepAlive(headers)
	return int(n), errno
}
