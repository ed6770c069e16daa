package traffic

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// stampedReader reads a connection together with the time at which the kernel
// received the packet that holds the last byte read. How busy the machine is
// with other programs, the reader among them, does not enter.
type stampedReader struct {
	conn    syscall.RawConn
	control []byte
}

func newStampedReader(c syscall.Conn) (*stampedReader, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	stamp := func(fd int) error { return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1) }
	if err := setOption(stamp)("", "", raw); err != nil {
		return nil, fmt.Errorf("have packets stamped: %w", err)
	}
	return &stampedReader{raw, make([]byte, 128)}, nil
}

// read waits for bytes. At the end of a stream the error is io.EOF. What
// arrived before the reader was made has no stamp, and gets the time now.
func (r *stampedReader) read(b []byte) (n int, at time.Time, err error) {
	var control int
	readErr := r.conn.Read(func(fd uintptr) bool {
		n, control, _, _, err = unix.Recvmsg(int(fd), b, r.control, 0)
		return !errors.Is(err, unix.EAGAIN)
	})
	if err = errors.Join(readErr, err); err != nil {
		return 0, at, err
	}
	if n == 0 {
		return 0, at, io.EOF
	}
	return n, stampOf(r.control[:control]), nil
}

func stampOf(control []byte) time.Time {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return time.Now()
	}
	for _, m := range messages {
		if m.Header.Level != unix.SOL_SOCKET || m.Header.Type != unix.SCM_TIMESTAMPNS {
			continue
		}
		var t unix.Timespec
		if _, err := binary.Decode(m.Data, binary.NativeEndian, &t); err == nil {
			return time.Unix(t.Unix())
		}
	}
	return time.Now()
}
