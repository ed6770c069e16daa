package vtep

import (
	"encoding/json"
	"errors"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// Hosts 1 and 2 are nodes of a cluster; host 3 is not, but reaches them. The
// kernel by itself lets everything in that it sends.
func TestStranger(t *testing.T) {
	l := kerneltest.New(t, kerneltest.Options{Hosts: 3, Dual: true, New: func(n *kerneltest.Node) (tunnel.Backend, error) {
		return vxlan.New(vxlan.Config{Underlay: n.Underlay, Network: n.Lab.Network, NodeID: n.Lease.Attrs.NodeID, Log: n.Slog()})
	}})
	a, b, stranger := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	third := subnet.Lease{Subnet: subnet.Subnet{IPv4: pfx("10.5.9.0/24")}, Attrs: subnet.Attrs{
		PublicIP: addr("192.0.2.9"), BackendType: "vxlan", BackendData: json.RawMessage(`{"VNI":1,"VtepMAC":"02:00:00:00:09:09"}`),
	}}
	a.SetPeers([]subnet.Lease{b.Lease, third})
	kerneltest.Exchange(t, a, b)

	// fragmented is a size of inner packets whose datagrams take two fragments.
	const small, fragmented = 0, 1440
	for _, c := range []struct {
		name    string
		from    *kerneltest.Node // who sends the datagram
		inner   string           // source of the packet in it
		size    int              // of its payload, in bytes
		guarded bool             // does it arrive when the guard stands?
	}{
		{"stranger, as a peer's container", stranger, "10.5.2.2", small, false},
		{"stranger, as itself", stranger, "192.0.2.3", small, false},
		{"peer, as its container", b, "10.5.2.2", small, true},
		{"peer, as a container of a third node", b, "10.5.9.2", small, true}, // cannot be told
		{"peer, as a host outside", b, "203.0.113.1", small, false},
		{"peer, as the node's own container", b, "10.5.1.7", small, false},
		{"stranger, as a peer's container, IPv6", stranger, "fd00:5:2::2", small, false},
		{"peer, as its container, IPv6", b, "fd00:5:2::2", small, true},
		{"peer, as a host outside, IPv6", b, "2001:db8:99::1", small, false},
		{"peer, as the node's own container, IPv6", b, "fd00:5:1::7", small, false},
		{"stranger, in fragments", stranger, "10.5.2.2", fragmented, false},
		{"peer, in fragments", b, "10.5.2.2", fragmented, true},
		{"stranger, in fragments, IPv6", stranger, "fd00:5:2::2", fragmented, false},
		{"peer, in fragments, IPv6", b, "fd00:5:2::2", fragmented, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			inner := addr(c.inner)
			own := inner.Is4() && a.Lease.Subnet.IPv4.Contains(inner) || a.Lease.Subnet.IPv6.Contains(inner)
			check(t, a.Do(Remove))
			if !own { // the kernel itself refuses a source of its own subnet
				check(t, mustArrive(t, a, c.from, inner, c.size, "it does not arrive without a guard either: this test shows nothing"))
			}
			var g Guard
			check(t, a.Do(func() error { _, err := g.Apply(guardOf(a)); return err }))
			if c.guarded {
				check(t, mustArrive(t, a, c.from, inner, c.size, "it does not arrive"))
			} else if arrives(t, a, c.from, inner, c.size, false) {
				t.Error("it arrives")
			}
		})
	}
	kerneltest.Exchange(t, a, b)
}

// guardOf is the guard of a node that knows host 2 only.
func guardOf(n *kerneltest.Node) Config {
	v := n.Backend.(*vxlan.Backend).VTEP()
	b := n.Lab.Nodes[1]
	return Config{
		Port: v.Port(), Devices: v.Devices(),
		Networks: []netip.Prefix{n.Lab.Network.IPv4, n.Lab.Network.IPv6},
		Subnets:  []netip.Prefix{n.Lease.Subnet.IPv4, n.Lease.Subnet.IPv6},
		Peers:    []netip.Addr{b.IPv4, b.IPv6},
	}
}

// mustArrive is an error, with what it says, if nothing arrives.
func mustArrive(t *testing.T, node, from *kerneltest.Node, inner netip.Addr, size int, orElse string) error {
	t.Helper()
	return labtest.Lossless(t, func() error {
		if !arrives(t, node, from, inner, size, true) {
			return errors.New(orElse)
		}
		return nil
	})
}

// arrives sends an ICMP echo request with the given source and size of payload
// in a VXLAN datagram and tells whether the container of node gets it. Where it
// is expected it may take its time.
func arrives(t *testing.T, node, from *kerneltest.Node, inner netip.Addr, size int, expected bool) bool {
	t.Helper()
	network, outer, to, data := "ip4:icmp", node.IPv4, node.Container.IPv4, node.Lease.Attrs.BackendData
	if inner.Is6() {
		network, outer, to, data = "ip6:ipv6-icmp", node.IPv6, node.Container.IPv6, node.Lease.Attrs.BackendV6Data
	}
	c, err := node.Container.ListenPacket(t.Context(), net.ListenConfig{}, network, to.String())
	check(t, err)
	defer c.Close()

	var lease struct{ VtepMAC string }
	check(t, json.Unmarshal(data, &lease))
	mac, err := netstate.ParseMAC(lease.VtepMAC)
	check(t, err)
	const id = 0x5757
	datagram := encapsulate(t, mac, inner, to, &icmp.Echo{ID: id, Seq: 1, Data: make([]byte, size)})
	check(t, from.Do(func() error {
		u, err := net.Dial("udp", netip.AddrPortFrom(outer, 8472).String())
		if err != nil {
			return err
		}
		defer u.Close()
		_, err = u.Write(datagram)
		return err
	}))
	// A datagram takes well below a millisecond where the machine has time; what
	// is dropped never comes.
	wait := 200 * time.Millisecond
	if expected {
		wait = 20 * time.Second
	}
	check(t, c.SetReadDeadline(time.Now().Add(wait)))
	buf := make([]byte, 2000)
	for {
		n, source, err := c.ReadFrom(buf)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return false
		}
		check(t, err)
		protocol := 1
		if inner.Is6() {
			protocol = 58
		}
		m, err := icmp.ParseMessage(protocol, buf[:n])
		if echo, ok := m.Body.(*icmp.Echo); err == nil && ok && echo.ID == id && source.String() == inner.String() {
			return true
		}
	}
}

// encapsulate makes the payload of a VXLAN datagram for VNI 1.
func encapsulate(t *testing.T, mac netstate.MAC, from, to netip.Addr, echo *icmp.Echo) []byte {
	t.Helper()
	vxlan := []byte{0x08, 0, 0, 0, 0, 0, 1, 0} // RFC 7348 section 5
	ethernet := append(append(mac[:], 0x02, 0, 0, 0, 0, 0x66), 0x08, 0x00)
	if from.Is4() {
		message, err := (&icmp.Message{Type: ipv4.ICMPTypeEcho, Body: echo}).Marshal(nil)
		check(t, err)
		header := &ipv4.Header{Version: 4, Len: 20, TotalLen: 20 + len(message), TTL: 64, Protocol: 1, Src: from.AsSlice(), Dst: to.AsSlice()}
		b, err := header.Marshal()
		check(t, err)
		sum := checksum(b)
		b[10], b[11] = byte(sum>>8), byte(sum)
		return append(append(append(vxlan, ethernet...), b...), message...)
	}
	ethernet[12], ethernet[13] = 0x86, 0xdd
	message, err := (&icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: echo}).Marshal(icmp.IPv6PseudoHeader(from.AsSlice(), to.AsSlice()))
	check(t, err)
	b := []byte{0x60, 0, 0, 0, byte(len(message) >> 8), byte(len(message)), 58, 64}
	b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	return append(append(append(vxlan, ethernet...), b...), message...)
}

// checksum is the Internet checksum (RFC 1071) of an even number of bytes.
func checksum(b []byte) uint16 {
	var sum uint32
	for i := 0; i < len(b); i += 2 {
		sum += uint32(b[i])<<8 | uint32(b[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
