package e2e

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/bench/lab"
)

// What anybody sends to the UDP port of the device for superpackets goes nowhere:
// from outside, from a peer, from the host's own container, from a container
// elsewhere, from the host itself. Nor does it when weftd is dead.
func TestNothingIsInjected(t *testing.T) {
	t.Parallel()
	s := onUDP.spec(2, false)
	s.ipv4, s.ipv6 = lab.UnderlayIPv4, lab.UnderlayIPv6
	c := start(t, s)
	c.reachAll()
	c.superpackets(1, 0, true)
	a, b := c.hosts[0], c.hosts[1]
	port := c.gsoPort(0)
	tunnel := tunnelAddr(a)
	gateway := tunnel.Next()
	// Who could be served by what comes out of the device: the container, and the
	// host by each of its addresses.
	targets := []netip.Addr{a.Container.IPv4, tunnel, gateway, a.IPv4, netip.MustParseAddr("127.0.0.1")}
	inContainer := c.listen(a.Container.Namespace, a.Container.IPv4)
	onHost := c.listen(a.Namespace, netip.IPv4Unspecified())

	inject := func(when string) {
		for _, from := range []struct {
			what string
			in   *lab.Namespace
			to   []netip.Addr
		}{
			{"outside", c.Switch, []netip.Addr{a.IPv4, a.IPv6}},
			{"a peer", b.Namespace, []netip.Addr{a.IPv4, a.IPv6, tunnel}},
			{"the host's container", a.Container.Namespace, []netip.Addr{gateway, a.IPv4, tunnel}},
			{"a container elsewhere", b.Container.Namespace, []netip.Addr{gateway, tunnel}},
			{"the host", a.Namespace, []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.IPv6Loopback(), a.IPv4, a.IPv6, tunnel}},
		} {
			for _, to := range from.to {
				text := fmt.Sprintf("%s, by %s to %s", when, from.what, to)
				for _, target := range targets {
					for _, source := range []netip.Addr{b.Container.IPv4, tunnelAddr(b), b.IPv4, a.IPv4, tunnel} {
						c.sendGPE(from.in, netip.AddrPortFrom(to, port), udpPacket(source, target, text))
					}
				}
			}
		}
		// Behind all of these, by every queue that they may be in.
		for _, way := range []struct {
			from  *lab.Namespace
			to    netip.Addr
			heard func(string) []string
		}{
			{a.Namespace, a.Container.IPv4, inContainer}, {c.Switch, a.IPv4, onHost}, {b.Namespace, a.IPv4, onHost},
			{a.Container.Namespace, gateway, onHost}, {a.Namespace, a.IPv4, onHost},
		} {
			c.send(way.from, way.to, "last")
			if got := way.heard("last"); !slices.Equal(got, []string{"last"}) {
				t.Errorf("arrived: %q", got)
			}
		}
	}
	inject("while weftd runs")
	c.carriesSuperpackets(1, 0, whatever)
	kill(0)(c)
	inject("when it is dead")
	c.eventually(func() string {
		if c.hasDevice(0, gsoDevice) {
			return gsoDevice + " outlives weftd"
		}
		return ""
	})
}

// gsoPort is the UDP port of a host's device for superpackets.
func (c *cluster) gsoPort(i int) (port uint16) {
	c.t.Helper()
	if err := c.hosts[i].Do(func() error {
		l, err := netlink.LinkByName(gsoDevice)
		if err != nil {
			return err
		}
		vxlan, ok := l.(*netlink.Vxlan)
		if !ok || vxlan.Port == 0 {
			return fmt.Errorf("%s is %+v", gsoDevice, l)
		}
		port = uint16(vxlan.Port)
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
	return port
}

// sendGPE sends an IPv4 packet in VXLAN-GPE (draft-ietf-nvo3-vxlan-gpe), as the
// device takes it. Whether there is a way to the address does not matter.
func (c *cluster) sendGPE(from *lab.Namespace, to netip.AddrPort, packet []byte) {
	c.t.Helper()
	const (
		flags    = 0x0c // there are a VNI and a next protocol
		nextIPv4 = 1
	)
	conn, err := from.Dial(c.t.Context(), net.Dialer{}, "udp", to.String())
	if err != nil {
		return
	}
	defer conn.Close()
	conn.Write(append([]byte{flags, 0, 0, nextIPv4, 0, 0, 1, 0}, packet...))
}
