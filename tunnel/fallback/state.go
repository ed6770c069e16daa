package fallback

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// meet takes over other nodes' leases: it finds out in which ways each is
// reached. A peer with the subnet and endpoint of a former one keeps its path.
func (b *Backend) meet(leases []subnet.Lease) {
	b.known = true
	remotes, skipped := b.vtep.Remotes(b.own, "udp", leases)
	b.checksum.SetRemotes(remotes)
	bySubnet := make(map[netip.Prefix]*vxlan.Remote, len(remotes))
	for i := range remotes {
		bySubnet[remotes[i].Lease.Subnet.IPv4] = &remotes[i]
	}

	b.peers = nil
	b.byTunnelAddr = make(map[netip.Addr]*peer, len(leases))
	paths := make(map[*tunnel.PeerState]*path, len(leases))
	served := make(map[string]bool, len(leases))
	now := time.Now()
	for _, p := range b.meetUDP(leases) {
		served[p.Subnet.IPv4.String()] = true
		next := &peer{udp: p}
		// A peer that answers no probes could not be moved.
		if remote := bySubnet[p.Subnet.IPv4]; remote != nil && p.Probe > 0 {
			next.remote = remote
			if next.path = b.paths[p.State]; next.path == nil {
				next.path = newPath(now)
			}
			paths[p.State] = next.path
			b.byTunnelAddr[p.Subnet.IPv4.Addr()] = next
		}
		b.peers = append(b.peers, next)
	}
	for i := range remotes {
		r := &remotes[i]
		if tunnel.ReadAnnounced(r.Lease.Attrs.BackendData).NoUDP || b.engine == nil {
			served[r.Lease.Subnet.IPv4.String()] = true
			b.peers = append(b.peers, &peer{remote: r})
		}
	}
	b.paths = paths
	before := b.skipped
	b.skipped = nil
	for _, s := range skipped {
		if ipv4, _, _ := strings.Cut(s.Subnet, " "); !served[ipv4] {
			b.skipped = append(b.skipped, s)
		}
	}
	if b.engine == nil { // else the engine tells
		tunnel.LogSkipped(b.log, before, b.skipped)
	}
}

// meetUDP hands the engine those that have a udp path, and returns whom it
// serves.
func (b *Backend) meetUDP(leases []subnet.Lease) []*tunnel.Peer {
	if b.engine == nil {
		return nil
	}
	b.engine.SetPeers(slices.DeleteFunc(slices.Clone(leases), func(l subnet.Lease) bool {
		return tunnel.ReadAnnounced(l.Attrs.BackendData).NoUDP
	}))
	return b.engine.Peers()
}

// state is all that the kernel is to hold.
func (b *Backend) state() netstate.State {
	own := b.own.Subnet
	s := b.stateWithout()
	if b.engine == nil {
		return s
	}
	udp := b.engine.State(own)
	s.Links = append(s.Links, udp.Links...)
	s.Addrs = append(s.Addrs, udp.Addrs...)
	s.Sysctls = append(s.Sysctls, udp.Sysctls...)
	for _, r := range udp.Routes {
		if r.Type == netstate.Unicast { // the others are those of stateWithout
			s.Routes = append(s.Routes, r)
		}
	}
	if own.IsZero() {
		return s
	}
	// After all others.
	for _, p := range b.peers {
		if p.path != nil && p.path.way == byUDP {
			s.Routes = append(s.Routes, b.routesByUDP(p)...)
		}
	}
	return s
}

// routesByUDP are those of a peer with two ways that lead into the TUN: one for
// each that leads to its VTEP.
func (b *Backend) routesByUDP(p *peer) (routes []netstate.Route) {
	var byVXLAN netstate.State
	p.remote.Add(&byVXLAN, b.own.Subnet, metricVXLAN)
	for _, r := range byVXLAN.Routes {
		if r.Dst.Addr().Is6() && !p.udp.Subnet.IPv6.IsValid() {
			continue
		}
		routes = append(routes, netstate.Route{Dst: r.Dst, Link: b.engine.Device(), Src: r.Src, Metric: metricUDP})
	}
	return routes
}

// stateWithout is what the kernel is to hold while there is no TUN.
func (b *Backend) stateWithout() netstate.State {
	own := b.own.Subnet
	s := b.vtep.State(own)
	for i := range s.Links {
		s.Links[i].MTU = min(s.Links[i].MTU, b.mtu)
	}
	s.Routes = kernel.LastRoutes(b.cfg.Network, own, b.cfg.Blackhole)
	s.Partial = !b.known
	if own.IsZero() {
		return s
	}
	for _, p := range b.peers {
		if p.remote != nil {
			p.remote.Add(&s, own, metricVXLAN)
		}
	}
	return s
}
