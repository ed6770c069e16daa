// Package hostgw has the underlay carry packets as they are: each peer's subnet
// is routed via the peer itself, which must be a neighbour on the underlay. It
// is flannel's host-gw: flannel and weft nodes share one network.
package hostgw

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// backendType is the name in leases and in the network config.
const backendType = "host-gw"

// Backend is the host-gw backend of one node.
type Backend struct {
	*kernel.Keeper
	cfg     Config
	log     *slog.Logger
	sides   []side
	missing []error // why a family of the network has no side

	mu    sync.Mutex // guards what follows, which Status reads
	peers []peer
}

// peer is another node and the routes to its subnets.
type peer struct {
	lease  subnet.Lease
	routes []netstate.Route
	notes  []string // why one of its subnets has none
}

var _ tunnel.Backend = (*Backend)(nil)

// New checks the configuration; it changes nothing on the host.
func New(cfg Config) (*Backend, error) {
	sides, missing, err := cfg.sides()
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, log: cfg.Log, sides: sides, missing: missing}
	b.Keeper = kernel.NewKeeper(backendType, b.plan, cfg.Log)
	return b, nil
}

// Data implements tunnel.Backend: there is nothing to know but the public IPs.
func (b *Backend) Data() (typ string, v4, v6 json.RawMessage) { return backendType, nil, nil }

// MTU implements tunnel.Backend. Nothing is added to packets.
func (b *Backend) MTU() int { return b.cfg.Underlay.MTU }

// Start implements tunnel.Backend.
func (b *Backend) Start(ctx context.Context, own subnet.Lease) error {
	if err := b.Keeper.Start(ctx, own); err != nil {
		return err
	}
	b.log.Info("routing directly", "underlay", b.cfg.Underlay.Name, "mtu", b.MTU())
	for _, err := range b.missing {
		b.log.Warn("a part of the network is not carried", "why", err)
	}
	return nil
}

// plan is all that the kernel is to hold. Without a lease no peer is reached;
// what peers still send cannot be kept out here.
func (b *Backend) plan(own subnet.Lease, leases []subnet.Lease) (netstate.State, []tunnel.SkippedPeer) {
	var peers []peer
	self := tunnel.Self{Own: own, Network: b.cfg.Network}
	skipped := tunnel.Select(self, backendType, leases, func(l subnet.Lease) error {
		p, err := b.peer(l)
		if err == nil {
			peers = append(peers, p)
		}
		return err
	})
	b.mu.Lock()
	b.peers = peers
	b.mu.Unlock()

	s := netstate.State{Routes: kernel.LastRoutes(b.cfg.Network, own.Subnet, b.cfg.Blackhole)}
	if own.Subnet.IsZero() {
		return s, skipped
	}
	for _, p := range peers {
		s.Routes = append(s.Routes, p.routes...)
	}
	return s, skipped
}

// peer reads one lease. It is an error if none of its subnets can be reached.
func (b *Backend) peer(l subnet.Lease) (peer, error) {
	p := peer{lease: l}
	for _, s := range b.sides {
		dst, public := l.Subnet.IPv4, l.Attrs.PublicIP
		if s.ipv6 {
			dst, public = l.Subnet.IPv6, l.Attrs.PublicIPv6
		}
		switch {
		case !dst.IsValid():
		case !public.IsValid():
			p.notes = append(p.notes, fmt.Sprintf("%v is not reached: its lease names no public IP of that family", dst))
		default:
			p.routes = append(p.routes, netstate.Route{Dst: dst, Link: b.cfg.Underlay.Name, Via: public, IfNear: true})
		}
	}
	switch {
	case len(p.routes) > 0:
		return p, nil
	case len(p.notes) > 0:
		return p, errors.New(p.notes[0])
	}
	return p, errors.New("no address family in common")
}
