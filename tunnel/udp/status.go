package udp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/tunnel"
)

// Status implements tunnel.Backend.
func (b *Backend) Status() tunnel.Status {
	table := b.table.Load()
	b.mu.Lock()
	defer b.mu.Unlock()
	s := tunnel.Status{
		Type:    "udp",
		Device:  b.cfg.Device,
		MTU:     b.mtu,
		Peers:   make([]tunnel.PeerStatus, 0, len(table.Peers())),
		Skipped: table.Skipped(),
		Drops:   make(map[string]uint64),
	}
	if len(b.threads) > 0 {
		s.Capabilities = b.caps.status()
	}
	if b.net != nil {
		for _, p := range b.net.Status() {
			s.Problems = append(s.Problems, p.Object+": "+p.Err.Error())
		}
	}
	for _, p := range table.Peers() {
		s.Peers = append(s.Peers, b.peerStatus(p))
	}
	for _, sender := range b.senders {
		sender.counters.addDrops(s.Drops, "tx")
	}
	for _, r := range b.receivers {
		r.counters.addDrops(s.Drops, "rx")
		if n := r.overflow.Load(); n > 0 {
			s.Drops["rx_socket_full"] += uint64(n)
		}
	}
	return s
}

func (b *Backend) peerStatus(p *tunnel.Peer) tunnel.PeerStatus {
	s := tunnel.PeerStatus{
		Subnet:    p.Subnet.IPv4.String(),
		NodeID:    p.NodeID,
		Endpoint:  netip.AddrPortFrom(p.Endpoint, b.port).String(),
		Path:      "udp",
		PathMTU:   b.cfg.Underlay.MTU,
		TxPackets: p.State.Tx.Packets.Load(),
		TxBytes:   p.State.Tx.Bytes.Load(),
		RxPackets: p.State.Rx.Packets.Load(),
		RxBytes:   p.State.Rx.Bytes.Load(),
	}
	if p.Subnet.IPv6.IsValid() {
		s.SubnetV6 = p.Subnet.IPv6.String()
	}
	if p.Weft == 0 {
		s.Notes = append(s.Notes, "flannel node: IPv4 only")
	}
	if mtu, until := p.State.PathMTU.Until(); mtu != 0 {
		s.PathMTU = mtu
		s.Notes = append(s.Notes, fmt.Sprintf("path MTU %d learned, believed for %v more", mtu, time.Until(until).Round(time.Second)))
	}
	if off, until := p.State.Unbatched.Until(); off != 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("udp_segment off for %v more: a send was refused", time.Until(until).Round(time.Second)))
	}
	if n := p.State.Refused.Load(); n > 0 {
		s.Notes = append(s.Notes, fmt.Sprintf("port unreachable, %d times: its daemon was not running", n))
	}
	return s
}

// Health implements tunnel.Backend.
func (b *Backend) Health() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.threads) == 0 {
		return errNotStarted
	}
	for _, t := range b.threads {
		if err := t.health(); err != nil {
			return err
		}
	}
	return nil
}
