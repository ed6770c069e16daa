package generator

import (
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// counter is one thread's, a cache line apart from the others'. It is a single
// number, bytes or packets: two that belong together could be read apart.
type counter struct {
	n atomic.Uint64
	_ [56]byte
}

func (c *counter) add(n int) { c.n.Add(uint64(n)) }

func sum(counters []counter) (n uint64) {
	for i := range counters {
		n += counters[i].n.Load()
	}
	return n
}

// packetsOf counts packets that have size bytes each.
func packetsOf(n uint64, size int) Count { return Count{Packets: n, Bytes: n * uint64(size)} }

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
