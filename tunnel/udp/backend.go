// Package udp carries packets in user space: each inner IP packet is one UDP
// datagram, without any header of its own, as with flannel's udp backend.
//
//	TUN ─ sender ───► peer table ─ cut ── batch ──► socket ──► peer
//	TUN ◄─ delivery ◄ join ── check ─── receiver ◄─ socket ◄── peer
//
// The device hands over TCP and UDP superpackets of up to 64 KiB, and takes
// them. A superpacket is cut by pointing iovecs at its payload where it lies,
// with headers from scratch memory, and leaves in as few sends as the kernel's
// UDP_SEGMENT allows; the other way is the mirror image, with UDP_GRO. Payload
// is never copied in user space. Each capability of the kernel that is missing
// costs speed only, see Feature.
//
// Read send.go and receive.go first: they follow a packet. A worker, which is a
// thread, carries packets both ways; it shares nothing with the others but the
// immutable peer table and the peers' counters.
package udp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Backend is the udp backend of one node: an Engine, with the kernel's part of
// the work kept as the engine wants it.
type Backend struct {
	*Engine

	mu  sync.Mutex           // guards net, which Status reads
	net *netstate.Reconciler // nil before Start and after Close
}

var _ tunnel.Backend = (*Backend)(nil)

// New checks the configuration; it changes nothing on the host.
func New(cfg Config) (*Backend, error) {
	e, err := NewEngine(cfg)
	if err != nil {
		return nil, err
	}
	return &Backend{Engine: e}, nil
}

// Data announces wire version 1: this node takes IPv6, inside and outside, and
// understands congestion marks; spread source ports, if it spreads them; and the
// kernel assist, while it has it.
func (b *Backend) Data() (typ string, v4, v6 json.RawMessage) {
	data, err := json.Marshal(tunnel.Announced{Weft: tunnel.WireVersion, SourcePorts: b.SourcePorts(), Assist: b.Assists()})
	if err != nil { // it is numbers and booleans
		data = tunnel.Announcement()
	}
	return "udp", data, nil
}

// Start implements tunnel.Backend. Sockets, device and all else are opened on
// the calling goroutine, and so in its thread's network namespace.
func (b *Backend) Start(ctx context.Context, own subnet.Lease) (err error) {
	if b.opened() {
		return errors.New("start the udp backend: it was started already; make a new one")
	}
	if !own.Subnet.IPv4.IsValid() {
		return errors.New("start the udp backend: the lease has no IPv4 subnet")
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the udp backend: %w", err)
			b.Close()
		}
	}()
	if err := b.Open(); err != nil {
		return err
	}
	net, err := netstate.New(b.log)
	if err != nil {
		return err
	}
	b.setNet(net)
	if err := b.net.Apply(b.State(own.Subnet)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.Run(own)
	return nil
}

func (b *Backend) setNet(r *netstate.Reconciler) {
	b.mu.Lock()
	b.net = r
	b.mu.Unlock()
}

// SetOwn implements tunnel.Backend. Without a lease the device, its addresses
// and routes stay, and what comes out of it is dropped.
func (b *Backend) SetOwn(own subnet.Lease) error {
	if b.net == nil {
		return errNotStarted
	}
	b.Engine.SetOwn(own)
	if own.Subnet.IsZero() {
		return nil
	}
	if err := b.net.Apply(b.State(own.Subnet)); err != nil {
		return fmt.Errorf("set the tunnel address and routes: %w", err)
	}
	return nil
}

// Status implements tunnel.Backend.
func (b *Backend) Status() tunnel.Status {
	s := b.Engine.Status()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.net != nil {
		for _, p := range b.net.Status() {
			s.Problems = append(s.Problems, p.Object+": "+p.Err.Error())
		}
	}
	return s
}

// Close implements tunnel.Backend. The device goes, and with it its routes;
// the unreachable route stays. The reconciler ends first, or it would mourn
// the device.
func (b *Backend) Close() error {
	if b.net != nil {
		b.net.Close()
	}
	b.Engine.Close()
	b.setNet(nil)
	return nil
}
