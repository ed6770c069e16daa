package assist

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// MaxPeers is how many peers the kernel knows; the others are left to user
// space.
const MaxPeers = 8192

// Config is what does not change while the programs are attached.
type Config struct {
	TUN, Underlay int        // interface indexes
	Local         netip.Addr // IPv4: the address of the underlay that the socket is bound to
	Port          uint16     // UDP, the cluster's
	SourcePorts   int        // up to as many from Port on towards peers that take it; 0 or 1: Port only

	// Descriptors is where those of the links begin, for the kernel closes the
	// files of a dead process from the highest down; 0: anywhere.
	Descriptors int

	// Superpackets has TCP superpackets carried, too: those to the peers that
	// SetSuperpackets names, and those that arrive. If that cannot be, the rest is:
	// see Superpackets.
	Superpackets bool

	// Floods is how many UDP flows of very many packets, the kernel's otherwise, are
	// left to user space at a time, each by one of Rings: as many as it can carry beside
	// each other, at most MaxFloods. 0: none.
	Floods int
}

// Peer is another node.
type Peer struct {
	Subnet netip.Prefix // IPv4

	// Public is the IPv4 address that its datagrams come from and go to. The
	// zero Addr: user space carries all of its packets. It must be in the table
	// all the same where a shorter prefix might be found in its place.
	Public netip.Addr

	SourcePorts bool // it takes datagrams from further source ports

	// Limit is the longest inner packet in bytes that the kernel sends it, if that
	// is not more than maxLimit. 0: user space sends all packets, while those that
	// come from it are still the kernel's.
	Limit int
}

// Count counts inner packets, and their bytes from the IPv4 header on; a superpacket
// as what user space would cut it into.
type Count struct{ Packets, Bytes uint64 }

// Assist is a set of attached programs. Its methods may be called from several
// goroutines.
//
// Two locks, because to look at a link and to make an interface is to wait for
// whoever else changes the host's network (rtnl_lock in the kernel), be it for
// minutes; peers and counters are never to wait for that. Who holds both has taken
// slow first. What Close takes away needs both to be written, and one to be read.
type Assist struct {
	slow  sync.Mutex  // guards links, and what makes and unmakes superpackets possible
	links []link.Link // of egress and ingress

	mu       sync.Mutex // guards the rest
	programs *programs  // nil once closed
	node     *ebpf.Memory
	floods   *ebpf.Memory
	rings    []*Ring
	peers    table
	super    superpackets

	cfg Config
}

// Attach loads the programs and attaches them, in the network namespace of the
// calling goroutine's thread. Nothing is carried until Set.
//
// It fails like Check, and if an interface is missing or is of a kind that it
// cannot work on: the underlay must be Ethernet, the TUN without a link-layer
// header.
func Attach(cfg Config) (*Assist, error) {
	if !cfg.Local.Is4() || cfg.Port == 0 {
		return nil, fmt.Errorf("attach the kernel assist to %v port %d: it takes an IPv4 address and a port", cfg.Local, cfg.Port)
	}
	if cfg.Floods < 0 || cfg.Floods > MaxFloods {
		return nil, fmt.Errorf("attach the kernel assist with %d UDP floods left to user space: it takes up to %d", cfg.Floods, MaxFloods)
	}
	for _, device := range []struct {
		index int
		kind  string
	}{{cfg.TUN, "none"}, {cfg.Underlay, "ether"}} {
		l, err := netlink.LinkByIndex(device.index)
		if err != nil {
			return nil, fmt.Errorf("look at interface %d: %w", device.index, err)
		}
		if kind := l.Attrs().EncapType; kind != device.kind {
			return nil, fmt.Errorf("attach the kernel assist to %s: its link layer is %q, not %q", l.Attrs().Name, kind, device.kind)
		}
	}
	p, err := load(cfg)
	if err != nil {
		return nil, explain(err)
	}
	a := &Assist{programs: p, super: superpackets{why: errNotAsked}, cfg: cfg}
	if err = a.share(); err == nil {
		err = a.attach()
	}
	if err != nil {
		a.Close()
		for _, r := range a.rings {
			r.Close()
		}
		return nil, explain(err)
	}
	if cfg.Superpackets {
		a.startSuperpackets()
	}
	return a, nil
}

// share maps what the kernel shares into memory.
func (a *Assist) share() error {
	var err error
	if a.node, err = a.programs.node.Memory(); err != nil {
		return fmt.Errorf("map the eBPF map weft_node: %w", err)
	}
	if a.floods, err = a.programs.floods.Memory(); err != nil {
		return fmt.Errorf("map the eBPF map weft_floods: %w", err)
	}
	a.peers = table{kernel: a.programs.peers, entries: make(map[netip.Prefix]entry)}
	if a.peers.slots.memory, err = a.programs.slots.Memory(); err != nil {
		return fmt.Errorf("map the eBPF map weft_slots: %w", err)
	}
	for _, buffer := range a.programs.rings {
		r, err := openRing(buffer)
		if err != nil {
			return err
		}
		a.rings = append(a.rings, r)
	}
	return nil
}

// attach attaches the programs behind those that are there already.
func (a *Assist) attach() error {
	for _, opts := range []link.TCXOptions{
		{Interface: a.cfg.TUN, Program: a.programs.egress, Attach: ebpf.AttachTCXEgress},
		{Interface: a.cfg.Underlay, Program: a.programs.ingress, Attach: ebpf.AttachTCXIngress},
	} {
		l, err := link.AttachTCX(opts)
		if err != nil {
			return fmt.Errorf("attach to interface %d: %w", opts.Interface, err)
		}
		a.links = append(a.links, moveUp(l, a.cfg.Descriptors))
	}
	return nil
}

// moveUp gives a link another descriptor, the lowest free one from least up. What
// keeps it from that (a limit) leaves the link as it is.
func moveUp(l link.Link, least int) link.Link {
	raw, ok := l.(interface{ FD() int })
	if least == 0 || !ok {
		return l
	}
	fd, err := unix.FcntlInt(uintptr(raw.FD()), unix.F_DUPFD_CLOEXEC, least)
	if err != nil {
		return l
	}
	moved, err := link.NewFromFD(fd) // which closes it after an error
	if err != nil {
		return l
	}
	l.Close() // but for the descriptor it lives on
	return moved
}

// Set replaces this node's subnet (the zero Prefix: nothing is carried) and the
// peers. The counters of a peer with the same subnet and public address go on.
//
// At any moment a packet goes by what was in force before, by what will be, or
// through user space. After an error the peers are a mixture of both, to which
// the same holds: Set may be called again.
func (a *Assist) Set(own netip.Prefix, peers []Peer) error {
	if own.IsValid() && !own.Addr().Is4() {
		return fmt.Errorf("the subnet %v is not IPv4", own)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return nil
	}
	if was, is := load64(a.node, nodeOwn), ownSubnet(own); was != is {
		// What is neither the former subnet's nor the new one's, with peers of both.
		store64(a.node, nodeOwn, ownSubnet(netip.Prefix{}))
	}
	if err := a.peers.set(peers); err != nil {
		return err
	}
	store64(a.node, nodeOwn, ownSubnet(own))
	return nil
}

// SetLimit changes the Limit of one peer, without a system call. It does nothing
// for a subnet that is no peer's, or that of a peer without Public.
func (a *Assist) SetLimit(subnet netip.Prefix, bytes int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return
	}
	if n, ok := a.peers.slot(subnet); ok {
		a.peers.slots.setLimit(n, limit(bytes))
	}
}

// Traffic reads what the kernel has sent to one peer and received from it,
// without a system call: zero for a subnet that is no peer's, or that of a peer
// without Public.
func (a *Assist) Traffic(subnet netip.Prefix) (tx, rx Count) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return tx, rx
	}
	if n, ok := a.peers.slot(subnet); ok {
		return a.peers.slots.traffic(n)
	}
	return tx, rx
}

// Drops counts packets that were lost because there was no memory for another
// header, when nothing else could be done with them any more; a superpacket is one.
// But for what a ring has no room for (Floods) the programs lose no others: a packet
// that they cannot take goes to user space.
// What is lost behind them, as in a device's queue, the CPU's backlog or a TUN that
// is down, is in the kernel's counters of those, and in Traffic.
func (a *Assist) Drops() uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return 0
	}
	return load64(a.node, nodeDrops)
}

// Err tells that a program was detached, because its interface was removed: then
// user space carries all, until another Assist is attached. Like Heal it may have
// to wait for long, with which it holds up Close only.
func (a *Assist) Err() error {
	a.slow.Lock()
	defer a.slow.Unlock()
	for _, l := range a.links {
		attached, err := isAttached(l)
		if err != nil {
			return err
		}
		if !attached {
			return errors.New("the interface that an eBPF program was attached to is gone")
		}
	}
	return nil
}

// isAttached: a link's interface is there, and nobody has detached it.
func isAttached(l link.Link) (bool, error) {
	info, err := l.Info()
	if err != nil {
		return false, fmt.Errorf("look at an attached eBPF program: %w", err)
	}
	return info.TCX().Ifindex != 0, nil
}

// Close detaches the programs: from its return on user space carries all. The
// kernel does so too when the process ends, however it does. After Close the
// other methods do nothing.
func (a *Assist) Close() error {
	a.slow.Lock()
	defer a.slow.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return nil
	}
	var errs []error
	for _, l := range a.links {
		errs = append(errs, l.Close())
	}
	errs = append(errs, a.super.close(), a.programs.close())
	a.programs, a.node, a.floods, a.peers, a.links = nil, nil, nil, table{}, nil // with them the memory goes
	return errors.Join(errs...)
}
