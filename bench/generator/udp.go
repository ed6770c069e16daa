package generator

import (
	"fmt"
	"runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batch is how many datagrams one system call carries.
const batch = 64

// receiveBuffer is the receiver's socket buffer in bytes, so large that what is
// lost was lost on the way.
const receiveBuffer = 16 << 20

type udpSender struct {
	spec Spec
	fd   int
	counter
}

func (s *udpSender) open() (_ uint16, err error) {
	if s.fd, err = openSocket(unix.SOCK_DGRAM); err != nil {
		return 0, err
	}
	return 0, connectTo(s.fd, s.spec.Addr)
}

// run sends the same bytes again and again.
func (s *udpSender) run() error {
	headers := messages(make([]byte, s.spec.Size), 0)
	for {
		n, errno := call(unix.SYS_SENDMMSG, s.fd, headers, 0)
		switch errno {
		case 0:
			s.add(n*s.spec.Size, n)
		case unix.EINTR, unix.ECONNREFUSED, unix.ENOBUFS:
		default:
			return fmt.Errorf("send: %w", errno)
		}
	}
}

func (s *udpSender) finish(*Count, Window) {}

type udpReceiver struct {
	spec Spec
	fd   int
	counter
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
		bytes := 0
		for i := range n {
			bytes += int(headers[i].Len)
		}
		r.add(bytes, n)
	}
}

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
