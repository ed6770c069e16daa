package udp

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/weftnet/weft/tunnel"
)

// Status describes the engine; problems of the kernel's part are not in it.
func (e *Engine) Status() tunnel.Status {
	table := e.table.Load()
	e.running.Lock()
	defer e.running.Unlock()
	s := tunnel.Status{
		Type:    "udp",
		Device:  e.cfg.Device,
		MTU:     e.mtu,
		Peers:   make([]tunnel.PeerStatus, 0, len(table.Peers())),
		Skipped: table.Skipped(),
		Drops:   make(map[string]uint64),
	}
	if len(e.threads) > 0 {
		s.Capabilities = e.caps.status()
		if e.assisted != nil {
			e.assisted.addTo(&s)
		}
		if e.SourcePorts() {
			s.Capabilities = append(s.Capabilities, e.spreadStatus())
		}
	}
	for _, p := range table.Peers() {
		s.Peers = append(s.Peers, e.peerStatus(p))
	}
	for _, w := range e.workers {
		w.sender.counters.addDrops(s.Drops, "tx")
		for _, r := range w.receivers {
			r.counters.addDrops(s.Drops, "rx")
			if n := r.overflow.Load(); n > 0 {
				s.Drops["rx_socket_full"] += uint64(n)
			}
		}
	}
	return s
}

func (e *Engine) peerStatus(p *tunnel.Peer) tunnel.PeerStatus {
	tx, rx := e.Traffic(p)
	s := tunnel.PeerStatus{
		Subnet:    p.Subnet.IPv4.String(),
		NodeID:    p.NodeID,
		Endpoint:  netip.AddrPortFrom(p.Endpoint, e.port).String(),
		Path:      "udp",
		PathMTU:   e.cfg.Underlay.MTU,
		TxPackets: tx.Packets, TxBytes: tx.Bytes,
		RxPackets: rx.Packets, RxBytes: rx.Bytes,

		SuperpacketsByKernel: e.assisted != nil && e.assisted.sendsSuperpackets(p),
	}
	if p.Subnet.IPv6.IsValid() {
		s.SubnetV6 = p.Subnet.IPv6.String()
	}
	if p.Weft == 0 {
		s.Notes = append(s.Notes, "flannel node: IPv4 only")
	}
	if e.SourcePorts() && !p.SourcePorts {
		s.Notes = append(s.Notes, "sent to from one source port: its lease does not say that it takes more")
	}
	switch {
	case p.Weft == 0 || takesAssist(p) || !e.Assists():
	case p.Assist:
		s.Notes = append(s.Notes, "user space carries all its packets: it is reached over IPv6")
	default:
		s.Notes = append(s.Notes, "user space carries all its packets: its lease announces no assist")
	}
	if e.cfg.Network.IPv6.IsValid() && p.Endpoint.Is6() && e.no6In6() {
		s.Notes = append(s.Notes, fmt.Sprintf("IPv4 only: IPv6 over IPv6 needs an underlay MTU of %d", minMTUIPv6+overheadIPv6))
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

// Health is tunnel.Backend's.
func (e *Engine) Health() error {
	e.running.Lock()
	defer e.running.Unlock()
	if len(e.threads) == 0 {
		return errNotStarted
	}
	for _, t := range e.threads {
		if err := t.health(); err != nil {
			return err
		}
	}
	return nil
}
