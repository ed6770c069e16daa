package hostgw

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Status implements tunnel.Backend. A peer to which no route stands is among
// the skipped ones. The kernel does not count by peer.
func (b *Backend) Status() tunnel.Status {
	problems, skipped := b.Report()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := tunnel.Status{
		Type:    backendType,
		Device:  b.cfg.Underlay.Name,
		MTU:     b.MTU(),
		Peers:   make([]tunnel.PeerStatus, 0, len(b.peers)),
		Skipped: skipped,
	}
	for _, err := range b.missing {
		s.Problems = append(s.Problems, err.Error())
	}
	for _, p := range b.peers {
		b.addPeer(&s, p, problems)
	}
	s.Problems = append(s.Problems, kernel.Texts(problems)...)
	slices.SortFunc(s.Skipped, func(a, b tunnel.SkippedPeer) int { return cmp.Compare(a.Subnet, b.Subnet) })
	return s
}

// addPeer lists a peer, and takes the problems that it names from problems.
func (b *Backend) addPeer(s *tunnel.Status, p peer, problems map[string]netstate.Problem) {
	status := tunnel.PeerStatus{
		Subnet:  p.lease.Subnet.IPv4.String(),
		NodeID:  p.lease.Attrs.NodeID,
		Path:    backendType,
		PathMTU: b.MTU(),
		Notes:   slices.Clone(p.notes),
	}
	if v6 := p.lease.Subnet.IPv6; v6.IsValid() {
		status.SubnetV6 = v6.String()
	}
	why := ""
	for _, r := range p.routes {
		problem, missing := problems[r.String()]
		if !missing {
			status.Endpoint = cmp.Or(status.Endpoint, r.Via.String())
			continue
		}
		why = fmt.Sprintf("%v is not reached: %v", r.Dst, problem.Err)
		if problem.Pending {
			why += "; host-gw needs it there, vxlan does not"
		}
		status.Notes = append(status.Notes, why)
		delete(problems, r.String())
	}
	if status.Endpoint == "" {
		s.Skipped = append(s.Skipped, tunnel.SkippedPeer{Subnet: p.lease.Subnet.String(), Why: why})
		return
	}
	s.Peers = append(s.Peers, status)
}
