// Package fallback carries packets by udp, in user space, and has the kernel's
// VXLAN carry them when udp does not: towards one peer or all of them, also
// while weftd is dead.
//
//	10.5.0.0/16 dev flannel0                                          udp, for all
//	10.5.2.0/24 dev flannel0 metric 100                               udp, while it works
//	10.5.2.0/24 via 10.5.2.0 dev flannel.1 onlink metric 200          vxlan
//	unreachable 10.5.0.0/16 metric 2147483647
//
// When the process dies, flannel0 goes, and with it the routes of metric 100:
// the kernel sends by vxlan from the next packet on. What others send to this
// node they move themselves, each for itself: at an ICMP port unreachable, or
// when probes are not answered. The same happens for a peer whose udp path is
// blocked. See path for when a peer is moved, and when back.
//
// A peer that announces no VTEP, a flannel node for instance, is reached by udp
// alone; one that has no TUN by vxlan alone.
package fallback

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/probe"
	"github.com/weftnet/weft/tunnel/udp"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// Metrics of a peer's routes. Any of them is better than the network's route,
// for its prefix is longer.
const (
	metricUDP   = 100
	metricVXLAN = 200
)

// Backend is udp with a fallback, on one node.
type Backend struct {
	cfg    Config
	log    *slog.Logger
	vtep   *vxlan.VTEP
	mtu    int         // of all devices
	engine *udp.Engine // nil where there can be no TUN
	noTUN  error       // why there is none

	wake   chan struct{} // capacity 1: a peer has answered or refused
	failed chan error    // capacity 1: there can be a TUN again

	// From Start to Close.
	stop     context.CancelFunc
	flying   sync.WaitGroup // the pilot
	checksum *vxlan.ChecksumTest
	arp      *arpSocket // nil where no path can be probed by ARP

	applying sync.Mutex // held from making a state until it is applied
	told     string     // the last error that was logged; under applying

	mu      sync.Mutex           // guards what follows
	net     *netstate.Reconciler // nil before Start and after Close
	own     subnet.Lease
	known   bool // peers were handed over
	peers   []*peer
	paths   map[*tunnel.PeerState]*path
	skipped []tunnel.SkippedPeer

	byTunnelAddr map[netip.Addr]*peer // those that have two ways
}

// peer is another node that is reached in at least one way.
type peer struct {
	udp    *tunnel.Peer  // nil without a udp path
	remote *vxlan.Remote // nil without a VTEP
	path   *path         // nil where there is only one way
}

var _ tunnel.Backend = (*Backend)(nil)

// New checks the configuration, and whether this host can have a TUN. It
// changes nothing on the host.
func New(cfg Config) (*Backend, error) {
	s, err := parseSettings(cfg.Backend)
	if err != nil {
		return nil, err
	}
	b := &Backend{
		cfg: cfg, log: cfg.Log,
		wake: make(chan struct{}, 1), failed: make(chan error, 1),
		paths: make(map[*tunnel.PeerState]*path),
	}
	b.vtep, err = vxlan.NewVTEP(vxlan.Config{
		Underlay: cfg.Underlay, Network: cfg.Network, Backend: s.VXLAN, NodeID: cfg.NodeID, Beside: true, Log: cfg.Log,
	})
	if err != nil {
		return nil, fmt.Errorf("the fallback, vxlan: %w", err)
	}
	cfg.Fits, cfg.Notify = b.vtep.MTU(), b.notify
	engine, err := udp.NewEngine(cfg.Config)
	if err != nil {
		return nil, err
	}
	b.mtu = engine.MTU()
	if b.noTUN = udp.CheckTUN(); b.noTUN == nil {
		b.engine = engine
	}
	return b, nil
}

func (b *Backend) notify() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

// leaseData is the BackendData of a lease: what weft's udp backend and
// flannel's vxlan backend write, in one object.
type leaseData struct {
	tunnel.Announced
	VNI     *int   `json:",omitempty"`
	VtepMAC string `json:",omitempty"`
}

// Data implements tunnel.Backend: a udp lease that names a VTEP as well.
func (b *Backend) Data() (typ string, v4, v6 json.RawMessage) {
	d := leaseData{Announced: tunnel.Announced{Weft: tunnel.WireVersion, Probe: probe.Version}}
	if b.engine == nil {
		d.Probe, d.NoUDP = 0, true
	} else {
		d.SourcePorts, d.Assist = b.engine.SourcePorts(), b.engine.Assists()
	}
	v4, v6 = b.vtep.Data()
	if v4 != nil {
		if err := json.Unmarshal(v4, &d); err != nil {
			return "udp", tunnel.Announcement(), nil // it was marshalled a moment ago
		}
	}
	data, err := json.Marshal(d)
	if err != nil {
		return "udp", tunnel.Announcement(), nil // numbers and a string
	}
	return "udp", data, v6
}

// MTU implements tunnel.Backend: what fits both ways.
func (b *Backend) MTU() int { return b.mtu }

// VTEP is this node's endpoint, for those who guard its port.
func (b *Backend) VTEP() *vxlan.VTEP { return b.vtep }

// Devices names all devices that packets pass.
func (b *Backend) Devices() []string {
	if b.engine == nil {
		return b.vtep.Devices()
	}
	return append([]string{b.engine.Device()}, b.vtep.Devices()...)
}

// Start implements tunnel.Backend. It takes over what an earlier run left for
// vxlan, so that flows go on; udp takes them from there peer by peer, once it
// is known to work.
func (b *Backend) Start(ctx context.Context, own subnet.Lease) (err error) {
	if b.stop != nil {
		return errors.New("start udp with fallback: it was started already; make a new one")
	}
	if !own.Subnet.IPv4.IsValid() {
		return errors.New("start udp with fallback: the lease has no IPv4 subnet")
	}
	var running context.Context
	running, b.stop = context.WithCancel(context.WithoutCancel(ctx))
	defer func() {
		if err != nil {
			err = fmt.Errorf("start udp with fallback: %w", err)
			b.release()
		}
	}()
	if b.engine != nil {
		if err := b.engine.Open(); err != nil {
			return err
		}
	}
	net, err := netstate.New(b.log)
	if err != nil {
		return err
	}
	b.mu.Lock()
	b.net, b.own = net, own
	b.mu.Unlock()
	if err := b.startUDP(net, own); err != nil {
		return err
	}
	if err := b.apply(); err != nil {
		if b.engine == nil {
			return err
		}
		b.log.Error("the fallback is not there: packets go by udp only", "error", err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.checksum = vxlan.NewChecksumTest(b.vtep, b.log, func() { _ = b.applyLogged() })
	b.log.Info("fallback is up", "devices", b.vtep.Devices(), "port", b.vtep.Port(), "mtu", b.mtu)
	for _, err := range b.vtep.Missing() {
		b.log.Warn("a part of the network has no fallback", "why", err)
	}
	b.openARP()
	b.flying.Go(func() { b.run(running) })
	return nil
}

// openARP opens the socket in the namespace of the calling thread. Without it
// nothing is known of the VTEPs of peers, and they are taken to work.
func (b *Backend) openARP() {
	device, _, ok := b.vtep.ARP()
	if !ok || b.engine == nil {
		return
	}
	arp, err := openARP(device)
	if err != nil {
		b.log.Warn("whether peers can be reached by vxlan is not tested", "error", err)
		return
	}
	b.arp = arp
}

// startUDP starts the engine, if there is one. What it needs of the kernel must
// work, while vxlan need not.
func (b *Backend) startUDP(net *netstate.Reconciler, own subnet.Lease) error {
	if b.engine == nil {
		b.log.Warn("there is no TUN: packets go by vxlan only, and nodes without it are not reached", "why", b.noTUN)
		return nil
	}
	s := b.engine.State(own.Subnet)
	s.Partial = true
	if err := net.Apply(s); err != nil {
		return err
	}
	b.engine.Run(own)
	return nil
}

// SetOwn implements tunnel.Backend. Without a lease the VXLAN devices are down,
// and what comes out of the TUN is dropped. As at the start, a fallback that
// cannot be had is no reason to do without udp.
func (b *Backend) SetOwn(own subnet.Lease) error {
	if b.net == nil {
		return errNotStarted
	}
	if b.engine != nil {
		b.engine.SetOwn(own)
	}
	b.mu.Lock()
	b.own = own
	b.mu.Unlock()
	if err := b.applyLogged(); err != nil && b.engine == nil {
		return fmt.Errorf("set addresses and routes: %w", err)
	}
	return nil
}

// SetPeers implements tunnel.Backend. What the kernel refuses is logged, once,
// and tried again by the reconciler.
func (b *Backend) SetPeers(leases []subnet.Lease) {
	if b.net == nil {
		return
	}
	b.mu.Lock()
	b.meet(leases)
	b.mu.Unlock()
	_ = b.applyLogged()
	b.notify() // new peers are asked at once
}

// apply makes the kernel as it is to be now. The caller holds applying, unless
// nobody else can call it yet.
func (b *Backend) apply() error {
	b.mu.Lock()
	s, net := b.state(), b.net
	b.mu.Unlock()
	return net.Apply(s)
}

// applyLogged logs an error, if it is another one than the last time.
func (b *Backend) applyLogged() error {
	b.applying.Lock()
	defer b.applying.Unlock()
	err, told := b.apply(), ""
	if err != nil {
		told = err.Error()
		if told != b.told {
			b.log.Error("not every peer is reached as it should be; this is tried again", "error", err)
		}
	}
	b.told = told
	return err
}

// withdraw takes routes away at once. No state that has them is being applied,
// nor will be made.
func (b *Backend) withdraw(routes []netstate.Route) error {
	b.applying.Lock()
	defer b.applying.Unlock()
	b.mu.Lock()
	net := b.net
	b.mu.Unlock()
	return net.Withdraw(routes...)
}

// Failed implements tunnel.Backend. Where there was no TUN at the start, that
// there can be one now is a failure too: it takes another start, with another
// lease.
func (b *Backend) Failed() <-chan error {
	if b.engine == nil {
		return b.failed
	}
	return b.engine.Failed()
}

// Health implements tunnel.Backend.
func (b *Backend) Health() error {
	b.mu.Lock()
	started := b.net != nil
	b.mu.Unlock()
	switch {
	case !started:
		return errNotStarted
	case b.engine == nil:
		return nil // the kernel carries the packets
	}
	return b.engine.Health()
}

var errNotStarted = errors.New("udp with fallback is not started")

// Close implements tunnel.Backend. All that vxlan needs stays, and flows go on
// by it.
func (b *Backend) Close() error {
	if b.net == nil {
		return nil
	}
	b.land()
	var err error
	if b.engine != nil {
		// Routes lead away from the TUN before it goes.
		b.mu.Lock()
		s, net := b.stateWithout(), b.net
		b.mu.Unlock()
		err = net.Apply(s)
	}
	b.release()
	return err
}

// land ends what changes routes by itself.
func (b *Backend) land() {
	b.stop()
	b.flying.Wait()
	b.checksum.Close()
}

// release ends the reconciler before the TUN goes, or it would mourn it.
func (b *Backend) release() {
	b.land()
	if b.arp != nil {
		b.arp.close()
		b.arp = nil
	}
	if b.net != nil {
		b.net.Close()
	}
	if b.engine != nil {
		b.engine.Close()
	}
	b.mu.Lock()
	b.net = nil
	b.mu.Unlock()
}
