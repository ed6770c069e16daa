package generator

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// counter is one thread's, a cache line apart from the others'.
type counter struct {
	bytes, packets atomic.Uint64
	_              [48]byte
}

func (c *counter) add(bytes, packets int) {
	c.bytes.Add(uint64(bytes))
	c.packets.Add(uint64(packets))
}

func (c *counter) count() Count { return Count{Bytes: c.bytes.Load(), Packets: c.packets.Load()} }

// openSocket opens a blocking socket: a thread sleeps in the kernel until it
// can go on, without a detour through Go's poller.
func openSocket(typ int) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, typ|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open socket: %w", err)
	}
	return fd, nil
}

func connectTo(fd int, to netip.AddrPort) error {
	if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}); err != nil {
		return fmt.Errorf("connect to %v: %w", to, err)
	}
	return nil
}

// bindTo binds and returns the port.
func bindTo(fd int, addr netip.AddrPort) (uint16, error) {
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: addr.Addr().As4(), Port: int(addr.Port())}); err != nil {
		return 0, fmt.Errorf("bind to %v: %w", addr, err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		return 0, fmt.Errorf("ask for the port: %w", err)
	}
	own, ok := name.(*unix.SockaddrInet4)
	if !ok {
		return 0, fmt.Errorf("ask for the port: the socket is of another family")
	}
	return uint16(own.Port), nil
}

// filled is a buffer to send. Memory that was never written to is one page of
// zeros however large it is, and would always be in the CPU's nearest cache.
func filled(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}
