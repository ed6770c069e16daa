package generator

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// chunk is how many bytes each call hands over: as iperf3's.
const chunk = 128 << 10

// dialFor is how long a connection may take; SYNs are repeated after 1 and 3 s.
const dialFor = 5 * time.Second

type tcpSender struct {
	spec     Spec
	flows    []int
	counters []counter
}

func (s *tcpSender) open() (uint16, error) {
	s.counters = make([]counter, s.spec.Flows)
	for range s.spec.Flows {
		fd, err := openSocket(unix.SOCK_STREAM)
		if err != nil {
			return 0, err
		}
		if c := s.spec.Congestion; c != "" {
			if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, c); err != nil {
				return 0, fmt.Errorf("set congestion control %s (sysctl net.ipv4.tcp_available_congestion_control lists what there is): %w", c, err)
			}
		}
		timeout := unix.NsecToTimeval(dialFor.Nanoseconds())
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &timeout); err != nil {
			return 0, fmt.Errorf("set timeout: %w", err)
		}
		if err := connectTo(fd, s.spec.Addr); err != nil {
			return 0, err
		}
		if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_SNDTIMEO, &unix.Timeval{}); err != nil {
			return 0, fmt.Errorf("set timeout: %w", err)
		}
		s.flows = append(s.flows, fd)
	}
	return 0, nil
}

func (s *tcpSender) run() error {
	return forEach(s.flows, func(i, fd int) error {
		b := filled(chunk)
		for {
			n, err := unix.Write(fd, b)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("send: %w", err)
			}
			s.counters[i].add(max(n, 0))
		}
	})
}

func (s *tcpSender) count() Count          { return Count{Bytes: sum(s.counters)} }
func (s *tcpSender) finish(*Count, Window) {}

type tcpReceiver struct {
	spec     Spec
	listener int
	counters []counter
}

func (r *tcpReceiver) open() (port uint16, err error) {
	r.counters = make([]counter, r.spec.Flows)
	if r.listener, err = openSocket(unix.SOCK_STREAM); err != nil {
		return 0, err
	}
	if port, err = bindTo(r.listener, r.spec.Addr); err != nil {
		return 0, err
	}
	if err := unix.Listen(r.listener, r.spec.Flows); err != nil {
		return 0, fmt.Errorf("listen: %w", err)
	}
	return port, nil
}

// run accepts the connections, which have been made by the time it is called.
func (r *tcpReceiver) run() error {
	var flows []int
	for range r.spec.Flows {
		fd, _, err := unix.Accept4(r.listener, unix.SOCK_CLOEXEC)
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		flows = append(flows, fd)
	}
	return forEach(flows, func(i, fd int) error {
		b := make([]byte, chunk)
		for {
			n, err := unix.Read(fd, b)
			if err != nil && !errors.Is(err, unix.EINTR) {
				return fmt.Errorf("receive: %w", err)
			}
			if err == nil && n == 0 {
				return nil
			}
			r.counters[i].add(max(n, 0))
		}
	})
}

func (r *tcpReceiver) count() Count          { return Count{Bytes: sum(r.counters)} }
func (r *tcpReceiver) finish(*Count, Window) {}

// forEach runs flow for each descriptor at once, and returns the first error.
func forEach(flows []int, flow func(i, fd int) error) error {
	errs := make(chan error, len(flows))
	var running sync.WaitGroup
	for i, fd := range flows {
		running.Go(func() { errs <- flow(i, fd) })
	}
	running.Wait()
	return <-errs
}
