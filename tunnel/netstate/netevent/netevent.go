// Package netevent receives what the kernel tells everybody about links,
// addresses, routes and, if asked for, neighbours (rtnetlink multicasts).
package netevent

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	// bufferSize holds some thousand events, in bytes.
	bufferSize = 1 << 20

	// maxDatagram is more than the kernel puts into one event, in bytes: a few
	// KiB, for links with many virtual functions.
	maxDatagram = 64 << 10
)

// ErrLost says that events came faster than they were read, and some are
// lost: anything may have happened. Those after it are received as before.
var ErrLost = errors.New("netlink events were lost")

// Subscription is a socket for events. Next is for one goroutine; Close may be
// called from any.
type Subscription struct {
	file *os.File
	buf  []byte
}

// Subscribe opens a subscription to links, addresses and routes, both address
// families, in the network namespace of the calling thread.
func Subscribe() (*Subscription, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	// Without CAP_NET_ADMIN the buffer stays at its default size, and events
	// are lost sooner.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize)
	const groups = unix.RTMGRP_LINK | unix.RTMGRP_IPV4_IFADDR | unix.RTMGRP_IPV6_IFADDR |
		unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: groups}); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("subscribe to netlink events: %w", err)
	}
	return &Subscription{
		file: os.NewFile(uintptr(fd), "netlink events"), // non-blocking, so that Close wakes Next
		buf:  make([]byte, maxDatagram),
	}, nil
}

// WatchNeighbours adds the events of neighbours and of the forwarding entries
// of bridges and VXLAN links.
func (s *Subscription) WatchNeighbours() error {
	raw, err := s.file.SyscallConn()
	if err != nil {
		return fmt.Errorf("subscribe to neighbours: %w", err)
	}
	var joinErr error
	err = raw.Control(func(fd uintptr) {
		joinErr = unix.SetsockoptInt(int(fd), unix.SOL_NETLINK, unix.NETLINK_ADD_MEMBERSHIP, unix.RTNLGRP_NEIGH)
	})
	if err := errors.Join(err, joinErr); err != nil {
		return fmt.Errorf("subscribe to neighbours: %w", err)
	}
	return nil
}

// Next waits for events; they are valid until the next call. The error is
// ErrLost, or final: os.ErrClosed after Close, and no other is known.
func (s *Subscription) Next() ([]syscall.NetlinkMessage, error) {
	n, err := s.file.Read(s.buf)
	if errors.Is(err, unix.ENOBUFS) {
		return nil, ErrLost
	}
	if err != nil {
		return nil, fmt.Errorf("read netlink events: %w", err)
	}
	messages, err := syscall.ParseNetlinkMessage(s.buf[:n])
	if err != nil {
		return nil, ErrLost
	}
	return messages, nil
}

// Close ends the subscription and wakes Next.
func (s *Subscription) Close() error { return s.file.Close() }

// Attribute finds the value of a netlink attribute (struct nlattr: length with
// these four bytes, type; the next one is aligned to four); nil if there is
// none.
func Attribute(b []byte, typ uint16) []byte {
	for len(b) >= unix.SizeofNlAttr {
		length := int(binary.NativeEndian.Uint16(b))
		if length < unix.SizeofNlAttr || length > len(b) {
			return nil
		}
		if binary.NativeEndian.Uint16(b[2:]) == typ {
			return b[unix.SizeofNlAttr:length]
		}
		b = b[min((length+3)&^3, len(b)):]
	}
	return nil
}
