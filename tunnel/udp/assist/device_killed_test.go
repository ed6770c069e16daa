package assist

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// deviceChild tells the child process of TestDeviceKilled that it is one.
const deviceChild = "WEFT_ASSIST_DEVICE_CHILD"

// A process that is killed leaves nothing.
func TestDeviceKilled(t *testing.T) {
	if os.Getenv(deviceChild) != "" {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
		check(t, err)
		ifr, err := unix.NewIfreq("tun9")
		check(t, err)
		ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI)
		check(t, unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr))
		ifi, err := net.InterfaceByName("tun9")
		check(t, err)
		d, err := openDevice(ifi.Index)
		check(t, err)
		check(t, d.renew(attachNothing))
		fmt.Println("made")
		select {}
	}
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	process := exec.Command(os.Args[0], "-test.run=^TestDeviceKilled$", "-test.v")
	process.Env = append(os.Environ(), deviceChild+"=1")
	process.Stderr = os.Stderr
	out, err := process.StdoutPipe()
	check(t, err)
	check(t, h.Start(process))
	t.Cleanup(func() { process.Process.Kill(); process.Wait() })
	lines := bufio.NewScanner(out)
	for lines.Scan() && lines.Text() != "made" {
	}
	if h.link(deviceName) == nil {
		t.Fatal("the child process has not made the device")
	}
	check(t, process.Process.Kill())
	process.Wait()
	waitFor(t, "the end of the device", func() bool { return h.link(deviceName) == nil })
	d := h.openDevice()
	check(t, d.renew(attachNothing))
}

// forged are datagrams to the device's port, with a packet to the given address
// and port in them.
func forged(to netip.AddrPort) []byte {
	udp := binary.BigEndian.AppendUint16(nil, 4000)
	udp = binary.BigEndian.AppendUint16(udp, to.Port())
	udp = append(udp, 0, 14, 0, 0, 'f', 'o', 'r', 'g', 'e', 'd')
	if to.Addr().Is4() {
		from, dst := inner(2).As4(), to.Addr().As4()
		ip := append([]byte{0x45, 0, 0, 34, 0, 0, 0, 0, 64, 17, 0, 0}, append(from[:], dst[:]...)...)
		fillSum(ip, 0)
		return append(append([]byte{0x0c, 0, 0, 1, 0, 0, 0, 0}, ip...), udp...)
	}
	from, dst := netip.MustParseAddr("fd00::2").As16(), to.Addr().As16()
	ip := append([]byte{0x60, 0, 0, 0, 0, 14, 17, 64}, append(from[:], dst[:]...)...)
	binary.BigEndian.PutUint16(udp[6:], ^packet.Sum(udp, packet.Sum(ip[8:], 17+14)))
	return append(append([]byte{0x0c, 0, 0, 2, 0, 0, 0, 0}, ip...), udp...)
}

// While it has no program nothing comes out of it, whoever sends to its port.
func TestDeviceAlone(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, 2, 1500)
	h, stranger := hosts[0], hosts[1]
	d := h.openDevice()
	check(t, d.renew(attachNothing))
	check(t, h.AddAddr("lo", pfx("fd00::1/128")))
	h.ip("-6", "route", "add", "fd00::2", "dev", "lo") // there is a way back

	for _, inside := range []netip.Addr{inner(1), addr("fd00::1")} {
		var c *net.UDPConn
		check(t, h.Do(func() (err error) {
			c, err = net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(inside, 0)))
			return err
		}))
		defer c.Close()
		check(t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
		to := c.LocalAddr().(*net.UDPAddr).AddrPort()
		// first is the first thing that gets there, of a forgery and then a
		// datagram by lo.
		first := func(from *host) string {
			before := h.link(deviceName).Attrs().Statistics.RxPackets
			_, err := from.socket.WriteTo(forged(to), net.UDPAddrFromAddrPort(netip.AddrPortFrom(outer(1), d.port)))
			check(t, err)
			waitFor(t, "the forgery at the device", func() bool { return h.link(deviceName).Attrs().Statistics.RxPackets > before })
			_, err = c.WriteTo([]byte("honest"), net.UDPAddrFromAddrPort(to))
			check(t, err)
			b := make([]byte, 64)
			n, _, err := c.ReadFrom(b)
			check(t, err)
			return string(b[:n])
		}
		for _, all := range []string{"0", "1", "2"} {
			check(t, h.Sysctl("net/ipv4/conf/all/rp_filter", all))
			for _, from := range []*host{stranger, h} {
				if got := first(from); got != "honest" {
					t.Errorf("all/rp_filter=%s: host %d's %s datagram came through to %v", all, from.number, got, inside)
				}
			}
		}
		// The forgery is good.
		check(t, h.Sysctl("net/ipv4/conf/all/rp_filter", "0"))
		check(t, h.Sysctl("net/ipv4/conf/weft-gso/rp_filter", "0"))
		h.ip("link", "set", deviceName, "mtu", "1280")
		if got := first(stranger); got != "forged" {
			t.Errorf("with nothing in its way a %s datagram came first to %v", got, inside)
		}
		check(t, d.renew(attachNothing))
	}
}
