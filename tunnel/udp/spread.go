package udp

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

// Spreading (SourcePorts of the config, off by default): to peers that take it,
// flows leave from several source ports rather than one. Each worker has a
// socket for every port. What a peer's kernel, or a network card or a router
// with several ways, tells apart by addresses and ports is then spread over the
// peer's workers, the card's queues, the ways. All goes to the peer's one port,
// as ever; probes come from there too.
//
// The source ports are those from the cluster's port up: a firewall can name
// them, and nothing hands them out as ephemeral ones.

// maxSourcePorts is the most that a cluster may ask for. Each takes a socket and
// 50 KB of each worker, and a wait 0.1 µs more. 16 reach nearly always each of
// the most workers that there are.
const maxSourcePorts = 16

// openSpread opens the sockets of the further source ports of an address. A port
// that another process has is left out: it costs evenness only.
func (e *Engine) openSpread(addr netip.Addr) error {
	for i := 1; i < e.sourcePorts; i++ {
		port := e.port + uint16(i)
		list, err := openSockets(netip.AddrPortFrom(addr, port), e.cfg.Workers)
		if errors.Is(err, unix.EADDRINUSE) {
			e.log.Warn("another process has a source port of the tunnel's, doing without it", "address", addr, "port", port)
			continue
		}
		if err != nil {
			return err
		}
		for j, s := range list {
			e.spread[j] = append(e.spread[j], s)
		}
		for _, s := range list {
			if err := s.sendOnly(); err != nil {
				return err
			}
		}
	}
	return nil
}

// sendOnly has the kernel drop what arrives at the socket: no peer sends there,
// so it would only wait in a buffer that nobody reads. ICMP errors still come.
func (s *socket) sendOnly() error {
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K} // 0 bytes of each packet
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop}); err != nil {
		return fmt.Errorf("keep datagrams from UDP port %d: %w", s.addr.Port(), err)
	}
	return nil
}

// sourcePort chooses one of n source ports by the hash of a flow, so that each
// flow stays with one and in order.
func sourcePort(hash uint32, n int) int { return int(uint64(hash) * uint64(n) >> 32) }

// spreadStatus says how many source ports are in use. The caller holds running.
func (e *Engine) spreadStatus() tunnel.Capability {
	c := tunnel.Capability{Name: "source_ports"}
	if len(e.workers) == 0 {
		return c
	}
	for family, list := range e.workers[0].sender.batches {
		if len(list) == 0 {
			continue
		}
		if c.Why != "" {
			c.Why += ", "
		}
		c.Why += fmt.Sprintf("IPv%d: %d of the ports %d to %d", 4+2*family, len(list), e.port, int(e.port)+e.sourcePorts-1)
		c.On = c.On || len(list) > 1
	}
	return c
}
