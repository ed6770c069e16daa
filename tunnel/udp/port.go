package udp

import (
	"runtime"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// tunPort is one queue of the TUN and udpPort one socket, as a thread uses
// them. Calls do not block, and move a whole batch or superpacket each. Tests
// put memory in the place of descriptors.
type tunPort interface {
	// read reads one packet, with its vnet header if the TUN has any.
	read(b []byte) (int, unix.Errno)
	// writev writes one packet, gathered.
	writev(iov []unix.Iovec) unix.Errno
}

// ringPort is where the packets of a flood wait, by the kernel's assist.
type ringPort interface {
	// Take is assist.Ring's.
	Take(arena []byte, packets [][]byte) (n int, more bool)
}

type udpPort interface {
	// sendmmsg returns how many messages were sent: if any, errno is 0.
	sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno)
	recvmmsg(msgs []unix.Mmsghdr) (int, unix.Errno)
	// recverr reads one entry of the error queue, and returns how many bytes of
	// the packet in question it has.
	recverr(msg *unix.Msghdr) (int, unix.Errno)
	// clearError takes away the error that the next call would return.
	clearError()
}

// poller waits for events at several ports.
type poller interface {
	// poll blocks until there is an event that is wanted, or an error, at one
	// of the ports, or for the timeout if it is above zero, and sets ready of
	// each. It blocks no longer once the engine is being closed.
	poll(ports []portState, timeout time.Duration)
}

// portState says what is waited for at a port, and what is there.
type portState struct {
	want  int16 // POLLIN, POLLOUT; 0: nothing, nor errors
	ready int16 // what of it, and POLLERR
}

// fdPort is a port on a descriptor. Which kind of system call a thread makes
// is decided in this file and nowhere else.
type fdPort struct{ fd int }

var (
	_ tunPort = fdPort{}
	_ udpPort = fdPort{}
	_ poller  = (*fdPoller)(nil)
)

// fdPoller waits for descriptors.
type fdPoller struct {
	ports []int         // a negative one is none
	fds   []unix.PollFd // the eventfd that ends all waiting, and the ports
	limit unix.Timespec
}

func newPoller(stop int, ports ...int) *fdPoller {
	p := &fdPoller{ports: ports, fds: make([]unix.PollFd, 1+len(ports))}
	p.fds[0] = unix.PollFd{Fd: int32(stop), Events: unix.POLLIN}
	return p
}

func (p *fdPoller) poll(ports []portState, timeout time.Duration) {
	for i, port := range ports {
		p.fds[1+i] = unix.PollFd{Fd: int32(p.ports[i]), Events: port.want}
		if port.want == 0 {
			p.fds[1+i].Fd = -1 // passed over
		}
	}
	var limit *unix.Timespec
	if timeout > 0 {
		p.limit = unix.NsecToTimespec(int64(timeout))
		limit = &p.limit
	}
	for {
		// EINTR is frequent: the Go runtime preempts by signals. The kernel has
		// then left in limit what remains.
		if _, err := unix.Ppoll(p.fds, limit, nil); err != unix.EINTR {
			break
		}
	}
	for i := range ports {
		ports[i].ready = p.fds[1+i].Revents
	}
}

func (p fdPort) read(b []byte) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_READ, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}

func (p fdPort) writev(iov []unix.Iovec) unix.Errno {
	_, _, errno := unix.Syscall(unix.SYS_WRITEV, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(iov))), uintptr(len(iov)))
	runtime.KeepAlive(iov)
	return errno
}

func (p fdPort) sendmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), 0, 0, 0)
	return int(n), errno
}

func (p fdPort) recvmmsg(msgs []unix.Mmsghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(p.fd), uintptr(unsafe.Pointer(unsafe.SliceData(msgs))), uintptr(len(msgs)), 0, 0, 0)
	return int(n), errno
}

func (p fdPort) recverr(msg *unix.Msghdr) (int, unix.Errno) {
	n, _, errno := unix.Syscall(unix.SYS_RECVMSG, uintptr(p.fd), uintptr(unsafe.Pointer(msg)), unix.MSG_ERRQUEUE|unix.MSG_DONTWAIT)
	return int(n), errno
}

func (p fdPort) clearError() {
	// It cannot fail on a socket, and what it returns is in the queue too.
	_, _ = unix.GetsockoptInt(p.fd, unix.SOL_SOCKET, unix.SO_ERROR)
}
