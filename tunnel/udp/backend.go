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
// Read send.go and receive.go first: they follow a packet. Each direction has
// a thread of its own, which shares nothing with the others but the immutable
// peer table and the peers' counters.
package udp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Backend is the udp backend of one node.
type Backend struct {
	cfg  Config
	log  *slog.Logger
	port uint16
	mtu  int // of the device
	caps *capabilities

	table   atomic.Pointer[tunnel.Table]
	closing atomic.Bool
	failed  chan error // capacity 1: the first failure

	// What Start makes.
	stop    *wakeUp
	tun     *tunDevice
	sockets []*socket

	// The control side: leases as they were last handed over.
	own   subnet.Lease
	peers []subnet.Lease

	mu        sync.Mutex // guards what follows, which Status and Health read
	net       *netstate.Reconciler
	threads   []*thread
	senders   []*sender
	receivers []*receiver
}

var _ tunnel.Backend = (*Backend)(nil)

// New checks the configuration; it changes nothing on the host.
func New(cfg Config) (*Backend, error) {
	if cfg.Device == "" {
		cfg.Device = DefaultDevice
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	port, configured, err := parseSettings(cfg.Backend, cfg.Network.IPv6.IsValid())
	if err != nil {
		return nil, err
	}
	mtu, err := cfg.deviceMTU(configured)
	if err != nil {
		return nil, err
	}
	caps, err := newCapabilities(cfg.Disable)
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, log: cfg.Log, port: uint16(port), mtu: mtu, caps: caps, failed: make(chan error, 1)}
	b.table.Store(tunnel.NewTable(tunnel.Self{}, nil, nil))
	return b, nil
}

// Data announces wire version 1: this node takes IPv6, inside and outside, and
// understands congestion marks.
func (b *Backend) Data() (typ string, v4, v6 json.RawMessage) {
	return "udp", tunnel.Announcement(), nil
}

// MTU is the device's. A peer that is only reached over IPv6, while this node
// has IPv4 too, takes 20 bytes less: its senders are told by ICMP.
func (b *Backend) MTU() int { return b.mtu }

// Start implements tunnel.Backend. Sockets, device and all else are opened on
// the calling goroutine, and so in its thread's network namespace.
func (b *Backend) Start(ctx context.Context, own subnet.Lease) (err error) {
	if b.stop != nil || b.closing.Load() {
		return errors.New("start the udp backend: it was started already; make a new one")
	}
	if !own.Subnet.IPv4.IsValid() {
		return errors.New("start the udp backend: the lease has no IPv4 subnet")
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the udp backend: %w", err)
			b.release()
		}
	}()
	if b.stop, err = newWakeUp(); err != nil {
		return err
	}
	if err := b.openSockets(); err != nil {
		return err
	}
	if b.tun, err = openTUN(b.cfg.Device, !slices.Contains(b.cfg.Disable, VnetHdr)); err != nil {
		return err
	}
	b.caps.probeTUN(b.tun)
	net, err := netstate.New(b.log)
	if err != nil {
		return err
	}
	b.setNet(net)
	if err := b.net.Apply(b.cfg.networkState(b.mtu, own.Subnet)); err != nil {
		return err
	}
	b.caps.probeWrites(newPort(b.tun.queues[0], b.stop.fd), b.cfg.Network.IPv6.IsValid())
	if err := ctx.Err(); err != nil {
		return err
	}
	b.own = own
	b.replaceTable()
	b.startThreads()
	if missing := b.caps.missing(); missing != "" {
		b.log.Info("udp tunnel is up, slower for want of some features", "device", b.cfg.Device, "mtu", b.mtu, "port", b.port, "off", missing)
	} else {
		b.log.Info("udp tunnel is up", "device", b.cfg.Device, "mtu", b.mtu, "port", b.port)
	}
	return nil
}

func (b *Backend) setNet(r *netstate.Reconciler) {
	b.mu.Lock()
	b.net = r
	b.mu.Unlock()
}

func (b *Backend) openSockets() error {
	for _, addr := range []netip.Addr{b.cfg.Underlay.IPv4, b.cfg.Underlay.IPv6} {
		if !addr.IsValid() {
			continue
		}
		s, err := openSocket(netip.AddrPortFrom(addr, b.port))
		if err != nil {
			return err
		}
		b.sockets = append(b.sockets, s)
	}
	// Both sockets of a host are alike.
	b.caps.probe(UDPSegment, b.sockets[0].probeSegment)
	b.caps.probe(UDPGRO, func() error {
		for _, s := range b.sockets {
			if err := s.enableGRO(); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

// startThreads starts one sending thread for each queue of the TUN and one
// receiving thread for each socket.
func (b *Backend) startThreads() {
	b.mu.Lock()
	defer b.mu.Unlock()
	mtu, trouble := b.cfg.Underlay.MTU, newTrouble(b.log)
	vnetHdr := b.caps.on[VnetHdr]
	for i, queue := range b.tun.queues {
		s := newSender(newPort(queue, b.stop.fd), vnetHdr, &b.table, &b.closing, mtu)
		for _, socket := range b.sockets {
			port := newPort(socket.fd, b.stop.fd)
			batch := newSendBatch(port, socket.addr.Addr().Is6(), b.port, b.caps.on[UDPSegment])
			batch.errors = newErrorQueue(port, &b.table, mtu)
			batch.counters, batch.trouble = s.counters, trouble
			s.batches[socket.family()] = batch
		}
		b.senders = append(b.senders, s)
		b.threads = append(b.threads, startThread(fmt.Sprintf("send-%d", i), b.fail, s.run))
	}
	for i, socket := range b.sockets {
		tun := newPort(b.tun.queues[i%len(b.tun.queues)], b.stop.fd)
		d := newDelivery(tun, vnetHdr, b.caps.on[TUNGRO], b.caps.on[TUNGROUDP], b.log)
		port := newPort(socket.fd, b.stop.fd)
		r := newReceiver(port, &b.table, &b.closing, newErrorQueue(port, &b.table, mtu), d)
		b.receivers = append(b.receivers, r)
		b.threads = append(b.threads, startThread(fmt.Sprintf("receive-%d", i), b.fail, r.run))
	}
}

// fail makes the first failure known.
func (b *Backend) fail(err error) {
	select {
	case b.failed <- err:
	default:
	}
}

// Failed implements tunnel.Backend.
func (b *Backend) Failed() <-chan error { return b.failed }

// SetOwn implements tunnel.Backend. Without a lease the device, its addresses
// and routes stay, and what comes out of it is dropped.
func (b *Backend) SetOwn(own subnet.Lease) error {
	if b.net == nil {
		return errNotStarted
	}
	b.own = own
	b.replaceTable()
	if own.Subnet == (subnet.Subnet{}) {
		return nil
	}
	if err := b.net.Apply(b.cfg.networkState(b.mtu, own.Subnet)); err != nil {
		return fmt.Errorf("set the tunnel address and routes: %w", err)
	}
	return nil
}

// SetPeers implements tunnel.Backend.
func (b *Backend) SetPeers(peers []subnet.Lease) {
	b.peers = peers
	b.replaceTable()
}

// replaceTable makes the peer table anew. It is used for the next batch of
// packets.
func (b *Backend) replaceTable() {
	before := b.table.Load()
	self := tunnel.Self{
		Own:     b.own,
		Network: b.cfg.Network,
		IPv4:    b.cfg.Underlay.IPv4.IsValid() && b.cfg.Underlay.PublicIPv4.IsValid(),
		IPv6:    b.cfg.Underlay.IPv6.IsValid() && b.cfg.Underlay.PublicIPv6.IsValid(),
	}
	table := tunnel.NewTable(self, b.peers, before)
	b.table.Store(table)
	b.logSkipped(before.Skipped(), table.Skipped())
}

// maxSkippedLines is how many leases are named in the log at once.
const maxSkippedLines = 10

// logSkipped logs leases that cannot be served, once each.
func (b *Backend) logSkipped(before, now []tunnel.SkippedPeer) {
	known := make(map[tunnel.SkippedPeer]bool, len(before))
	for _, s := range before {
		known[s] = true
	}
	lines, more := 0, 0
	for _, s := range now {
		switch {
		case known[s]:
		case lines == maxSkippedLines:
			more++
		default:
			lines++
			b.log.Warn("a lease cannot be served", "subnet", s.Subnet, "why", s.Why)
		}
	}
	if more > 0 {
		b.log.Warn("more leases cannot be served, see the status", "leases", more)
	}
}

// Close implements tunnel.Backend. The device goes, and with it its routes;
// the unreachable route stays.
func (b *Backend) Close() error {
	b.release()
	return nil
}

// release undoes Start, as far as that went. Threads end before what they use
// is closed: a descriptor's number may be another file's the moment after. The
// reconciler ends first, or it would mourn the device.
func (b *Backend) release() {
	if b.net != nil {
		b.net.Close()
	}
	b.closing.Store(true)
	if b.stop != nil {
		b.stop.set()
	}
	join(b.threads)
	if b.tun != nil {
		b.tun.close()
	}
	for _, s := range b.sockets {
		s.close()
	}
	if b.stop != nil {
		b.stop.close()
	}
	b.setNet(nil)
	b.tun, b.sockets, b.stop = nil, nil, nil
}
