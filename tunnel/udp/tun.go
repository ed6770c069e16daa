package udp

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

const tunPath = "/dev/net/tun"

// tunDevice is a TUN that this process made. It exists as long as one of its
// queues is open.
type tunDevice struct {
	name       string
	queues     []int // descriptors, non-blocking
	vnetHdrErr error // why packets have no virtio_net_hdr, nil if they have
}

// openTUN makes the device with one queue or several. The kernel puts the
// packets of one flow into one queue: that to which the flow's other direction
// is written, or else one by a hash of addresses and ports.
//
// It refuses to join a device that is there already: a second daemon would get
// half of the first one's packets.
//
// wireguard/tun is not used: it takes CSUM and TSO for granted where there is
// a vnet header, its events say nothing of a device that is deleted, and its
// file would have Go's poller woken by each packet. What it would leave to do,
// reading and writing, is the larger part.
func openTUN(name string, vnetHdr bool, queues int) (*tunDevice, error) {
	if len(name) == 0 || len(name) >= unix.IFNAMSIZ {
		return nil, fmt.Errorf("device name %q: it must have 1 to %d bytes", name, unix.IFNAMSIZ-1)
	}
	d := &tunDevice{name: name, vnetHdrErr: errors.New("disabled")}
	flags := unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_MULTI_QUEUE
	if vnetHdr {
		fd, err := openQueue(name, flags|unix.IFF_VNET_HDR|unix.IFF_TUN_EXCL)
		if err == nil {
			d.queues, d.vnetHdrErr = []int{fd}, nil
			if err := d.setHdrLen(); err != nil {
				d.close()
				return nil, err
			}
			return d, d.addQueues(queues-1, flags|unix.IFF_VNET_HDR)
		}
		if !errors.Is(err, unix.EINVAL) {
			return nil, explainTUN(name, err)
		}
		// EINVAL may be a flag that an old or foreign kernel does not know.
		d.vnetHdrErr = fmt.Errorf("open with IFF_VNET_HDR: %w", err)
	}
	fd, err := openQueue(name, flags|unix.IFF_TUN_EXCL)
	if err != nil {
		return nil, explainTUN(name, err)
	}
	d.queues = []int{fd}
	return d, d.addQueues(queues-1, flags)
}

// addQueues opens further queues; on failure it closes d.
func (d *tunDevice) addQueues(n, flags int) error {
	for range n {
		fd, err := openQueue(d.name, flags)
		if err != nil {
			d.close()
			return fmt.Errorf("open another queue: %w", err)
		}
		d.queues = append(d.queues, fd)
	}
	return nil
}

// openQueue opens one queue, non-blocking.
func openQueue(name string, flags int) (fd int, err error) {
	fd, err = unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC|unix.O_NONBLOCK, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", tunPath, err)
	}
	fd = moveUp(fd, tunDescriptors)
	ifr, err := unix.NewIfreq(name)
	if err == nil {
		ifr.SetUint16(uint16(flags))
		err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make device %s: %w", name, err)
	}
	return fd, nil
}

// setHdrLen makes sure of the header's length.
func (d *tunDevice) setHdrLen() error {
	if err := unix.IoctlSetPointerInt(d.queues[0], unix.TUNSETVNETHDRSZ, packet.VnetHdrLen); err != nil {
		return fmt.Errorf("set the header length of %s: %w", d.name, err)
	}
	return nil
}

// close closes all queues, upon which the kernel removes the device.
func (d *tunDevice) close() {
	for _, fd := range d.queues {
		unix.Close(fd)
	}
	d.queues = nil
}

// explainTUN adds what a user can do.
func explainTUN(name string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("%w: load the tun module (modprobe tun), or make the device node (mkdir -p /dev/net; mknod /dev/net/tun c 10 200); in a container, pass it in (--device /dev/net/tun)", err)
	case errors.Is(err, unix.ENODEV) || errors.Is(err, unix.ENXIO):
		return fmt.Errorf("%w: the kernel has no TUN driver: modprobe tun", err)
	case errors.Is(err, unix.EPERM) || errors.Is(err, unix.EACCES):
		return fmt.Errorf("%w: making a TUN needs root or CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL):
		return fmt.Errorf("%w: %s", err, whoHas(name))
	}
	return err
}

// whoHas describes the device of that name which is in the way.
func whoHas(name string) string {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return "the name is taken, or the kernel does not know a flag: ip -details link show " + name
	}
	tun, ok := link.(*netlink.Tuntap)
	switch {
	case !ok:
		return fmt.Sprintf("a device of type %s has this name: remove or rename it (ip link delete %s)", link.Type(), name)
	case tun.Mode != 0 && tun.Mode != netlink.TUNTAP_MODE_TUN:
		return fmt.Sprintf("a TAP has this name: remove it (ip link delete %s)", name)
	case !tun.NonPersist:
		return fmt.Sprintf("a persistent TUN of this name is there: if no process uses it, remove it (ip link delete %s)", name)
	}
	return "another process has it open: does another weftd or flanneld run?"
}

// deleted tells whether an error of writing to a TUN means that the device is
// no more. EIO only means that it is down.
func deleted(errno unix.Errno) bool {
	return errno == unix.EBADFD || errno == unix.EBADF || errno == unix.ENODEV
}
