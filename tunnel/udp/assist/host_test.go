package assist

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel/packet"
)

// host is a node in a namespace: eth0 with 192.0.2.20n, and flannel0 with
// 10.5.n.1, to which the network is routed. In place of user space there is
// something that takes note of all that gets there, and carries nothing.
type host struct {
	*lab.Namespace
	t      *testing.T
	number int
	assist *Assist
	super  bool // attach has it carry superpackets, too
	seats  int  // attach has it leave so many floods to rings

	tun    *os.File
	socket net.PacketConn

	mu   sync.Mutex
	sent [][]byte // what user space would have to send: from the TUN, with vnet headers
	got  [][]byte // what user space would have to take: from the socket
}

func outer(n int) netip.Addr    { return addr(fmt.Sprintf("192.0.2.20%d", n)) }
func inner(n int) netip.Addr    { return addr(fmt.Sprintf("10.5.%d.1", n)) }
func subnet(n int) netip.Prefix { return pfx(fmt.Sprintf("10.5.%d.0/24", n)) }

const testPort = 8285

// newHosts makes hosts 1 to n on one switch.
func newHosts(t *testing.T, n, mtu int) (hosts []*host) {
	t.Helper()
	middle := labtest.Namespace(t, "switch")
	var ports []string
	for i := 1; i <= n; i++ {
		h := &host{Namespace: labtest.Namespace(t, fmt.Sprintf("host%d", i)), t: t, number: i}
		port := fmt.Sprintf("port%d", i)
		check(t, lab.Veth(lab.End{In: h.Namespace, Device: "eth0"}, lab.End{In: middle, Device: port}, mtu))
		check(t, h.AddAddr("eth0", netip.PrefixFrom(outer(i), 24)))
		check(t, h.Sysctl("net/ipv4/ip_forward", "1"))
		ports, hosts = append(ports, port), append(hosts, h)
	}
	check(t, middle.Bridge("br0", mtu, ports...))
	for _, h := range hosts {
		h.openUserSpace(mtu - overhead)
	}
	for _, h := range hosts {
		for _, o := range hosts {
			h.meet(o)
		}
	}
	return hosts
}

// meet has a host's kernel find the other one, and may take some time after the
// devices were made.
func (h *host) meet(o *host) {
	h.t.Helper()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(outer(o.number), testPort))
	waitFor(h.t, "a datagram on the underlay", func() bool {
		_, err := h.socket.WriteTo([]byte(hello), to)
		check(h.t, err)
		time.Sleep(time.Millisecond)
		o.mu.Lock()
		defer o.mu.Unlock()
		return slices.ContainsFunc(o.got, isHello)
	})
}

const hello = "hello"

func isHello(b []byte) bool { return string(b) == hello }

// newPair makes two hosts with the assist that know each other.
func newPair(t *testing.T, mtu int) (a, b *host) {
	t.Helper()
	hosts := newHosts(t, 2, mtu)
	a, b = hosts[0], hosts[1]
	a.attach(1)
	b.attach(1)
	a.set(a.peer(b))
	b.set(b.peer(a))
	return a, b
}

// openUserSpace opens the TUN and the socket, and reads both until the end.
func (h *host) openUserSpace(mtu int) {
	h.t.Helper()
	check(h.t, h.Do(func() (err error) {
		fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
		if err != nil {
			return err
		}
		ifr, err := unix.NewIfreq("flannel0")
		if err == nil {
			ifr.SetUint16(unix.IFF_TUN | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
			err = unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr)
		}
		if err == nil {
			err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, unix.TUN_F_CSUM|unix.TUN_F_TSO4)
		}
		h.tun = os.NewFile(uintptr(fd), "tun")
		if err != nil {
			return errors.Join(err, h.tun.Close())
		}
		h.socket, err = net.ListenPacket("udp4", netip.AddrPortFrom(outer(h.number), testPort).String())
		return err
	}))
	var readers sync.WaitGroup
	h.t.Cleanup(func() {
		h.tun.Close()
		h.socket.Close()
		readers.Wait()
	})
	readers.Go(func() { h.note(&h.sent, h.tun.Read) })
	readers.Go(func() {
		h.note(&h.got, func(b []byte) (int, error) { n, _, err := h.socket.ReadFrom(b); return n, err })
	})
	h.ip("link", "set", "flannel0", "mtu", fmt.Sprint(mtu))
	check(h.t, h.AddAddr("flannel0", netip.PrefixFrom(inner(h.number), 32)))
	h.ip("route", "add", "10.5.0.0/16", "dev", "flannel0")
}

// note keeps what is read until there is an error.
func (h *host) note(list *[][]byte, read func([]byte) (int, error)) {
	buf := make([]byte, packet.VnetHdrLen+1<<16)
	for {
		n, err := read(buf)
		if err != nil {
			return
		}
		h.mu.Lock()
		*list = append(*list, slices.Clone(buf[:n]))
		h.mu.Unlock()
	}
}

// took returns what user space was left with of IPv4 so far, and forgets it.
func (h *host) took() (sent, got [][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, p := range h.sent {
		if len(p) > packet.VnetHdrLen && p[packet.VnetHdrLen]>>4 == 4 {
			sent = append(sent, p)
		}
	}
	got = slices.DeleteFunc(h.got, isHello)
	h.sent, h.got = nil, nil
	return sent, got
}

// untouched fails if user space had anything to do.
func (h *host) untouched() {
	h.t.Helper()
	if sent, got := h.took(); len(sent)+len(got) > 0 {
		h.t.Errorf("host %d's user space was left with %d packets to send and %d that came: %x %x", h.number, len(sent), len(got), sent, got)
	}
}

func (h *host) attach(sourcePorts int) {
	h.t.Helper()
	check(h.t, h.Do(func() (err error) {
		h.assist, err = h.attachHere(sourcePorts)
		return err
	}))
	h.t.Cleanup(func() {
		check(h.t, h.assist.Close())
		for _, r := range h.assist.Rings() {
			check(h.t, r.Close())
		}
	})
}

// attachHere attaches in the calling thread's namespace.
func (h *host) attachHere(sourcePorts int) (*Assist, error) {
	tun, err := net.InterfaceByName("flannel0")
	if err != nil {
		return nil, err
	}
	eth, err := net.InterfaceByName("eth0")
	if err != nil {
		return nil, err
	}
	return Attach(Config{TUN: tun.Index, Underlay: eth.Index, Local: outer(h.number), Port: testPort, SourcePorts: sourcePorts, Superpackets: h.super, Floods: h.seats})
}

func (h *host) set(peers ...Peer) {
	h.t.Helper()
	check(h.t, h.assist.Set(subnet(h.number), peers))
}

// peer is another host as h's peer.
func (h *host) peer(o *host) Peer {
	return Peer{Subnet: subnet(o.number), Public: outer(o.number), Limit: 1472}
}

func (h *host) ip(args ...string) string {
	h.t.Helper()
	out, err := h.Output("ip", args...)
	check(h.t, err)
	return out
}

// listen opens a UDP socket on the inner address.
func (h *host) listen() net.PacketConn {
	h.t.Helper()
	var c net.PacketConn
	check(h.t, h.Do(func() (err error) {
		c, err = net.ListenPacket("udp4", netip.AddrPortFrom(inner(h.number), 0).String())
		return err
	}))
	h.t.Cleanup(func() { c.Close() })
	check(h.t, c.SetReadDeadline(time.Now().Add(30*time.Second)))
	return c
}

// waitFor waits up to some seconds for a condition.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}
