package packet

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

const offloads = unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6

// tun is a TUN device with vnet headers, as the engine opens it.
type tun struct {
	f  *os.File // non-blocking, for Read with a deadline
	fd int
}

// openTUN makes a TUN device in the namespace, up, with the addresses given.
func openTUN(t *testing.T, ns *lab.Namespace, name string, offloads int, addrs ...string) *tun {
	t.Helper()
	d := &tun{}
	err := ns.Do(func() (err error) {
		if d.fd, err = unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0); err != nil {
			return err
		}
		ifr, err := unix.NewIfreq(name)
		if err == nil {
			ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(d.fd, unix.TUNSETIFF, ifr)
		}
		if err == nil {
			err = unix.IoctlSetInt(d.fd, unix.TUNSETOFFLOAD, offloads)
		}
		// Not before TUNSETIFF: until then the descriptor cannot be polled.
		d.f = os.NewFile(uintptr(d.fd), "/dev/net/tun")
		t.Cleanup(func() { d.f.Close() })
		return err
	})
	if err != nil {
		t.Fatalf("open TUN %s: %v", name, err)
	}
	for _, a := range addrs {
		if err := ns.AddAddr(name, netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	return d
}

// read waits for one packet, at most until the read deadline of d.f.
func (d *tun) read() (h VnetHdr, pkt []byte, err error) {
	return vnetPacket(d.f.Read)
}

// readNow is read without waiting; EAGAIN if there is nothing.
func (d *tun) readNow() (h VnetHdr, pkt []byte, err error) {
	return vnetPacket(func(b []byte) (int, error) { return unix.Read(d.fd, b) })
}

// vnetPacket reads one packet into memory of its own.
func vnetPacket(read func([]byte) (int, error)) (h VnetHdr, pkt []byte, err error) {
	buf := make([]byte, VnetHdrLen+65536)
	n, err := read(buf)
	if err != nil {
		return h, nil, err
	}
	if !h.Decode(buf[:n]) {
		return h, nil, errors.New("no vnet header")
	}
	return h, buf[VnetHdrLen:n], nil
}

// write writes a run with one system call.
func (d *tun) write(r *Run) error {
	want := len(slices.Concat(r.Pieces...))
	n, err := unix.Writev(d.fd, r.Pieces)
	if err == nil && n != want {
		return errors.New("written in part")
	}
	return err
}
