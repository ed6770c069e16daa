package fallback

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// noteFor is how long the status tells that a peer was away from udp.
const noteFor = time.Hour

// Status implements tunnel.Backend. Of a peer on vxlan, the counters are those
// of what went by udp: the kernel does not count by peer.
func (b *Backend) Status() tunnel.Status {
	s := tunnel.Status{Type: "udp", MTU: b.mtu}
	if b.engine != nil {
		s = b.engine.Status()
	}
	s.Capabilities = append(s.Capabilities, b.vtep.Checksums()...)
	s.Device = strings.Join(b.Devices(), " ")
	b.mu.Lock()
	defer b.mu.Unlock()
	byUDPs := make(map[string]tunnel.PeerStatus, len(s.Peers))
	for _, p := range s.Peers {
		byUDPs[p.Subnet] = p
	}
	s.Peers = make([]tunnel.PeerStatus, 0, len(b.peers))
	now := time.Now()
	for _, p := range b.peers {
		s.Peers = append(s.Peers, b.peerStatus(p, byUDPs, now))
	}
	slices.SortFunc(s.Peers, func(x, y tunnel.PeerStatus) int { return strings.Compare(x.Subnet, y.Subnet) })
	s.Skipped = append(slices.Clone(s.Skipped), b.notInUDP(s.Skipped)...)
	if b.noTUN != nil {
		s.Problems = append(s.Problems, "packets go by vxlan only, for there is no TUN: "+b.noTUN.Error())
	}
	for _, err := range b.vtep.Missing() {
		s.Problems = append(s.Problems, "no fallback: "+err.Error())
	}
	if b.net != nil {
		problems := make(map[string]netstate.Problem)
		for _, p := range b.net.Status() {
			problems[p.Object] = p
		}
		s.Problems = append(s.Problems, kernel.Texts(problems)...)
	}
	return s
}

func (b *Backend) peerStatus(p *peer, byUDPs map[string]tunnel.PeerStatus, now time.Time) tunnel.PeerStatus {
	if p.udp == nil {
		s := b.vtep.PeerStatus(*p.remote)
		if b.engine != nil {
			s.Notes = append(slices.Clone(s.Notes), "it has no TUN: vxlan only")
		}
		return s
	}
	s, ok := byUDPs[p.udp.Subnet.IPv4.String()]
	switch {
	case !ok: // gone meanwhile
		s = tunnel.PeerStatus{Subnet: p.udp.Subnet.IPv4.String(), NodeID: p.udp.NodeID, Endpoint: p.udp.Endpoint.String(), Path: "udp"}
	case p.path == nil:
		s.Notes = append(s.Notes, "no fallback: its lease announces none")
	case p.path.way == byVXLAN:
		v := b.vtep.PeerStatus(*p.remote)
		s.Path, s.Endpoint, s.PathMTU = v.Path, v.Endpoint, v.PathMTU
		s.Notes = append(s.Notes, p.path.note(now))
	case p.path.why != "" && now.Sub(p.path.since) < noteFor:
		s.Notes = append(s.Notes, p.path.note(now))
	}
	if p.path != nil && p.path.vxlan.silent() {
		s.Notes = append(s.Notes, fmt.Sprintf("its VTEP does not answer: is UDP port %d filtered?", b.vtep.Port()))
	}
	if p.remote != nil {
		s.Notes = append(s.Notes, p.remote.Notes...)
	}
	return s
}

// note says why the path is as it is, and since when.
func (p *path) note(now time.Time) string {
	why := p.why
	if why == "" {
		why = "it has not answered by udp yet"
	}
	return fmt.Sprintf("by %v for %v: %s", p.way, now.Sub(p.since).Round(time.Second), why)
}

// notInUDP are the leases that no path serves and of which the engine, which
// did not see them, says nothing.
func (b *Backend) notInUDP(known []tunnel.SkippedPeer) (more []tunnel.SkippedPeer) {
	for _, s := range b.skipped {
		if !slices.ContainsFunc(known, func(k tunnel.SkippedPeer) bool { return k.Subnet == s.Subnet }) {
			more = append(more, s)
		}
	}
	return more
}
