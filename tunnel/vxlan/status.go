package vxlan

import (
	"net/netip"
	"strings"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Status implements tunnel.Backend.
func (b *Backend) Status() tunnel.Status {
	problems, skipped := b.Report()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := tunnel.Status{
		Type:         "vxlan",
		Device:       strings.Join(b.vtep.Devices(), " "),
		MTU:          b.MTU(),
		Capabilities: b.vtep.capabilities(),
		Peers:        make([]tunnel.PeerStatus, 0, len(b.remotes)),
		Skipped:      skipped,
	}
	for _, err := range b.vtep.Missing() {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, r := range b.remotes {
		s.Peers = append(s.Peers, b.peerStatus(r, problems))
	}
	s.Problems = append(s.Problems, kernel.Texts(problems)...)
	return s
}

// PeerStatus describes a remote that is reached through the tunnel. The kernel
// does not count by peer.
func (v *VTEP) PeerStatus(r Remote) tunnel.PeerStatus {
	first := r.ends[0]
	s := tunnel.PeerStatus{
		Subnet:   r.Lease.Subnet.IPv4.String(),
		NodeID:   r.Lease.Attrs.NodeID,
		Endpoint: netip.AddrPortFrom(first.public, v.Port()).String(),
		Path:     "vxlan",
		PathMTU:  first.mtu + first.overhead(),
		Notes:    r.Notes,
	}
	if v6 := r.Lease.Subnet.IPv6; v6.IsValid() {
		s.SubnetV6 = v6.String()
	}
	return s
}

// peerStatus removes from problems the direct routes that need not stand.
func (b *Backend) peerStatus(r Remote, problems map[string]netstate.Problem) tunnel.PeerStatus {
	first := r.ends[0]
	s := b.vtep.PeerStatus(r)
	if !b.vtep.settings.DirectRouting {
		return s
	}
	for i, route := range r.direct(b.vtep.underlay.Name, b.own) {
		p, missing := problems[route.String()]
		if missing && p.Pending {
			delete(problems, route.String())
		}
		if i == 0 && !missing {
			s.Path, s.Endpoint, s.PathMTU = "direct", first.public.String(), b.vtep.underlay.MTU
		}
	}
	return s
}

func (s *side) overhead() int {
	if s.ipv6 {
		return overheadIPv6
	}
	return overheadIPv4
}

// Checksums tells for each device whether its checksum offload is used.
func (v *VTEP) Checksums() (all []tunnel.Capability) {
	for _, s := range v.sides {
		name, o := "tx_checksum", v.offload(s.device)
		if s.ipv6 {
			name = "tx_checksum_v6"
		}
		all = append(all, tunnel.Capability{Name: name, On: o.set != netstate.Off, Why: o.why})
	}
	return all
}

func (v *VTEP) capabilities() []tunnel.Capability {
	return append(v.Checksums(), []tunnel.Capability{
		{Name: "direct_routing", On: v.settings.DirectRouting, Why: "configured"},
		{Name: "learning", On: v.settings.Learning, Why: "configured"},
		{Name: "gbp", On: v.settings.GBP, Why: "configured"},
	}...)
}
