package udp

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/udp/assist"
)

// Engine carries packets between a TUN and its sockets, and leaves the kernel's
// part of the work, State, to its owner.
//
// Its life: NewEngine, Open, Run once the kernel holds State, any number of
// SetOwn and SetPeers, Close. Status and Health may be called at any time from
// any goroutine; Probe and Starved are for one, and the rest is for one.
type Engine struct {
	cfg  Config
	log  *slog.Logger
	port uint16
	mtu  int // of the device
	caps *capabilities

	sourcePorts int       // asked for, port among them
	assisted    *assisted // nil where the kernel has no assist

	table   atomic.Pointer[tunnel.Table]
	closing atomic.Bool
	failed  chan error // capacity 1: the first failure

	// What Open makes.
	stop    *wakeUp
	tun     *tunDevice
	sockets [][]*socket // of each worker, one for each address family
	spread  [][]*socket // of each worker, those of further source ports
	asking  *echo

	received map[*receiver]uint64 // how often, as Starved last saw it

	// The control side: leases as they were last handed over.
	own   subnet.Lease
	peers []subnet.Lease

	trouble *trouble   // of all workers; nil before Run
	running sync.Mutex // guards what follows, which Status and Health read
	threads []*thread
	workers []*worker
}

// NewEngine checks the configuration; it changes nothing on the host.
func NewEngine(cfg Config) (*Engine, error) {
	if cfg.Device == "" {
		cfg.Device = DefaultDevice
	}
	if cfg.Workers == 0 {
		cfg.Workers = defaultWorkers(runtime.GOMAXPROCS(0))
	}
	if err := cfg.validate(); err != nil {
		return nil, err
	}
	s, err := parseSettings(cfg.Backend, cfg.Network.IPv6.IsValid())
	if err != nil {
		return nil, err
	}
	mtu, err := cfg.deviceMTU(s.MTU)
	if err != nil {
		return nil, err
	}
	caps, err := newCapabilities(cfg.Disable)
	if err != nil {
		return nil, err
	}
	if cfg.Notify == nil {
		cfg.Notify = func() {}
	}
	e := &Engine{cfg: cfg, log: cfg.Log, port: uint16(s.Port), sourcePorts: s.SourcePorts, mtu: mtu, caps: caps, failed: make(chan error, 1), received: make(map[*receiver]uint64)}
	e.table.Store(tunnel.NewTable(tunnel.Self{}, nil, nil))
	// The lease has to say it before anything is opened.
	caps.probe(Assist, cfg.checkAssist)
	if caps.on[Assist] {
		e.assisted = newAssisted(&e.cfg)
	}
	return e, nil
}

// CheckTUN tells why this host can have no TUN: there is no /dev/net/tun, as in
// a container that was not given it, or it may not be opened. It does not try to
// make a device. That is refused to those who may make no other device either,
// or because the name is another program's: then nobody is to be joined.
func CheckTUN() error {
	fd, err := unix.Open(tunPath, unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return explainTUN("", fmt.Errorf("open %s: %w", tunPath, err))
	}
	unix.Close(fd)
	return nil
}

// MTU is the device's. A peer that is only reached over IPv6, while this node
// has IPv4 too, takes 20 bytes less: its senders are told by ICMP.
func (e *Engine) MTU() int { return e.mtu }

// SourcePorts reports whether packets to peers that take it leave from several
// source ports, and so whether this node's lease says that it takes it too.
func (e *Engine) SourcePorts() bool { return e.sourcePorts > 1 }

// Assists reports whether this node's lease says that its kernel takes packets by
// itself. While the engine runs that may change.
func (e *Engine) Assists() bool { return e.assisted != nil && e.assisted.why() == nil }

// Device is the name of the TUN.
func (e *Engine) Device() string { return e.cfg.Device }

// Open opens the sockets and makes the device, in the network namespace of the
// calling goroutine's thread. After an error, Close closes what was opened.
func (e *Engine) Open() (err error) {
	if e.opened() {
		return errors.New("an engine is opened once: make a new one")
	}
	if e.stop, err = newWakeUp(); err != nil {
		return err
	}
	if err := e.openSockets(); err != nil {
		return err
	}
	if e.tun, err = openTUN(e.cfg.Device, !slices.Contains(e.cfg.Disable, VnetHdr), e.cfg.Workers); err != nil {
		return err
	}
	e.caps.probeTUN(e.tun)
	return nil
}

// opened: it is so, or was.
func (e *Engine) opened() bool { return e.stop != nil || e.closing.Load() }

func (e *Engine) openSockets() error {
	e.asking = newEcho(e.port, e.cfg.Notify)
	e.sockets = make([][]*socket, e.cfg.Workers)
	e.spread = make([][]*socket, e.cfg.Workers)
	var all []*socket
	for _, addr := range []netip.Addr{e.cfg.Underlay.IPv4, e.cfg.Underlay.IPv6} {
		if !addr.IsValid() {
			continue
		}
		list, err := openSockets(netip.AddrPortFrom(addr, e.port), e.cfg.Workers)
		if err != nil {
			return err
		}
		for i, s := range list {
			s.fd = moveUp(s.fd, socketDescriptors)
			e.sockets[i] = append(e.sockets[i], s)
		}
		if err := e.openSpread(addr); err != nil {
			return err
		}
		e.asking.ports[list[0].family()] = fdPort{list[0].fd}
		all = append(all, list...)
	}
	// All sockets of a host are alike.
	e.caps.probe(UDPSegment, all[0].probeSegment)
	e.caps.probe(UDPGRO, func() error {
		for _, s := range all {
			if err := s.enableGRO(); err != nil {
				return err
			}
		}
		return nil
	})
	return nil
}

// State is what the kernel must hold for packets to come to the device.
func (e *Engine) State(own subnet.Subnet) netstate.State {
	return e.cfg.networkState(e.mtu, own)
}

// Run starts to carry packets, of no peers yet. The device must be up.
func (e *Engine) Run(own subnet.Lease) {
	e.caps.probeWrites(fdPort{e.tun.queues[0]}, e.cfg.Network.IPv6.IsValid())
	// Trials of others are answered only if the TUN hands them over whole.
	e.caps.probe(AssistGSO, func() error { return cmp.Or(e.caps.needs(Assist), e.caps.needs(TSO)) })
	// Only in batches does user space carry more.
	e.caps.probe(AssistFloods, func() error {
		return cmp.Or(assist.CheckRings(), e.caps.needs(Assist), e.caps.needs(UDPSegment), e.caps.needs(UDPGRO), e.caps.needs(TUNGROUDP))
	})
	e.startAssist()
	e.SetOwn(own)
	e.startThreads()
	if missing := e.caps.missing(); missing != "" {
		e.log.Info("udp tunnel is up, slower for want of some features", "device", e.cfg.Device, "mtu", e.mtu, "port", e.port, "off", missing)
	} else {
		e.log.Info("udp tunnel is up", "device", e.cfg.Device, "mtu", e.mtu, "port", e.port)
	}
}

// startThreads starts a worker for each queue of the TUN.
func (e *Engine) startThreads() {
	e.running.Lock()
	defer e.running.Unlock()
	e.trouble = newTrouble(e.log)
	for i, queue := range e.tun.queues {
		w := e.newWorker(i, queue, e.sockets[i], e.spread[i])
		e.workers = append(e.workers, w)
		e.threads = append(e.threads, startThread(fmt.Sprintf("worker %d", i), e.fail, w.run))
	}
}

// newWorker makes worker i, of one queue and the sockets that go with it, those of
// further source ports apart.
func (e *Engine) newWorker(i, queue int, sockets, spread []*socket) *worker {
	vnetHdr, stop := e.caps.on[VnetHdr], e.stop.fd
	tun := fdPort{queue}
	s := newSender(tun, vnetHdr, &e.table, e.cfg.Underlay.MTU)
	var receivers []*receiver
	ports := []int{queue, e.addRing(i, s)}
	for _, socket := range sockets {
		port := fdPort{socket.fd}
		ports = append(ports, socket.fd)
		batch := e.addBatch(s, socket)
		d := newDelivery(tun, vnetHdr, e.caps.on[TUNGRO], e.caps.on[TUNGROUDP], e.trouble)
		d.mtu, d.most = e.mtu, e.cfg.Underlay.MTU-overheadIPv4
		r := newReceiver(port, &e.table, batch.errors, d)
		r.echo = newEcho(e.port, e.cfg.Notify)
		r.echo.ports[socket.family()] = port
		if socket.family() == 0 {
			s.echo = r.echo // of the same thread
		}
		receivers = append(receivers, r)
	}
	var sendOnly []*sendBatch
	for _, socket := range spread {
		ports = append(ports, socket.fd)
		sendOnly = append(sendOnly, e.addBatch(s, socket))
	}
	return newWorker(&e.closing, newPoller(stop, ports...), s, receivers, sendOnly)
}

// addRing has worker i's sender take from its ring, if there is one, and returns its
// descriptor, or one that is none.
func (e *Engine) addRing(i int, s *sender) (fd int) {
	if e.assisted == nil || i >= len(e.assisted.rings) {
		return -1
	}
	ring := e.assisted.rings[i]
	s.ring = ring
	return ring.FD()
}

// addBatch has a sender send by a socket too.
func (e *Engine) addBatch(s *sender, socket *socket) *sendBatch {
	port, family := fdPort{socket.fd}, socket.family()
	batch := newSendBatch(port, socket.addr.Addr().Is6(), e.port, e.caps.on[UDPSegment])
	batch.errors = newErrorQueue(port, &e.table, e.cfg.Underlay.MTU)
	batch.errors.notify = e.cfg.Notify
	if e.assisted != nil {
		batch.errors.learned = e.assisted.learned
	}
	batch.counters, batch.trouble = s.counters, e.trouble
	s.batches[family] = append(s.batches[family], batch)
	return batch
}

// fail makes the first failure known.
func (e *Engine) fail(err error) {
	select {
	case e.failed <- err:
	default:
	}
}

// Failed is tunnel.Backend's.
func (e *Engine) Failed() <-chan error { return e.failed }

// SetOwn changes this node's lease. With the zero Lease, what comes out of the
// device is dropped.
func (e *Engine) SetOwn(own subnet.Lease) {
	e.own = own
	e.replaceTable()
}

// SetPeers replaces the set of peers, as tunnel.Backend's does.
func (e *Engine) SetPeers(peers []subnet.Lease) {
	e.peers = peers
	e.replaceTable()
}

// Peers lists the peers that are served, by subnet; nobody may write to it.
func (e *Engine) Peers() []*tunnel.Peer { return e.table.Load().Peers() }

// Probe asks a peer for a sign of life (package probe) and returns the number
// of the probe: the peer's Echoes tell when it is answered. An error says that
// none was sent, for reasons of this host, though a number may be used up. It is
// for one goroutine, which may be another than that of SetOwn and SetPeers.
func (e *Engine) Probe(peer *tunnel.Peer) (seq uint64, err error) {
	own := e.table.Load().Own()
	if !own.IPv4.IsValid() {
		return 0, errors.New("this node holds no lease")
	}
	return e.asking.ask(own.IPv4.Addr(), peer)
}

// Starved tells whether datagrams wait at a socket from which none have been
// received since the last call: this host gives the data path no time, and
// answers to probes may be among them. It is for Probe's goroutine, from Run to
// Close.
func (e *Engine) Starved() (starved bool) {
	for i, w := range e.workers {
		for j, r := range w.receivers {
			n := r.counters.in.calls.Load()
			if n == e.received[r] && e.sockets[i][j].waiting() {
				starved = true
			}
			e.received[r] = n
		}
	}
	return starved
}

// replaceTable makes the peer table anew. It is used for the next batch of
// packets.
func (e *Engine) replaceTable() {
	before := e.table.Load()
	self := tunnel.Self{
		Own:     e.own,
		Network: e.cfg.Network,
		IPv4:    e.cfg.Underlay.IPv4.IsValid() && e.cfg.Underlay.PublicIPv4.IsValid(),
		IPv6:    e.cfg.Underlay.IPv6.IsValid() && e.cfg.Underlay.PublicIPv6.IsValid(),
		No6In6:  e.no6In6(),
	}
	table := tunnel.NewTable(self, e.peers, before)
	e.table.Store(table)
	if e.assisted != nil {
		e.assisted.meet(table)
	}
	tunnel.LogSkipped(e.log, before.Skipped(), table.Skipped())
}

// no6In6: an IPv6 packet of the least size does not fit an IPv6 underlay.
func (e *Engine) no6In6() bool { return e.cfg.Underlay.MTU < minMTUIPv6+overheadIPv6 }

// Close stops carrying packets, as far as that was begun, and removes the
// device. The kernel's part comes first, while there is somebody to take what it
// does not take any more. Threads end before what they use is closed: a
// descriptor's number may be another file's the moment after.
func (e *Engine) Close() {
	if e.assisted != nil {
		e.assisted.close()
	}
	e.closing.Store(true)
	if e.stop != nil {
		e.stop.set()
	}
	join(e.threads)
	if e.trouble != nil {
		e.trouble.close()
	}
	if e.tun != nil {
		e.tun.close()
	}
	for _, list := range slices.Concat(e.sockets, e.spread) {
		for _, s := range list {
			s.close()
		}
	}
	if e.assisted != nil {
		e.assisted.closeRings()
	}
	if e.stop != nil {
		e.stop.close()
	}
	e.tun, e.sockets, e.spread, e.stop, e.trouble = nil, nil, nil, nil, nil
}
