package assist

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/netstate"
)

// deviceName is the VXLAN device whose receive path takes the outer headers off
// superpackets: the kernel's own way to do so, after which nothing of the tunnel
// is left in the packet. The ingress program hands them to its port, by lo.
const deviceName = "weft-gso"

// deviceMTU is the least there is. What arrives is not measured by it, and nothing
// leaves by this device; but with less than 1280 bytes an interface has no IPv6.
const deviceMTU = 68

// portTries is how many ports are tried, each of which was free a moment ago.
const portTries = 8

// gsoDevice keeps the device, in one network namespace. Its methods are called
// one at a time, from any thread.
//
// Anybody can send datagrams to its port, and only its program tells them from
// ours. So that is attached before the device is up. A process that is killed
// loses the program first and then the TUN, with which the kernel removes the
// device (vxlan_handle_lowerdev_unregister in drivers/net/vxlan/vxlan_core.c). In
// between the device drops what it gets: it has no IPv6, and for IPv4 no address
// and a reverse path filter, which then finds no way back by it. So nobody has to
// clean up after it, and it has no alias: netstate removes by that.
type gsoDevice struct {
	ns       *netstate.Namespace
	tun      int
	freePort func() (uint16, error)

	index int
	port  uint16 // of UDP
}

// openDevice remembers the network namespace of the calling goroutine's thread,
// which that of the TUN is, an interface index. There is no device until renew.
func openDevice(tun int) (*gsoDevice, error) {
	ns, err := netstate.OpenNamespace()
	if err != nil {
		return nil, err
	}
	return &gsoDevice{ns: ns, tun: tun, freePort: freePort}, nil
}

// renew makes the device, with another index and port than before; one that is
// there already goes. It is down when attach is called, which may be more than
// once: then what was attached before is gone. After an error there is no device.
func (d *gsoDevice) renew(attach func(index int) error) error {
	return d.ns.Do(func() error {
		foreign, err := d.remove()
		if err == nil && foreign != nil {
			err = fmt.Errorf("an interface (%s) has the name already: remove it (ip link delete %s) or give it another name", foreign.Type(), deviceName)
		}
		if err == nil {
			err = openLoopback()
		}
		if err == nil {
			err = d.make(attach)
		}
		if err != nil {
			return fmt.Errorf("make the interface %s: %w", deviceName, err)
		}
		return nil
	})
}

// openLoopback has lo take packets whose source is an address of this host; it
// drops them otherwise, unless a local socket has sent them.
func openLoopback() error {
	lo, err := netlink.LinkByIndex(loopback)
	if err != nil {
		return fmt.Errorf("look at the loopback interface: %w", err)
	}
	if name := lo.Attrs().Name; lo.Attrs().Flags&net.FlagUp == 0 {
		return fmt.Errorf("the interface %s is down: bring it up (ip link set %s up)", name, name)
	}
	return netstate.Sysctl{Key: "net/ipv4/conf/lo/accept_local", Value: "1"}.Set()
}

// make makes the device on some free port.
func (d *gsoDevice) make(attach func(index int) error) error {
	for try := 1; ; try++ {
		port, err := d.freePort()
		if err != nil {
			return fmt.Errorf("find a free UDP port: %w", err)
		}
		err = d.makeOn(port, attach)
		if err == nil {
			return nil
		}
		_, gone := d.remove()
		if taken := errors.Is(err, unix.EADDRINUSE) || errors.Is(err, unix.EEXIST); !taken || gone != nil || try == portTries {
			return errors.Join(err, gone)
		}
	}
}

// makeOn makes the device on one port. EADDRINUSE tells that another socket has
// it, EEXIST that another device of this kind has, which is down.
func (d *gsoDevice) makeOn(port uint16, attach func(index int) error) error {
	if err := addDevice(d.tun, port); err != nil {
		return err
	}
	l, err := netlink.LinkByName(deviceName)
	if err != nil {
		return fmt.Errorf("look at it: %w", err)
	}
	if err := (netstate.Sysctl{Key: "net/ipv4/conf/" + deviceName + "/rp_filter", Value: "1"}).Set(); err != nil {
		return err
	}
	if err := attach(l.Attrs().Index); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(l); err != nil {
		return fmt.Errorf("bring it up on UDP port %d: %w", port, err)
	}
	d.index, d.port = l.Attrs().Index, port
	return nil
}

// freePort finds one that no socket has, neither of IPv4 nor of IPv6: the device
// opens both.
func freePort() (uint16, error) {
	c, err := net.ListenUDP("udp", nil)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	return uint16(c.LocalAddr().(*net.UDPAddr).Port), nil
}

// vxlanGPE is IFLA_VXLAN_GPE in linux/if_link.h, which package nl does not have,
// and neither has package netlink what it stands for.
const vxlanGPE = 27

// addDevice is, but for the MTU:
//
//	ip link add weft-gso type vxlan external gpe nolearning dstport PORT dev TUN
func addDevice(tun int, port uint16) error {
	req := nl.NewNetlinkRequest(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(nl.NewIfInfomsg(unix.AF_UNSPEC))
	req.AddData(nl.NewRtAttr(unix.IFLA_IFNAME, nl.ZeroTerminated(deviceName)))
	req.AddData(nl.NewRtAttr(unix.IFLA_MTU, nl.Uint32Attr(deviceMTU)))
	info := nl.NewRtAttr(unix.IFLA_LINKINFO, nil)
	info.AddRtAttr(nl.IFLA_INFO_KIND, nl.NonZeroTerminated("vxlan"))
	data := info.AddRtAttr(nl.IFLA_INFO_DATA, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_FLOWBASED, nl.Uint8Attr(1))
	data.AddRtAttr(nl.IFLA_VXLAN_LINK, nl.Uint32Attr(uint32(tun)))
	data.AddRtAttr(nl.IFLA_VXLAN_LEARNING, nl.Uint8Attr(0))
	data.AddRtAttr(vxlanGPE, nil)
	data.AddRtAttr(nl.IFLA_VXLAN_PORT, binary.BigEndian.AppendUint16(nil, port))
	req.AddData(info)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return fmt.Errorf("%w: the kernel has no VXLAN (modprobe vxlan)", err)
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run weftd as root or with CAP_NET_ADMIN", err)
	}
	return err
}

// remove deletes the device, if there is one, in the namespace of the calling
// thread. One of that name that cannot be ours is returned.
func (d *gsoDevice) remove() (foreign netlink.Link, err error) {
	l, err := netlink.LinkByName(deviceName)
	switch {
	case errors.As(err, &netlink.LinkNotFoundError{}):
		return nil, nil
	case err != nil:
		return nil, fmt.Errorf("look for the interface %s: %w", deviceName, err)
	case !d.isOurs(l):
		return l, nil
	}
	if err := netlink.LinkDel(l); err != nil && !errors.Is(err, unix.ENODEV) {
		return nil, fmt.Errorf("remove the interface %s: %w", deviceName, err)
	}
	return nil, nil
}

// isOurs tells an interface of our name from others, another weftd's among them: it
// hangs on our TUN, and is VXLAN, external, and GPE, for only such a one has no link
// layer.
func (d *gsoDevice) isOurs(l netlink.Link) bool {
	v, ok := l.(*netlink.Vxlan)
	return ok && v.VtepDevIndex == d.tun && v.FlowBased && v.EncapType == "none"
}

// check tells why superpackets handed to the device would be lost, nil if they
// would not: somebody has removed it, or taken it or lo down. A process or host that
// has no memory or descriptors left to look with says nothing of the device, and
// could not make another.
func (d *gsoDevice) check() error {
	err := d.ns.Do(func() error {
		l, err := netlink.LinkByIndex(d.index)
		switch {
		case errors.As(err, &netlink.LinkNotFoundError{}):
			return fmt.Errorf("the interface %s is gone", deviceName)
		case err != nil:
			return fmt.Errorf("look at the interface %s: %w", deviceName, err)
		case l.Attrs().Flags&net.FlagUp == 0:
			return fmt.Errorf("the interface %s is down", deviceName)
		}
		return openLoopback()
	})
	for _, shortage := range []error{unix.EMFILE, unix.ENFILE, unix.ENOMEM, unix.ENOBUFS} {
		if errors.Is(err, shortage) {
			return nil
		}
	}
	return err
}

// close removes the device.
func (d *gsoDevice) close() error {
	if d == nil || d.ns == nil {
		return nil
	}
	err := d.ns.Do(func() error {
		_, err := d.remove()
		return err
	})
	err = errors.Join(err, d.ns.Close())
	d.ns = nil
	return err
}
