package e2e

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

// What weftd, and the kernel for it, put on the wire is what flannel's udp
// backend does: in each datagram, from port 8285 to port 8285, one IP packet and
// nothing else. The kernel's datagrams have no checksum.
func TestWireIsFlannels(t *testing.T) {
	for _, test := range []struct {
		name       string
		ipv4, ipv6 netip.Prefix // underlay
		overhead   int
		assist     bool // the kernel carries some
		whole      bool // superpackets of IPv4 and TCP, too, which the wire cuts
	}{
		{"IPv4 underlay", lab.UnderlayIPv4, netip.Prefix{}, 28, true, false},
		{"IPv4 underlay, superpackets whole", lab.UnderlayIPv4, netip.Prefix{}, 28, true, true},
		{"IPv6 underlay", netip.Prefix{}, lab.UnderlayIPv6, 48, false, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := start(t, spec{ipv4: test.ipv4, ipv6: test.ipv6, config: dualStack})
			if !test.whole {
				c.uncutNothing()
			}
			c.reachAll()
			var heard []*capture
			if test.whole {
				c.superpackets(0, 1, true)
				c.superpackets(1, 0, true)
				heard = []*capture{c.listenBehindNIC(1), c.listenBehindNIC(2)} // each hears both
			} else {
				heard = []*capture{listenOn(t, c.Switch, "port1"), listenOn(t, c.Switch, "port2")}
			}
			a, b := c.hosts[0].Container, c.hosts[1].Container
			for _, ns := range []*lab.Namespace{a.Namespace, b.Namespace} {
				if err := ns.Sysctl("net/ipv4/tcp_ecn", "1"); err != nil { // of both families
					t.Fatal(err)
				}
			}
			const stream = 4 << 20
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for i, to := range addrs(c.hosts[1]) {
				if _, err := traffic.SendChecked(ctx, a.Namespace, b.Namespace, to, stream, "", nil); err != nil {
					t.Error(err)
				}
				back := addrs(c.hosts[0])[i]
				if _, err := traffic.SendChecked(ctx, b.Namespace, a.Namespace, back, stream, "", nil); err != nil {
					t.Error(err)
				}
				for _, size := range []int{1400, 64, 3000} {
					echoes(t, "UDP", a.Namespace, b.Namespace, to, traffic.EchoOptions{Count: 100, Size: size})
				}
			}
			c.fits(c.hosts[0], c.hosts[1], 1500-test.overhead)

			for i, h := range heard {
				w := &wireCheck{t: t, mtu: 1500, assist: test.assist, count: make(map[string]int)}
				w.hosts, w.containers, w.tunnels = c.ends(i, 1-i)
				for _, b := range h.packets() {
					w.check(b)
				}
				t.Logf("from host%d: %v", i+1, w.count)
				for _, version := range []string{"IPv4", "IPv6"} {
					w.want(version+" TCP", stream/1500)
					w.want(version+" TCP with ECN", stream/1500)
					w.want(version+" UDP of 1400 bytes", 99)
					w.want(version+" UDP of 64 bytes", 99)
					w.want(version+" fragment", 2*99)
					w.want(version+" ICMP", 3)
				}
				w.want("as long as the MTU", 2*stream/1500)
				if test.assist {
					least := 10 // acknowledgements
					if test.whole {
						least = stream / 1500
					}
					w.want("IPv4 TCP by the kernel", least)
					w.want("IPv4 UDP of 1400 bytes by the kernel", 99)
					w.want("IPv4 UDP of 64 bytes by the kernel", 99)
					w.want("IPv4 ICMP by the kernel", 3)
				}
			}
		})
	}
}

// uncutNothing has the hosts' own kernels do all cutting and checksumming
// before the wire, where a veth would hand superpackets over whole, and the
// receiving host join datagrams as a NIC's driver has it.
func (c *cluster) uncutNothing() {
	c.t.Helper()
	for _, h := range c.hosts {
		if err := h.SetFeatures("eth0", map[string]bool{
			"tx-checksum-ip-generic": false, "tx-tcp-segmentation": false, "tx-udp-segmentation": false, "tx-gso-list": false, "rx-gro": true,
		}); err != nil {
			c.t.Fatal(err)
		}
	}
}

// listenBehindNIC captures all that passes the switch, by a device that cuts and
// sums it as a NIC does, while it goes on to the hosts as it came.
func (c *cluster) listenBehindNIC(n int) *capture {
	c.t.Helper()
	port, wire := fmt.Sprintf("mirror%d", n), fmt.Sprintf("wire%d", n)
	if err := lab.Veth(lab.End{In: c.Switch, Device: port}, lab.End{In: c.Switch, Device: wire}, 1500); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Switch.SetFeatures(port, noOffload); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Switch.Attach("br0", port); err != nil {
		c.t.Fatal(err)
	}
	// It forgets at once where anybody is, and so is a hub.
	if out, err := c.Switch.Output("ip", "link", "set", "br0", "type", "bridge", "ageing_time", "0"); err != nil {
		c.t.Fatal(err, out)
	}
	return listenOn(c.t, c.Switch, wire)
}

// ends lists the underlay addresses, the container addresses and the IPv4 tunnel
// addresses of two hosts.
func (c *cluster) ends(from, to int) (hosts, containers [2][]netip.Addr, tunnels [2]netip.Addr) {
	for i, h := range []*lab.Host{c.hosts[from], c.hosts[to]} {
		hosts[i] = []netip.Addr{h.IPv4, h.IPv6}
		containers[i] = addrs(h)
		tunnels[i] = tunnelAddr(h)
	}
	return hosts, containers, tunnels
}

// tunnelAddr is the IPv4 address of a host's tunnel, its subnet's first one.
func tunnelAddr(h *lab.Host) netip.Addr {
	return netip.PrefixFrom(h.Container.IPv4, 24).Masked().Addr()
}

// wireCheck judges what one host sends to another. Index 0 of the addresses is
// the sender's.
type wireCheck struct {
	t                 testing.TB
	mtu               int
	assist            bool // datagrams without a checksum are the kernel's
	hosts, containers [2][]netip.Addr
	tunnels           [2]netip.Addr  // IPv4
	count             map[string]int // packets by what they are
}

// maxWireErrors is how many faults of one direction are told.
const maxWireErrors = 10

// check judges an IP packet. What the hosts say to others, etcd for instance,
// is none of the tunnel's.
func (w *wireCheck) check(b []byte) {
	w.t.Helper()
	outer, err := dissect(b)
	between := slices.Contains(w.hosts[0], outer.src) && slices.Contains(w.hosts[1], outer.dst)
	if outer.src.IsValid() && !between || err == nil && neighbourDiscovery(&outer) {
		return
	}
	if err == nil {
		err = w.checkOuter(b, &outer)
	}
	if err == nil {
		_, _, payload := outer.udp()
		err = w.checkInner(&outer, payload)
	}
	if err != nil {
		if w.count["wrong"]++; w.count["wrong"] <= maxWireErrors {
			w.t.Error(err)
		}
	}
}

func neighbourDiscovery(p *ipPacket) bool {
	return p.protocol == unix.IPPROTO_ICMPV6 && !p.fragment && p.payload[0] >= 133 && p.payload[0] <= 137 // RFC 4861
}

func (w *wireCheck) checkOuter(b []byte, p *ipPacket) error {
	switch {
	case p.fragment:
		return fmt.Errorf("a fragment on the underlay: %x", b[:60])
	case p.protocol != unix.IPPROTO_UDP:
		return fmt.Errorf("protocol %d between the hosts: %x", p.protocol, b[:40])
	case !p.df:
		return fmt.Errorf("without DF: %x", b[:40])
	case len(b) > w.mtu:
		return fmt.Errorf("%d bytes on a wire of MTU %d", len(b), w.mtu)
	case p.unchecked && !w.assist:
		return fmt.Errorf("UDP without a checksum: %x", b[:40])
	}
	if from, to, _ := p.udp(); from != tunnelPort || to != tunnelPort {
		return fmt.Errorf("from port %d to port %d", from, to)
	}
	if len(b) == w.mtu {
		w.count["as long as the MTU"]++
	}
	return nil
}

func (w *wireCheck) checkInner(outer *ipPacket, b []byte) error {
	p, err := dissect(b)
	switch {
	case err != nil:
		return fmt.Errorf("inner packet: %w", err)
	case p.src == w.tunnels[0] && p.dst == w.tunnels[1]:
		return w.checkProbe(outer, &p)
	case !slices.Contains(w.containers[0], p.src) || !slices.Contains(w.containers[1], p.dst):
		return fmt.Errorf("an inner packet from %s to %s", p.src, p.dst)
	case p.ttl != 63: // the hosts' kernels route, once on each side; the tunnel is no hop
		return fmt.Errorf("TTL or hop limit %d of a packet that the sender's host has routed", p.ttl)
	case outer.tos != p.tos&3: // ECN and no more (RFC 6040)
		return fmt.Errorf("outer TOS %#02x, inner %#02x", outer.tos, p.tos)
	case p.unchecked:
		return fmt.Errorf("inner UDP without a checksum: %x", b[:40])
	case outer.unchecked && (p.src.Is6() || p.fragment):
		return fmt.Errorf("the kernel carries IPv6 or a fragment: %x", b[:40])
	}
	kind := "IPv4 "
	if p.src.Is6() {
		kind = "IPv6 "
	}
	switch {
	case p.fragment:
		kind += "fragment"
	case p.protocol == unix.IPPROTO_TCP:
		if p.tos&3 != 0 {
			w.count[kind+"TCP with ECN"]++
		}
		kind += "TCP"
	case p.protocol == unix.IPPROTO_UDP:
		kind += fmt.Sprintf("UDP of %d bytes", len(p.payload)-8)
	default:
		kind += "ICMP"
	}
	w.count[kind]++
	if outer.unchecked {
		w.count[kind+" by the kernel"]++
	}
	return nil
}

// checkProbe judges what the daemons say to each other: probes by UDP, and trials,
// whose two segments are TCP that nobody answers.
func (w *wireCheck) checkProbe(outer, p *ipPacket) error {
	const rstACK = 0x14
	from, to := binary.BigEndian.Uint16(p.payload), binary.BigEndian.Uint16(p.payload[2:])
	trial := p.protocol == unix.IPPROTO_TCP && p.payload[13] == rstACK
	if from != probePort || to != probePort || p.fragment || trial != outer.unchecked || !trial && p.protocol != unix.IPPROTO_UDP {
		return fmt.Errorf("from tunnel to tunnel, protocol %d, from port %d to %d", p.protocol, from, to)
	}
	if trial {
		w.count["trial"]++
	}
	return nil
}

func (w *wireCheck) want(kind string, least int) {
	w.t.Helper()
	if n := w.count[kind]; n < least {
		w.t.Errorf("%s: %d packets, want %d at least", kind, n, least)
	}
}
