// Package vxlan has the kernel carry packets in VXLAN (RFC 7348), in flannel's
// format: flannel and weft nodes share one network.
//
//	container ─ bridge ─ routing ─► flannel.1 ─ UDP 8472 ─► peer
//
// A node has a device, and for each peer three things in the kernel: a route
// for its subnet via its tunnel address, a neighbour entry that gives this
// address the peer's MAC, and a forwarding (FDB) entry that gives this MAC the
// peer's public IP. All come from the peer's lease; nothing is learned or asked
// for on the wire.
//
// VTEP and Remote say what is wanted, without doing anything. Backend is the
// two of them in the hands of a kernel.Keeper.
package vxlan

import (
	"context"
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/kernel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Backend is the vxlan backend of one node.
type Backend struct {
	*kernel.Keeper
	vtep      *VTEP
	blackhole bool
	log       *slog.Logger
	checksum  *ChecksumTest // from Start to Close

	mu      sync.Mutex // guards what follows, which Status reads
	own     subnet.Subnet
	remotes []Remote
}

var _ tunnel.Backend = (*Backend)(nil)

// New checks the configuration; it changes nothing on the host.
func New(cfg Config) (*Backend, error) {
	vtep, err := NewVTEP(cfg)
	if err != nil {
		return nil, err
	}
	b := &Backend{vtep: vtep, blackhole: cfg.Blackhole, log: cfg.Log}
	b.Keeper = kernel.NewKeeper("vxlan", b.plan, cfg.Log)
	return b, nil
}

// Data implements tunnel.Backend.
func (b *Backend) Data() (typ string, v4, v6 json.RawMessage) {
	v4, v6 = b.vtep.Data()
	return "vxlan", v4, v6
}

// MTU implements tunnel.Backend. In a dual-stack network it is the IPv6
// device's, which is 20 bytes less than flannel says, and what fits.
func (b *Backend) MTU() int { return b.vtep.MTU() }

// VTEP is this node's endpoint, for those who guard its port.
func (b *Backend) VTEP() *VTEP { return b.vtep }

// Start implements tunnel.Backend.
func (b *Backend) Start(ctx context.Context, own subnet.Lease) error {
	b.checksum = NewChecksumTest(b.vtep, b.log, b.Reapply)
	if err := b.Keeper.Start(ctx, own); err != nil {
		b.checksum.Close()
		return err
	}
	b.log.Info("vxlan tunnel is up", "devices", b.vtep.Devices(), "vni", b.vtep.settings.VNI, "port", b.vtep.Port(), "mtu", b.MTU())
	for _, err := range b.vtep.Missing() {
		b.log.Warn("a part of the network is not carried", "why", err)
	}
	return nil
}

// Close implements tunnel.Backend.
func (b *Backend) Close() error {
	b.checksum.Close()
	return b.Keeper.Close()
}

// plan is all that the kernel is to hold. Without a lease the devices are down,
// so that nothing is received either.
func (b *Backend) plan(own subnet.Lease, peers []subnet.Lease) (netstate.State, []tunnel.SkippedPeer) {
	remotes, skipped := b.vtep.Remotes(own, "vxlan", peers)
	b.mu.Lock()
	b.own, b.remotes = own.Subnet, remotes
	b.mu.Unlock()
	b.checksum.SetRemotes(remotes)

	s := b.vtep.State(own.Subnet)
	s.Routes = kernel.LastRoutes(b.vtep.network, own.Subnet, b.blackhole)
	if own.Subnet.IsZero() {
		return s, skipped
	}
	direct, metric := b.vtep.settings.DirectRouting, 0
	if direct {
		metric = behindDirect
	}
	for _, r := range remotes {
		r.Add(&s, own.Subnet, metric)
	}
	if direct {
		// After all routes into the tunnel: when this is switched on, a direct
		// route takes the place of one of those.
		for _, r := range remotes {
			s.Routes = append(s.Routes, r.direct(b.vtep.underlay.Name, own.Subnet)...)
		}
	}
	return s, skipped
}
