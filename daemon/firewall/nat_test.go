package firewall

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/ipv4"
)

func TestSourceNAT(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		wantSource(t, "without weft, container to outside", n.container, netip.Addr{}, n.outside, v4.outside, v4.container)
		n.start(t, mode, full())
		for _, a := range []addrs{v4, v6} {
			checkSources(t, n, a)
		}
	})
}

// checkSources sends along every way through the host and compares what the
// receiver sees.
func checkSources(t *testing.T, n *node, a addrs) {
	t.Helper()
	none := netip.Addr{}
	wantSource(t, "container to outside is masqueraded", n.container, none, n.outside, a.outside, a.hostOutside)
	wantSource(t, "host's bridge address to outside is masqueraded", n.host, a.bridge, n.outside, a.outside, a.hostOutside)
	wantSource(t, "container to remote keeps its source", n.container, none, n.remote, a.remote, a.container)
	wantSource(t, "remote to container keeps its source", n.remote, a.remote, n.container, a.container, a.remote)
	wantSource(t, "host to container keeps its source", n.host, none, n.container, a.container, a.bridge)
	wantSource(t, "outside to local subnet keeps its source", n.outside, none, n.container, a.container, a.outside)
	wantSource(t, "outside to remote subnet gets the tunnel address", n.outside, none, n.remote, a.remote, a.tunnel)
	wantSource(t, "host's underlay address to remote gets the tunnel address", n.host, a.hostOutside, n.remote, a.remote, a.tunnel)
}

// Docker inserts its rule at the head of POSTROUTING. Whatever table it is in,
// overlay traffic must not be translated.
func TestSourceNATBesideDockersMasquerade(t *testing.T) {
	docker := func(t *testing.T, n *node, mode Mode) {
		for _, a := range []addrs{v4, v6} {
			n.sh(t, mode.command(a)+" -t nat -I POSTROUTING -s "+a.subnet.String()+" ! -o docker0 -j MASQUERADE")
		}
	}
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		docker(t, n, mode)
		wantSource(t, "without weft, container to remote", n.container, netip.Addr{}, n.remote, v4.remote, v4.tunnel)
		n.start(t, mode, full())
		for _, a := range []addrs{v4, v6} {
			checkSources(t, n, a)
		}
	})
	t.Run("nftables beside iptables-legacy", func(t *testing.T) {
		requireLegacy(t)
		n := newNode(t)
		docker(t, n, ModeIPTablesLegacy)
		n.start(t, ModeNFTables, full())
		for _, a := range []addrs{v4, v6} {
			checkSources(t, n, a)
		}
	})
}

// A container that calls its own published port is translated by Docker, or it
// would get packets from itself; weft must leave that to Docker.
func TestLocalHairpinIsLeftToOthers(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		n.sh(t, mode.command(v4)+" -t nat -A PREROUTING -d 192.0.2.1 -p udp --dport 53 -j DNAT --to-destination 10.5.34.2:5353")
		n.sh(t, mode.command(v4)+" -t nat -A POSTROUTING -s 10.5.34.2 -d 10.5.34.2 -p udp --dport 5353 -j MASQUERADE")
		must(t, n.host.Do(func() error {
			port, err := netlink.LinkByName("veth0")
			if err != nil {
				return err
			}
			return netlink.LinkSetHairpin(port, true)
		}))
		n.start(t, mode, full())

		var server net.PacketConn
		must(t, n.container.Do(func() (err error) {
			server, err = net.ListenPacket("udp4", "10.5.34.2:5353")
			return err
		}))
		defer server.Close()
		must(t, send(n.container, netip.Addr{}, netip.MustParseAddrPort("192.0.2.1:53")))
		server.SetReadDeadline(time.Now().Add(long))
		_, from, err := server.ReadFrom(make([]byte, 16))
		if err != nil || from.(*net.UDPAddr).IP.String() != "10.5.34.1" {
			t.Errorf("own published port: source seen is %v (%v), want 10.5.34.1", from, err)
		}
	})
}

func TestMulticastKeepsItsSource(t *testing.T) {
	group := netip.MustParseAddrPort("224.0.1.77:7777")
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		n.start(t, mode, full())
		var receiver *net.UDPConn
		must(t, n.outside.Do(func() error {
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			receiver, err = net.ListenMulticastUDP("udp4", eth0, net.UDPAddrFromAddrPort(group))
			return err
		}))
		defer receiver.Close()
		must(t, n.host.Do(func() error {
			c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: v4.bridge.AsSlice()})
			if err != nil {
				return err
			}
			defer c.Close()
			eth0, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			if err := ipv4.NewPacketConn(c).SetMulticastInterface(eth0); err != nil {
				return err
			}
			_, err = c.WriteToUDPAddrPort([]byte("weft"), group)
			return err
		}))
		receiver.SetReadDeadline(time.Now().Add(long))
		_, from, err := receiver.ReadFromUDPAddrPort(make([]byte, 16))
		if err != nil || from.Addr().Unmap() != v4.bridge {
			t.Errorf("multicast: source seen is %v (%v), want %v", from, err, v4.bridge)
		}
	})
}

func TestWithoutMasquerade(t *testing.T) {
	modes(t, func(t *testing.T, mode Mode) {
		n := newNode(t)
		fw := n.start(t, mode, full())
		cfg := full()
		cfg.Masquerade = false
		n.apply(t, fw, cfg)
		for _, a := range []addrs{v4, v6} {
			wantSource(t, "container to outside", n.container, netip.Addr{}, n.outside, a.outside, a.container)
			wantSource(t, "outside to remote", n.outside, netip.Addr{}, n.remote, a.remote, a.outside)
		}
	})
}
