package generator

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// connectClient makes connections one after the other, on some threads at
// once: connect, read the byte that the server sends, close. It closes by a
// reset, so that no connection lingers and ports do not run out.
type connectClient struct {
	spec     Spec
	counters []counter
}

func (c *connectClient) open() (uint16, error) {
	c.counters = make([]counter, c.spec.Flows)
	return 0, nil
}

func (c *connectClient) run() error {
	return forEach(make([]int, c.spec.Flows), func(i, _ int) error {
		for {
			if err := c.once(); err != nil {
				return err
			}
			c.counters[i].add(1)
		}
	})
}

func (c *connectClient) once() error {
	fd, err := openSocket(unix.SOCK_STREAM)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
		return fmt.Errorf("set linger: %w", err)
	}
	timeout := unix.NsecToTimeval(dialFor.Nanoseconds())
	for _, option := range []int{unix.SO_SNDTIMEO, unix.SO_RCVTIMEO} {
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &timeout); err != nil {
			return fmt.Errorf("set timeout: %w", err)
		}
	}
	if err := connectTo(fd, c.spec.Addr); err != nil {
		return err
	}
	var b [1]byte
	n, err := retry(func() (int, error) { return unix.Read(fd, b[:]) })
	if err == nil && n == 0 {
		err = errors.New("the server closed the connection")
	}
	if err != nil {
		return fmt.Errorf("receive: %w", err)
	}
	return nil
}

func (c *connectClient) count() Count          { return packetsOf(sum(c.counters), 1) }
func (c *connectClient) finish(*Count, Window) {}

type connectServer struct {
	spec     Spec
	listener int
	counters []counter
}

// backlog is of connections that wait to be accepted: more than there are at
// once, so that none is refused.
const backlog = 2 * maxFlows

func (s *connectServer) open() (port uint16, err error) {
	s.counters = make([]counter, s.spec.Flows)
	if s.listener, err = openSocket(unix.SOCK_STREAM); err != nil {
		return 0, err
	}
	if port, err = bindTo(s.listener, s.spec.Addr); err != nil {
		return 0, err
	}
	if err := unix.Listen(s.listener, backlog); err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	return port, nil
}

func (s *connectServer) run() error {
	return forEach(make([]int, s.spec.Flows), func(i, _ int) error {
		for {
			if err := s.once(); err != nil {
				return err
			}
			s.counters[i].add(1)
		}
	})
}

func (s *connectServer) once() error {
	fd, err := retry(func() (int, error) {
		fd, _, err := unix.Accept4(s.listener, unix.SOCK_CLOEXEC)
		return fd, err
	})
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	defer unix.Close(fd)
	// The client may have gone meanwhile.
	if _, err := retry(func() (int, error) { return unix.Write(fd, []byte{1}) }); err != nil && err != unix.ECONNRESET && err != unix.EPIPE {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (s *connectServer) count() Count          { return packetsOf(sum(s.counters), 1) }
func (s *connectServer) finish(*Count, Window) {}

// retry repeats a system call that a signal interrupted.
func retry(do func() (int, error)) (int, error) {
	for {
		if n, err := do(); err != unix.EINTR {
			return n, err
		}
	}
}
