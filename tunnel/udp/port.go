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
	// read reads one packet, with its vnet header if the TUN has any.
	read(b []byte) (int, unix.Errno)
	// writev writes one packet, gathered.
	writev(iov []unix.Iovec) unix.Errno
}

type udpPort interface {
	// sendmmsg returns how many messages were sent: if any, errno is 0.
	sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno)
	recvmmsg(msgs []unix.Mmsghdr) (int, unix.Errno)
	// recverr reads one entry of the error queue, and returns how many bytes of
	// the packet in question it has.
	recverr(msg *unix.Msghdr) (int, unix.Errno)
	// wait blocks until one of events (POLLOUT, or none) or an error is there,
	// or for the timeout, and returns what is there. It blocks no longer once
	// the engine is being closed.
	wait(events int16, timeout time.Duration) (ready int16)
}

// poller waits for input at several ports.
type poller interface {
	// poll blocks until there is input or an error at one of the ports, and
	// sets ready to what is there at each. It blocks no longer once the engine
	// is being closed.
	poll(ready []int16)
}

// fdPort is a port on a descriptor. Which kind of system call a thread makes
// is decided in this file and nowhere else.
type fdPort struct {
	fd   int
	poll [2]unix.PollFd // the descriptor, and the eventfd that ends all waiting
}

var (
	_ tunPort = (*fdPort)(nil)
	_ udpPort = (*fdPort)(nil)
	_ poller  = (*fdPoller)(nil)
)

func newPort(fd, stop int) *fdPort {
	p := &fdPort{fd: fd}
	p.poll[0].Fd, p.poll[1].Fd = int32(fd), int32(stop)
	p.poll[1].Events = unix.POLLIN
	return p
}

func (p *fdPort) wait(events int16, timeout time.Duration) (ready int16) {
	p.poll[0].Events = events
	block(p.poll[:], int(max(timeout/time.Millisecond, 1)))
	return p.poll[0].Revents
}

// fdPoller waits for descriptors.
type fdPoller struct {
	fds []unix.PollFd // the eventfd that ends all waiting, and the ports
}

func newPoller(stop int, ports ...int) *fdPoller {
	p := &fdPoller{fds: []unix.PollFd{{Fd: int32(stop), Events: unix.POLLIN}}}
	for _, fd := range ports {
		p.fds = append(p.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLIN})
	}
	return p
}

func (p *fdPoller) poll(ready []int16) {
	block(p.fds, -1)
	for i := range ready {
		ready[i] = p.fds[1+i].Revents
	}
}

// block waits for descriptors. EINTR is frequent, since the Go runtime preempts
// by signals. A timeout, in milliseconds, then starts anew, which no caller
// minds.
func block(fds []unix.PollFd, timeout int) {
	for {
		if _, err := unix.Poll(fds, timeout); err != unix.EINTR {
			return
		}
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
