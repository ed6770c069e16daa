package e2e

import (
	"encoding/binary"
	"errors"
	"os"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// captureBuffer holds all that a test sends, some 2.5 KB of kernel memory a
// packet, so that nobody need read meanwhile.
const captureBuffer = 128 << 20

// capture hears what comes in by a device, from the network header on.
type capture struct {
	t  testing.TB
	fd int
}

// listenOn begins a capture, which the end of the test closes.
func listenOn(t testing.TB, in *lab.Namespace, device string) *capture {
	t.Helper()
	c := &capture{t: t, fd: -1}
	t.Cleanup(func() {
		if c.fd >= 0 {
			unix.Close(c.fd)
		}
	})
	if err := in.Do(func() (err error) {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		if c.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(c.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, captureBuffer); err != nil {
			return err
		}
		if err := unix.SetsockoptInt(c.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		all := binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL)
		return unix.Bind(c.fd, &unix.SockaddrLinklayer{Protocol: binary.NativeEndian.Uint16(all), Ifindex: link.Attrs().Index})
	}); err != nil {
		t.Fatalf("capture on %s in %s: %v", device, in.Name, err)
	}
	return c
}

// packets returns the IP packets heard so far. It is a failure if the kernel
// had no room for some.
func (c *capture) packets() (list [][]byte) {
	c.t.Helper()
	for buf := make([]byte, 1<<17); ; {
		n, from, err := unix.Recvfrom(c.fd, buf, 0)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if errors.Is(err, unix.EAGAIN) {
			break
		}
		if err != nil {
			c.t.Fatal(os.NewSyscallError("recvfrom", err))
		}
		protocol := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, from.(*unix.SockaddrLinklayer).Protocol))
		if protocol == unix.ETH_P_IP || protocol == unix.ETH_P_IPV6 {
			list = append(list, slices.Clone(buf[:n]))
		}
	}
	stats, err := unix.GetsockoptTpacketStats(c.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	if err != nil {
		c.t.Fatal(err)
	}
	if stats.Drops > 0 {
		c.t.Errorf("the capture missed %d of %d packets", stats.Drops, stats.Packets)
	}
	return list
}
