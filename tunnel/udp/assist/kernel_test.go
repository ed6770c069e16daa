package assist

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// ping has h's kernel send an echo request, and waits for the answer. It is an error if
// none comes.
func ping(t *testing.T, h *host, to netip.Addr, size int) error {
	t.Helper()
	var c *icmp.PacketConn
	check(t, h.Do(func() (err error) { c, err = icmp.ListenPacket("ip4:icmp", inner(h.number).String()); return err }))
	defer c.Close()
	check(t, c.SetReadDeadline(time.Now().Add(20*time.Second)))
	echo := icmp.Echo{ID: 1, Seq: 1, Data: bytes.Repeat([]byte{0xa5}, size)}
	request, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &echo}).Marshal(nil)
	check(t, err)
	_, err = c.WriteTo(request, &net.IPAddr{IP: to.AsSlice()})
	check(t, err)
	for buf := make([]byte, 1<<16); ; {
		n, _, err := c.ReadFrom(buf)
		if err != nil {
			return fmt.Errorf("no answer to a ping of %d bytes: %w", size, err)
		}
		answer, err := icmp.ParseMessage(ipv4.ICMPTypeEcho.Protocol(), buf[:n])
		check(t, err)
		if body, ok := answer.Body.(*icmp.Echo); ok && answer.Type == ipv4.ICMPTypeEchoReply {
			if !bytes.Equal(body.Data, echo.Data) {
				t.Fatalf("the answer to a ping of %d bytes differs", size)
			}
			return nil
		}
	}
}

func TestPing(t *testing.T) {
	t.Parallel()
	check(t, labtest.Lossless(t, func() error {
		a, b := newPair(t, 1500)
		for _, size := range []int{0, 1, 56, 1444} { // 28, 29, 84 and 1472 bytes of packet
			for _, h := range []*host{a, b} {
				if err := ping(t, h, inner(3-h.number), size); err != nil {
					return err
				}
			}
		}
		a.untouched()
		b.untouched()
		want := Count{Packets: 16, Bytes: 4 * (28 + 29 + 84 + 1472)} // both ways, requests and answers
		for _, h := range []*host{a, b} {
			tx, rx := h.assist.Traffic(subnet(3 - h.number))
			if half := (Count{want.Packets / 2, want.Bytes / 2}); tx != half || rx != half {
				t.Errorf("host %d: sent %v, received %v; want %v", h.number, tx, rx, half)
			}
			if n := h.assist.Drops(); n != 0 {
				t.Errorf("host %d: %d dropped", h.number, n)
			}
		}
		return nil
	}))
}

func TestUDP(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	buf := make([]byte, 1<<16)
	check(t, labtest.Lossless(t, func() error {
		one, two := a.listen(), b.listen()
		for size := 0; size <= 1444; size += 76 {
			for _, c := range []struct{ from, to net.PacketConn }{{one, two}, {two, one}} {
				data := bytes.Repeat([]byte{byte(size)}, size)
				_, err := c.from.WriteTo(data, c.to.LocalAddr())
				check(t, err)
				n, from, err := c.to.ReadFrom(buf)
				if err != nil {
					return fmt.Errorf("%d bytes do not arrive: %w", size, err)
				}
				if !bytes.Equal(buf[:n], data) || from.String() != c.from.LocalAddr().String() {
					t.Fatalf("%d bytes sent from %v, %d received from %v", size, c.from.LocalAddr(), n, from)
				}
			}
		}
		return nil
	}))
	a.untouched()
	b.untouched()
}

// What is longer than the TUN's MTU arrives by it all the same.
func TestLongArrivals(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	b.ip("link", "set", "flannel0", "mtu", "1000")
	check(t, labtest.Lossless(t, func() error {
		c := b.listen()
		_, err := a.listen().WriteTo(make([]byte, 1400), c.LocalAddr())
		check(t, err)
		n, _, err := c.ReadFrom(make([]byte, 1500))
		if err == nil && n != 1400 {
			t.Errorf("%d bytes arrived", n)
		}
		return err
	}))
	a.untouched()
	b.untouched()
}

// The sums of TCP segments are left to the device, which is a veth: they are
// never filled in.
func TestTCP(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	var l net.Listener
	check(t, b.Do(func() (err error) { l, err = net.Listen("tcp4", netip.AddrPortFrom(inner(2), 0).String()); return err }))
	defer l.Close()
	echoed := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			_, err = io.Copy(c, c)
			c.Close()
		}
		echoed <- err
	}()
	var c net.Conn
	check(t, a.Do(func() (err error) { c, err = net.DialTimeout("tcp4", l.Addr().String(), 20*time.Second); return err }))
	defer c.Close()
	check(t, c.SetDeadline(time.Now().Add(30*time.Second)))
	for i := range 200 { // each too short for a superpacket
		data := fmt.Appendf(nil, "%01000d", i)
		_, err := c.Write(data)
		check(t, err)
		answer := make([]byte, len(data))
		_, err = io.ReadFull(c, answer)
		check(t, err)
		if !bytes.Equal(answer, data) {
			t.Fatal("another answer")
		}
	}
	check(t, c.(*net.TCPConn).CloseWrite())
	if _, err := c.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the end: %v", err)
	}
	check(t, <-echoed)
	a.untouched()
	b.untouched()
}
