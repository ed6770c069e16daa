package lab_test

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestTwoNamespacesReachEachOther(t *testing.T) {
	a, b := labtest.Namespace(t, "a"), labtest.Namespace(t, "b")
	if err := lab.Veth(lab.End{In: a, Device: "eth0"}, lab.End{In: b, Device: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	for _, e := range []struct {
		ns   *lab.Namespace
		addr string
	}{{a, "10.99.0.1/24"}, {b, "10.99.0.2/24"}} {
		if err := e.ns.AddAddr("eth0", netip.MustParsePrefix(e.addr)); err != nil {
			t.Fatal(err)
		}
	}
	var server net.PacketConn
	if err := b.Do(func() (err error) { server, err = net.ListenPacket("udp4", "10.99.0.2:9"); return }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if err := a.Do(func() error {
		c, err := net.Dial("udp4", "10.99.0.2:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("weft"))
		return err
	}); err != nil {
		t.Fatal(err)
	}
	server.SetReadDeadline(time.Now().Add(30 * time.Second))
	buf := make([]byte, 16)
	if n, from, err := server.ReadFrom(buf); err != nil || string(buf[:n]) != "weft" || from.(*net.UDPAddr).IP.String() != "10.99.0.1" {
		t.Fatalf("received %q from %v, %v", buf[:n], from, err)
	}
}

// What is sent to an IPv6 address as soon as it was added is not lost either.
func TestAddressIsUsable(t *testing.T) {
	ns := labtest.Namespace(t, "host")
	var server net.PacketConn
	if err := ns.Do(func() (err error) { server, err = net.ListenPacket("udp6", "[::]:9"); return }); err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	server.SetReadDeadline(time.Now().Add(time.Minute))
	for n := range byte(5) {
		addr := netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: 1 + n})
		if err := ns.AddAddr("lo", netip.PrefixFrom(addr, 128)); err != nil {
			t.Fatal(err)
		}
		if err := ns.Do(func() error {
			c, err := net.Dial("udp6", netip.AddrPortFrom(addr, 9).String())
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write([]byte{n})
			return err
		}); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 16)
		if got, _, err := server.ReadFrom(buf); err != nil || got != 1 || buf[0] != n {
			t.Fatalf("to %v: received %x, %v", addr, buf[:got], err)
		}
	}
}
