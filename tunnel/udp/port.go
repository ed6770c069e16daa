package udp

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tunPort is one queue of the TUN and udpPort one socket, as a thread uses
// them. Each thread has its own ports, though they may share a descriptor.
// Calls do not block, but for wait, and move a whole batch or superpacket
// each. Tests put memory in the place of descriptors.
type tunPort interface {
	waiter
	// read reads one packet, with its vnet header if the TUN has any.
	read(b []byte) (int, unix.Errno)
	// writev writes one packet, gathered.
	writev(iov []unix.Iovec) unix.Errno
}

type udpPort interface {
	waiter
	// sendmmsg returns how many messages were sent: if any, errno is 0.
	sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno)
	recvmmsg(msgs []unix.Mmsghdr) (int, unix.Errno)
	// recverr reads one entry of the error queue, and returns how many bytes of
	// the packet in question it has.
	recverr(msg *unix.Msghdr) (int, unix.Errno)
}

type waiter interface {
	// wait blocks until one of events (POLLIN, POLLOUT) or an error is
	// there, or for the timeout, if it is above zero, and returns what is
	// there. It blocks no longer once the backend is being closed.
	wait(events int16, timeout time.Duration) (ready int16)
}

// fdPort is a port on a descriptor. How a thread waits, and which kind of
// system call it makes, is decided here and nowhere else.
type fdPort struct {
	fd   int
	poll [2]unix.PollFd // the descriptor, and the eventfd that ends all waiting
}

var (
	_ tunPort = (*fdPort)(nil)
	_ udpPort = (*fdPort)(nil)
)

func newPort(fd, stop int) *fdPort {
	p := &fdPort{fd: fd}
	p.poll[0].Fd, p.poll[1].Fd = int32(fd), int32(stop)
	p.poll[1].Events = unix.POLLIN
	return p
}

func (p *fdPort) wait(events int16, timeout time.Duration) (ready int16) {
	ms := -1
	if timeout > 0 {
		ms = int(max(timeout/time.Millisecond, 1))
	}
	for {
		p.poll[0].Events = events
		p.poll[0].Revents = 0
		// EINTR is frequent: the Go runtime preempts by signals. A timeout
		// then starts anew, which no caller minds.
		if _, err := unix.Poll(p.poll[:], ms); err == unix.EINTR {
			continue
		}
		return p.poll[0].Revents
	}
}

func (p *fdPort) read(b []byte) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

func (p *fdPort) writev(iov []unix.Iovec) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
	runtime.KeepAlive(iov)
	return errno
}

func (p *fdPort) sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), 0, 0, 0)
	return int(n), errno
}

func (p *fdPort) recvmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), 0, 0, 0)
	return int(n), errno
}

func (p *fdPort) recverr(msg *unix.Msghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(p.fd), uintptr(unsafe.Pointer(msg)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	return int(n), errno
}
