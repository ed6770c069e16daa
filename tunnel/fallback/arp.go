package fallback

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/probe"
)

// arpSocket speaks ARP on one device, which may come and go. It stays in the
// network namespace that it was opened in.
type arpSocket struct {
	fd     int
	device string
	index  int // of the device that it is bound to, 0 if none
	buf    [128]byte
}

func openARP(device string) (*arpSocket, error) {
	// It receives nothing before it is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open packet socket: %w", err)
	}
	return &arpSocket{fd: fd, device: device}, nil
}

// ask asks the device with a MAC whether it has an address. An error says that
// nothing was sent, for reasons of this host.
func (s *arpSocket) ask(own netstate.MAC, from netip.Addr, mac netstate.MAC, to netip.Addr) error {
	if err := s.bind(); err != nil {
		return err
	}
	dst := unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: s.index, Halen: uint8(len(mac))}
	copy(dst.Addr[:], mac[:])
	return unix.Sendto(s.fd, probe.BuildARP(s.buf[:], own, from, to), 0, &dst)
}

// bind follows the device, which is another one after it was made anew.
func (s *arpSocket) bind() error {
	index, err := netstate.IndexBySocket(s.fd, s.device)
	if err != nil || index == s.index {
		return err
	}
	if err := unix.Bind(s.fd, &unix.SockaddrLinklayer{Protocol: networkOrder(unix.ETH_P_ARP), Ifindex: index}); err != nil {
		return fmt.Errorf("bind to %s: %w", s.device, err)
	}
	s.index = index
	return nil
}

// answers calls f for each answer that has come.
func (s *arpSocket) answers(f func(mac netstate.MAC, from netip.Addr)) {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
		switch {
		case err == unix.EINTR:
			continue
		case err != nil: // EAGAIN: no more; ENETDOWN, once: the device is gone
			return
		}
		if mac, from, ok := probe.ReadARP(s.buf[:n]); ok {
			f(mac, from)
		}
	}
}

func (s *arpSocket) close() { unix.Close(s.fd) }

// networkOrder is htons.
func networkOrder(v uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v))
}
