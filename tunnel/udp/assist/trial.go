package assist

import (
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// sender is a packet socket (packet(7)) by which superpackets leave by a TUN, as
// those of the host's TCP do. It is bound to no protocol and receives nothing.
type sender struct{ fd int }

// openSender opens the socket, in the network namespace of the calling goroutine's
// thread. What it sends has the mark, which the programs know trials by.
func openSender(mark uint32) (*sender, error) {
	// SOCK_RAW, though a TUN has no link-layer header: other types take no
	// virtio_net_hdr (packet_setsockopt in net/packet/af_packet.c).
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open a packet socket: %w (it takes CAP_NET_RAW, and that nothing forbids AF_PACKET)", err)
	}
	for _, o := range []struct{ level, name, value int }{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1},
		{unix.SOL_SOCKET, unix.SO_MARK, int(mark)},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			unix.Close(fd)
			return nil, fmt.Errorf("set up a packet socket: %w", err)
		}
	}
	return &sender{fd}, nil
}

// tcpLen is the length of a trial's TCP header, and where its checksum is there.
const (
	tcpLen      = 20
	tcpChecksum = 16
)

// send sends a trial (probe.BuildTrial), the segments of which are packets of so
// many bytes, by the TUN with an interface index. An error may mean that the TUN is
// gone or down, or that the programs have dropped the trial.
func (s *sender) send(tun int, trial []byte, segment int) error {
	header := packet.VnetHdr{
		Flags: packet.FlagNeedsCsum, GSOType: packet.GSOTCPv4,
		HdrLen: ipLen + tcpLen, GSOSize: uint16(segment - ipLen - tcpLen),
		CsumStart: ipLen, CsumOffset: tcpChecksum,
	}
	b := make([]byte, packet.VnetHdrLen, packet.VnetHdrLen+len(trial))
	header.Encode(b)
	to := &unix.SockaddrLinklayer{Ifindex: tun, Protocol: uint16(wire16(unix.ETH_P_IP))}
	if err := unix.Sendto(s.fd, append(b, trial...), 0, to); err != nil {
		return fmt.Errorf("send a trial: %w", err)
	}
	return nil
}

// close closes the socket, if there is one.
func (s *sender) close() error {
	if s == nil || s.fd < 0 {
		return nil
	}
	err := unix.Close(s.fd)
	s.fd = -1
	return err
}
