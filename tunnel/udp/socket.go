package udp

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// socketBuffer is the size in bytes of a socket's send and receive buffers:
// some 10 ms of traffic at the speed of a fast underlay. With 512 KiB, TCP
// inside the tunnel was measured to be 10 to 15 % slower.
const socketBuffer = 8 << 20

// socket is a UDP socket bound to the underlay's address of one family.
type socket struct {
	fd   int
	addr netip.AddrPort
}

// openSockets opens n sockets of one address and port. The kernel gives all
// datagrams that have the same source, address and port, to the same one of
// them (SO_REUSEPORT), which keeps each flow in order.
func openSockets(addr netip.AddrPort, n int) (list []*socket, err error) {
	defer func() {
		if err != nil {
			for _, s := range list {
				s.close()
			}
			list = nil
		}
	}()
	for i := range n {
		// Not the first one: another program's port must not be shared.
		s, err := openSocket(addr, i > 0)
		if err != nil {
			return list, err
		}
		list = append(list, s)
		if n > 1 {
			if err := s.share(); err != nil {
				return list, err
			}
		}
	}
	return list, nil
}

// openSocket opens and binds a non-blocking socket, which may share its port
// with others that do.
func openSocket(addr netip.AddrPort, shared bool) (_ *socket, err error) {
	family := unix.AF_INET
	if addr.Addr().Is6() {
		family = unix.AF_INET6
	}
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return nil, fmt.Errorf("open UDP socket: %w", err)
	}
	s := &socket{fd, addr}
	defer func() {
		if err != nil {
			s.close()
		}
	}()
	if err := s.setOptions(); err != nil {
		return nil, fmt.Errorf("set up UDP socket %v: %w", addr, err)
	}
	if shared {
		if err := s.share(); err != nil {
			return nil, err
		}
	}
	if err := unix.Bind(s.fd, sockaddr(addr)); err != nil {
		return nil, fmt.Errorf("bind UDP socket to %v: %w", addr, explainBind(addr, err))
	}
	return s, nil
}

func (s *socket) setOptions() error {
	type option struct{ level, name, value int }
	options := []option{
		// DF is set and datagrams are never fragmented, but the path MTU the
		// kernel believes in, which anyone can lower by a forged ICMP error,
		// does not keep it from sending.
		{unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE},
		{unix.SOL_IP, unix.IP_RECVTOS, 1},
		{unix.SOL_IP, unix.IP_RECVERR, 1},
	}
	if s.addr.Addr().Is6() {
		options = []option{
			{unix.SOL_IPV6, unix.IPV6_V6ONLY, 1},
			{unix.SOL_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_PROBE},
			{unix.SOL_IPV6, unix.IPV6_RECVTCLASS, 1},
			{unix.SOL_IPV6, unix.IPV6_RECVERR, 1},
		}
	}
	// Each receive tells how many datagrams found the buffer full.
	options = append(options, option{unix.SOL_SOCKET, unix.SO_RXQ_OVFL, 1})
	for _, o := range options {
		if err := unix.SetsockoptInt(s.fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("option %d of level %d: %w", o.name, o.level, err)
		}
	}
	// Beyond net.core.rmem_max only with CAP_NET_ADMIN; otherwise up to there.
	for force, plain := range map[int]int{unix.SO_RCVBUFFORCE: unix.SO_RCVBUF, unix.SO_SNDBUFFORCE: unix.SO_SNDBUF} {
		if unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, force, socketBuffer) == nil {
			continue
		}
		if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, plain, socketBuffer); err != nil {
			return fmt.Errorf("buffer size: %w", err)
		}
	}
	return nil
}

// share lets the sockets opened later have the same port.
func (s *socket) share() error {
	if err := unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		return fmt.Errorf("share UDP port %d among sockets: %w", s.addr.Port(), err)
	}
	return nil
}

// probeSegment tells whether the socket cuts sends into datagrams (Linux 4.18).
func (s *socket) probeSegment() error {
	if _, err := unix.GetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_SEGMENT); err != nil {
		return fmt.Errorf("UDP_SEGMENT: %w", err)
	}
	return nil
}

// enableGRO has the socket join datagrams (Linux 5.0). Before 5.12 it cannot
// be read back; that joining was faulty in ways that need not be worked around.
func (s *socket) enableGRO() error {
	if _, err := unix.GetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_GRO); err != nil {
		return fmt.Errorf("UDP_GRO: %w", err)
	}
	if err := unix.SetsockoptInt(s.fd, unix.SOL_UDP, unix.UDP_GRO, 1); err != nil {
		return fmt.Errorf("UDP_GRO: %w", err)
	}
	return nil
}

// waiting tells whether there is a datagram to be received.
func (s *socket) waiting() bool {
	n, err := unix.IoctlGetInt(s.fd, unix.SIOCINQ) // of the next one; no inner packet is empty
	return err == nil && n > 0
}

// family is the index of the socket's address family: 0 IPv4, 1 IPv6.
func (s *socket) family() int {
	if s.addr.Addr().Is4() {
		return 0
	}
	return 1
}

func (s *socket) close() { unix.Close(s.fd) }

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func explainBind(addr netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, unix.EADDRINUSE):
		return fmt.Errorf("%w: another process has UDP port %d (ss -ulpn sport = :%d shows it); stop it, or set Backend.Port in the network config for all nodes", err, addr.Port(), addr.Port())
	case errors.Is(err, unix.EADDRNOTAVAIL):
		return fmt.Errorf("%w: this host has no address %v, or not yet", err, addr.Addr())
	case errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: ports below 1024 need root or CAP_NET_BIND_SERVICE", err)
	}
	return err
}

// wakeUp is an eventfd that stays readable once it is set: every thread that
// waits, or will wait, sees it.
type wakeUp struct{ fd int }

func newWakeUp() (*wakeUp, error) {
	fd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("make eventfd: %w", err)
	}
	return &wakeUp{fd}, nil
}

func (w *wakeUp) set() {
	one := [8]byte{7: 1, 0: 1} // not zero in either byte order
	// It cannot fail: the counter is far from its limit.
	_, _ = unix.Write(w.fd, one[:])
}

func (w *wakeUp) close() { unix.Close(w.fd) }
