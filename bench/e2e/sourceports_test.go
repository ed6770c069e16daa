package e2e

import (
	"context"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/traffic"
)

// With SourcePorts flows leave from several UDP ports, but not those to a node
// that speaks as flannel does, which the classic engine is. The firewall rule of
// docs/backends.md is all that they need.
func TestSourcePorts(t *testing.T) {
	c := build(t, spec{hosts: 3, config: `{"Network":"10.5.0.0/16","Backend":{"Type":"udp","SourcePorts":4}}`})
	const classic = 2
	for i := range c.hosts {
		engine := "gso"
		if i == classic {
			engine = "classic"
		}
		c.startWeftd(i, "--udp-engine="+engine)
	}
	for i, h := range c.hosts {
		c.attach(i, c.waitReady(i))
		c.filter(h.Namespace, "input", "udp sport 8285-8288 udp dport 8285 accept")
		c.filter(h.Namespace, "input", "iifname eth0 meta l4proto udp drop")
	}
	c.reachAll()
	heard := listenOn(t, c.Switch, "port1")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	from := c.hosts[0].Container
	for _, to := range c.hosts[1:] {
		for range 16 {
			if _, err := traffic.SendChecked(ctx, from.Namespace, to.Container.Namespace, to.Container.IPv4, 1<<20, "", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	ports := map[netip.Addr][]uint16{}   // source ports by destination
	kernels := map[netip.Addr][]uint16{} // those of datagrams without a checksum, which are the kernel's
	for _, p := range heard.packets() {
		if p[0] != 4<<4|5 || p[9] != unix.IPPROTO_UDP {
			continue
		}
		src, dst := binary.BigEndian.Uint16(p[20:]), binary.BigEndian.Uint16(p[22:])
		to := netip.AddrFrom4([4]byte(p[16:20]))
		if dst != tunnelPort {
			t.Errorf("a datagram to port %d of %v", dst, to)
		}
		if !slices.Contains(ports[to], src) {
			ports[to] = append(ports[to], src)
		}
		if binary.BigEndian.Uint16(p[26:]) == 0 && !slices.Contains(kernels[to], src) {
			kernels[to] = append(kernels[to], src)
		}
	}
	// Two of four are left out by 16 flows once in 10,000 times.
	if p := ports[c.hosts[1].IPv4]; len(p) < 2 || slices.Min(p) < 8285 || slices.Max(p) > 8288 {
		t.Errorf("datagrams came from ports %d", p)
	}
	if p := kernels[c.hosts[1].IPv4]; len(p) < 2 {
		t.Errorf("the kernel's datagrams came from ports %d", p)
	}
	if p := kernels[c.hosts[classic].IPv4]; len(p) > 0 {
		t.Errorf("the kernel sent datagrams from ports %d to a node whose kernel takes none", p)
	}
	if p := ports[c.hosts[classic].IPv4]; !slices.Equal(p, []uint16{tunnelPort}) {
		t.Errorf("datagrams to a node like flannel's came from ports %d", p)
	}
	s := c.status(0).Backend
	if last := s.Capabilities[len(s.Capabilities)-1]; last.Name != "source_ports" || !last.On {
		t.Errorf("the status says %+v", s.Capabilities)
	}
	for _, p := range s.Peers {
		alone := slices.Contains(p.Notes, "sent to from one source port: its lease does not say that it takes more")
		if want := netip.MustParseAddrPort(p.Endpoint).Addr() == c.hosts[classic].IPv4; alone != want {
			t.Errorf("notes on %s: %q", p.Endpoint, p.Notes)
		}
	}
}
