package udp

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/udp/assist"
)

// checkAssist tells why the kernel cannot carry packets by itself on this host.
// It changes nothing.
func (c *Config) checkAssist() error {
	if !c.Underlay.IPv4.IsValid() || !c.Underlay.PublicIPv4.IsValid() {
		return errors.New("the underlay is IPv6 only")
	}
	if _, err := c.ethernet(); err != nil {
		return err
	}
	return assist.Check()
}

// ethernet is the interface index of the underlay, which must be Ethernet.
func (c *Config) ethernet() (index int, err error) {
	link, err := netlink.LinkByName(c.Underlay.Name)
	if err != nil {
		return 0, fmt.Errorf("look at the underlay %s: %w", c.Underlay.Name, err)
	}
	if typ := link.Attrs().EncapType; typ != "ether" {
		return 0, fmt.Errorf("the underlay %s is not Ethernet but %s", c.Underlay.Name, typ)
	}
	return link.Attrs().Index, nil
}

// assisted keeps the kernel assist of one engine as leases and paths are. What
// it does not carry goes through user space, and nobody has to know which way a
// packet went.
type assisted struct {
	log *slog.Logger
	mtu int // of the underlay

	kernel atomic.Pointer[assist.Assist] // nil before start
	narrow atomic.Bool                   // some peer has a path MTU, or had one lately
	learn  chan struct{}                 // capacity 1: one was learned

	ipsec    *assist.IPsec
	opener   *opener
	rings    []*assist.Ring     // of the workers; they outlive kernel
	trials   *trials            // nil where superpackets are not asked for
	stop     context.CancelFunc // nil before start
	watching sync.WaitGroup

	mu    sync.Mutex // guards what follows
	table *tunnel.Table
	off   error   // why the kernel carries nothing for now
	gone  bool    // it will not again
	fault error   // for this reason, if it is not that the engine is closed
	past  carried // for peers that it has forgotten
	drops drops   // those of when it has gone

	ipsecAt time.Time // when there were IPsec policies last

	noSuper error     // why it carries no superpackets
	madeAt  time.Time // when it was last tried to make what they arrive by
}

// carried is what was carried, to peers and from them.
type carried struct {
	tx, rx assist.Count
	super  uint64 // superpackets sent
}

func (c *carried) add(more carried) {
	c.tx.Packets += more.tx.Packets
	c.tx.Bytes += more.tx.Bytes
	c.rx.Packets += more.rx.Packets
	c.rx.Bytes += more.rx.Bytes
	c.super += more.super
}

// newAssisted looks whether the kernel may begin at once: IPsec may be in its way
// for a while.
func newAssisted(cfg *Config) *assisted {
	return &assisted{
		log: cfg.Log, mtu: cfg.Underlay.MTU,
		learn: make(chan struct{}, 1),
		table: tunnel.NewTable(tunnel.Self{}, nil, nil),
		off:   assist.CheckIPsec(),
	}
}

// start attaches the programs, which carry nothing yet, in the network namespace
// of the calling goroutine's thread. Whether it fails or not, close ends it. An
// error is for doWithout.
func (a *assisted) start(cfg assist.Config, opener *opener) (err error) {
	a.opener = opener
	if a.ipsec, err = assist.OpenIPsec(); err != nil {
		return err
	}
	kernel, err := assist.Attach(cfg)
	if err != nil {
		return err
	}
	a.rings = kernel.Rings()
	a.kernel.Store(kernel)
	if why := a.why(); why != nil {
		a.logOff(why)
	}
	if cfg.Superpackets {
		a.mu.Lock()
		a.trials = newTrials(a.log, kernel, opener.open)
		a.noteSuperpackets(kernel.Superpackets())
		a.mu.Unlock()
	}
	ctx, stop := context.WithCancel(context.Background())
	a.stop = stop
	a.watching.Go(func() { a.watch(ctx) })
	a.watching.Go(func() { a.tend(ctx) })
	return nil
}

// meet has the kernel know the peers of a table.
func (a *assisted) meet(table *tunnel.Table) {
	a.mu.Lock()
	defer a.mu.Unlock()
	before := a.table
	a.table = table
	if a.kernel.Load() == nil || a.gone {
		return
	}
	a.settle(forgotten(before, table), a.apply)
}

// takesAssist: the kernel may send to the peer, and receive from it.
func takesAssist(p *tunnel.Peer) bool { return p.Assist && p.Endpoint.Is4() }

// forgotten are the peers of a table of which the kernel loses the counters, once
// it knows the next table.
func forgotten(before, next *tunnel.Table) (list []*tunnel.Peer) {
	for _, p := range before.Peers() {
		now := next.Lookup(p.Subnet.IPv4.Addr())
		if takesAssist(p) && (now == nil || !takesAssist(now) || now.Subnet.IPv4 != p.Subnet.IPv4 || now.Endpoint != p.Endpoint) {
			list = append(list, p)
		}
	}
	return list
}

// settle makes a change by which the kernel forgets what it has counted for some
// peers, and adds that to what user space has.
func (a *assisted) settle(peers []*tunnel.Peer, change func()) {
	counted := make([]carried, len(peers))
	for i, p := range peers {
		counted[i] = a.carried(p)
	}
	change()
	for i, p := range peers {
		p.State.Tx.Packets.Add(counted[i].tx.Packets)
		p.State.Tx.Bytes.Add(counted[i].tx.Bytes)
		p.State.Rx.Packets.Add(counted[i].rx.Packets)
		p.State.Rx.Bytes.Add(counted[i].rx.Bytes)
		a.past.add(counted[i])
	}
}

// apply has the kernel do what table and off say. The caller holds mu.
func (a *assisted) apply() {
	own := a.table.Own().IPv4
	if a.off != nil {
		own = netip.Prefix{}
	}
	peers := make([]assist.Peer, 0, len(a.table.Peers()))
	for _, p := range a.table.Peers() {
		peer := assist.Peer{Subnet: p.Subnet.IPv4, SourcePorts: p.SourcePorts}
		if takesAssist(p) {
			peer.Public, peer.Limit = p.Endpoint, a.limit(p)
		}
		peers = append(peers, peer)
	}
	if err := a.kernel.Load().Set(own, peers); err != nil {
		a.giveUp(fmt.Errorf("tell the kernel which peers there are: %w", err))
	}
}

// traffic is what the kernel has carried of a peer's, since it knows it.
func (a *assisted) traffic(p *tunnel.Peer) (c carried) {
	if kernel := a.kernel.Load(); kernel != nil {
		c.tx, c.rx = kernel.Traffic(p.Subnet.IPv4)
	}
	return c
}

// carried is traffic with the superpackets.
func (a *assisted) carried(p *tunnel.Peer) carried {
	c := a.traffic(p)
	if kernel := a.kernel.Load(); kernel != nil {
		c.super = kernel.SuperpacketsSent(p.Subnet.IPv4)
	}
	return c
}

// limit is the longest inner packet for a peer, in bytes.
func (a *assisted) limit(p *tunnel.Peer) int { return outerMTU(p, a.mtu) - overheadIPv4 }

// learned: a peer's path MTU has become smaller. It is for the threads of the
// data path and does not make them wait.
func (a *assisted) learned() {
	a.narrow.Store(true)
	select {
	case a.learn <- struct{}{}:
	default:
	}
}

// giveUp leaves all to user space for good, rather than have the kernel carry
// packets by what was true before. The caller holds mu.
func (a *assisted) giveUp(why error) {
	a.logFault(why)
	a.end(why)
}

// doWithout leaves all to user space after start has failed.
func (a *assisted) doWithout(why error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.logFault(why)
	a.off, a.gone = why, true
}

func (a *assisted) logFault(why error) {
	a.log.Error("the kernel carries no packets by itself until the tunnel is made anew; user space carries all", "error", why)
	a.fault = why
}

// end detaches the programs.
func (a *assisted) end(why error) {
	var known []*tunnel.Peer
	for _, p := range a.table.Peers() {
		if takesAssist(p) {
			known = append(known, p)
		}
	}
	a.drops = a.dropped()
	a.settle(known, func() {
		if err := a.kernel.Load().Close(); err != nil {
			a.log.Error("the kernel's programs are not detached cleanly", "error", err)
		}
	})
	a.off, a.gone = why, true
}

// close detaches the programs, as far as they were attached: from its return on
// user space carries all.
func (a *assisted) close() {
	if a.stop != nil {
		a.stop()
	}
	a.watching.Wait()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.kernel.Load() != nil && !a.gone {
		a.end(errNotStarted)
	}
	if a.ipsec != nil {
		a.ipsec.Close()
		a.ipsec = nil
	}
}

// closeRings gives back what the workers took from.
func (a *assisted) closeRings() {
	for _, r := range a.rings {
		r.Close()
	}
	a.rings = nil
}

// why tells why the kernel carries nothing for now, nil if it does.
func (a *assisted) why() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.off
}

// startAssist attaches the programs, if the kernel has the assist. If that fails
// all the same, user space carries all; what peers send by their kernels until the
// lease says so, too.
func (e *Engine) startAssist() {
	if e.assisted == nil {
		return
	}
	if err := e.attachAssist(); err != nil {
		e.assisted.doWithout(fmt.Errorf("attach the kernel's programs: %w; --udp-disable=%s does without", err, Assist))
	}
}

func (e *Engine) attachAssist() error {
	tun, err := netlink.LinkByName(e.cfg.Device)
	if err != nil {
		return fmt.Errorf("look at the device %s: %w", e.cfg.Device, err)
	}
	underlay, err := e.cfg.ethernet()
	if err != nil {
		return err
	}
	return e.assisted.start(assist.Config{
		TUN: tun.Attrs().Index, Underlay: underlay,
		Local: e.cfg.Underlay.IPv4, Port: e.port, SourcePorts: e.spreadFrom(),
		Descriptors: linkDescriptors, Superpackets: e.caps.on[AssistGSO], Floods: e.floods(),
	}, newOpener(e.port, e.asking.ports))
}

// spreadFrom is from how many source ports in a row, the cluster's the first,
// IPv4 datagrams leave: another process may have some.
func (e *Engine) spreadFrom() int {
	n := 1
	for _, s := range e.spread[0] {
		if s.addr.Addr().Is4() && int(s.addr.Port()) == int(e.port)+n {
			n++
		}
	}
	return n
}

// floods is how many UDP flows of very many packets are left to user space at a time:
// one for each worker.
func (e *Engine) floods() int {
	if !e.caps.on[AssistFloods] {
		return 0
	}
	return min(e.cfg.Workers, assist.MaxFloods)
}

// Traffic is what was sent to a peer and received from it, by user space and by
// the kernel. It may have to wait for a SetPeers that is under way.
func (e *Engine) Traffic(p *tunnel.Peer) (tx, rx assist.Count) {
	c := carried{
		tx: assist.Count{Packets: p.State.Tx.Packets.Load(), Bytes: p.State.Tx.Bytes.Load()},
		rx: assist.Count{Packets: p.State.Rx.Packets.Load(), Bytes: p.State.Rx.Bytes.Load()},
	}
	if e.assisted != nil {
		c.add(e.assisted.traffic(p))
	}
	return c.tx, c.rx
}
