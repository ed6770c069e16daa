package vxlan

import (
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/netstate"
)

// probeSockets send the datagrams of a ChecksumTest, one at a time. A socket
// stays in the network namespace that it was opened in.
type probeSockets struct {
	fd4, fd6 int // -1: there is none
}

const (
	probeTimeout = 200 * time.Millisecond // for a peer's answer
	probeSize    = 512                    // bytes of payload

	// Ports where nobody listens, as traceroute has them.
	probePort  = 33434
	probePorts = 512
)

// openProbeSockets opens what it can: a kernel without IPv6 has nothing to
// test there.
func openProbeSockets() *probeSockets {
	return &probeSockets{
		openProbeSocket(unix.AF_INET, unix.IPPROTO_IP, unix.IP_RECVERR),
		openProbeSocket(unix.AF_INET6, unix.IPPROTO_IPV6, unix.IPV6_RECVERR),
	}
}

func openProbeSocket(family, level, recverr int) int {
	fd, err := unix.Socket(family, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return -1
	}
	if err := unix.SetsockoptInt(fd, level, recverr, 1); err != nil {
		unix.Close(fd)
		return -1
	}
	return fd
}

func (s *probeSockets) close() {
	for _, fd := range []int{s.fd4, s.fd6} {
		if fd >= 0 {
			unix.Close(fd)
		}
	}
}

// probe is a probe, see there. The datagram leaves by the device whatever the
// better routes are. Its refusal may come by another one, for a fallback's peer
// chooses its way for itself: hence no SO_BINDTODEVICE.
func (s *probeSockets) probe(device string, to netip.Addr, offloaded bool) (refused bool) {
	port := probePort + rand.IntN(probePorts)
	fd, dst := s.fd6, unix.Sockaddr(&unix.SockaddrInet6{Port: port, Addr: to.As16()})
	level, option := unix.IPPROTO_IPV6, unix.IPV6_UNICAST_IF
	if to.Is4() {
		fd, dst = s.fd4, &unix.SockaddrInet4{Port: port, Addr: to.As4()}
		level, option = unix.IPPROTO_IP, unix.IP_UNICAST_IF
	}
	index, err := netstate.IndexBySocket(fd, device)
	if err != nil || unix.SetsockoptInt(fd, level, option, networkOrder(index)) != nil {
		return false
	}
	payload := make([]byte, probeSize)
	for i := range payload { // so that no wrong checksum is right by chance
		payload[i] = byte(rand.Uint32())
	}
	if !sendProbe(fd, dst, payload, offloaded) {
		return false
	}
	return waitRefused(fd, netip.AddrPortFrom(to, uint16(port)))
}

// networkOrder is htonl.
func networkOrder(v int) int {
	return int(binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, uint32(v))))
}

// sendProbe sends a datagram. The kernel leaves the checksum of one written at
// once to the device, if that has the offload, and makes that of one written in
// parts (MSG_MORE) by itself (__ip_append_data, __ip6_append_data).
func sendProbe(fd int, dst unix.Sockaddr, payload []byte, offloaded bool) (sent bool) {
	if offloaded {
		return unix.Sendto(fd, payload, 0, dst) == nil
	}
	half := len(payload) / 2
	if unix.Sendto(fd, payload[:half], unix.MSG_MORE, dst) != nil {
		return false
	}
	return unix.Sendto(fd, payload[half:], 0, dst) == nil
}

// waitRefused reads the socket's error queue until it names the destination.
func waitRefused(fd int, to netip.AddrPort) bool {
	deadline := time.Now().Add(probeTimeout)
	for {
		control := make([]byte, 256)
		_, n, _, from, err := unix.Recvmsg(fd, make([]byte, 1), control, unix.MSG_ERRQUEUE)
		if err == nil {
			if destination(from) == to && refusal(control[:n]) {
				return true
			}
			continue
		}
		left := time.Until(deadline)
		if left <= 0 || !errors.Is(err, unix.EAGAIN) && !errors.Is(err, unix.EINTR) {
			return false
		}
		// POLLERR, for the error queue, is always among the events.
		if _, err := unix.Poll([]unix.PollFd{{Fd: int32(fd)}}, int(left.Milliseconds())+1); err != nil && !errors.Is(err, unix.EINTR) {
			return false
		}
	}
}

// destination is where the datagram went that an error is about.
func destination(sa unix.Sockaddr) netip.AddrPort {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port))
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port))
	}
	return netip.AddrPort{}
}

// refusal reports whether a message of the error queue is a port unreachable.
// It holds a struct sock_extended_err, which begins with the error number.
func refusal(control []byte) bool {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return false
	}
	for _, m := range messages {
		if m.Header.Level == unix.IPPROTO_IP && m.Header.Type == unix.IP_RECVERR ||
			m.Header.Level == unix.IPPROTO_IPV6 && m.Header.Type == unix.IPV6_RECVERR {
			return len(m.Data) >= 4 && binary.NativeEndian.Uint32(m.Data) == uint32(unix.ECONNREFUSED)
		}
	}
	return false
}
