package assist

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"

	"github.com/weftnet/weft/tunnel/probe"
)

// superpackets is what an Assist has for superpackets: nothing if it carries none
// and never will. The first two are slow's, see Assist, trials is mu's.
type superpackets struct {
	device  *gsoDevice
	arrival link.Link // the program of the device
	trials  *sender
	why     error // why it carries none now, nil if it does; both are held to write it
}

var (
	errNotAsked = errors.New("not asked for")
	errClosed   = errors.New("the programs are detached")
)

// startSuperpackets makes what superpackets take, in the network namespace of the
// calling goroutine's thread. Without it the rest goes on.
func (a *Assist) startSuperpackets() {
	s := &a.super
	if s.trials, s.why = openSender(a.programs.mark); s.why != nil {
		return
	}
	if s.device, s.why = openDevice(a.cfg.TUN); s.why != nil {
		return
	}
	s.why = a.makeDetour()
}

// makeDetour makes the device, and tells the ingress program of it. While there is
// none that leaves superpackets to user space.
func (a *Assist) makeDetour() error {
	store32(a.node, nodeDetourPort, 0)
	err := a.super.device.renew(func(index int) error {
		l, err := link.AttachTCX(link.TCXOptions{
			Interface: index, Program: a.programs.arrival, Attach: ebpf.AttachTCXIngress,
		})
		if err != nil {
			return fmt.Errorf("attach to it: %w", explain(err))
		}
		err = a.super.closeArrival()
		a.super.arrival = moveUp(l, a.cfg.Descriptors)
		return err
	})
	if err != nil {
		return err
	}
	store32(a.node, nodeDetourPort, uint32(wire16(a.super.device.port)))
	return nil
}

func (s *superpackets) closeArrival() error {
	if s.arrival == nil {
		return nil
	}
	l := s.arrival
	s.arrival = nil
	return l.Close()
}

// close removes the device while it still has its program, so that nothing gets
// past that.
func (s *superpackets) close() error {
	s.why = errClosed
	return errors.Join(s.device.close(), s.closeArrival(), s.trials.close())
}

// Superpackets tells why the kernel carries no superpackets, nil if it does: to the
// peers that SetSuperpackets names, and from all that send some. It does not look:
// see Heal.
func (a *Assist) Superpackets() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.super.why
}

// Heal looks whether what superpackets arrive by is as it was made, and makes it
// anew if somebody has removed it, taken it down or detached its program. was is
// what was in the way, is what still is: what Superpackets returns from then on.
//
// It may be called from time to time, and may have to wait for whoever changes the
// host's network. That holds up Err and Close, but nothing else.
func (a *Assist) Heal() (was, is error) {
	a.slow.Lock()
	defer a.slow.Unlock()
	was = a.super.why
	if a.programs == nil || a.super.device == nil {
		return was, was
	}
	if was == nil {
		was = a.super.check()
	}
	if was == nil {
		return nil, nil
	}
	is = a.makeDetour()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.super.why = is
	return was, is
}

// check tells why superpackets that arrive would be lost, nil if they would not.
func (s *superpackets) check() error {
	if err := s.device.check(); err != nil {
		return err
	}
	if attached, err := isAttached(s.arrival); err != nil || attached {
		return nil // what cannot be looked at is as it was, for all that is known
	}
	return fmt.Errorf("the program of the interface %s was detached", deviceName)
}

// SetSuperpackets has the kernel send a peer's superpackets, too, or no longer,
// without a system call. It does nothing for a subnet that is no peer's, or that
// of a peer without Public. A new peer, or one with another Public, begins
// without.
func (a *Assist) SetSuperpackets(subnet netip.Prefix, on bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return
	}
	if n, ok := a.peers.slot(subnet); ok {
		a.peers.slots.setSuperpackets(n, on)
	}
}

// TakeFlows has the kernel forget which flows user space carries: their next
// packets are the kernel's, if they may be, and may overtake those on their way.
// They are user space's again from the next superpacket on that is not the kernel's.
func (a *Assist) TakeFlows() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return nil
	}
	if err := a.programs.flows.Put(uint32(0), make([]byte, 8*flowPlaces)); err != nil {
		return fmt.Errorf("have the kernel forget user space's flows: %w", err)
	}
	return nil
}

// SuperpacketsSent is how many superpackets of a peer's the kernel has sent,
// without a system call; trials are none. It is zero for a subnet that is no
// peer's, or that of a peer without Public.
func (a *Assist) SuperpacketsSent(subnet netip.Prefix) uint64 {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return 0
	}
	if n, ok := a.peers.slot(subnet); ok {
		return a.peers.slots.superpackets(n)
	}
	return 0
}

// Try sends a trial (package probe) by the kernel to the tunnel address of a peer,
// from this node's, whether SetSuperpackets has been called for it or not. It has
// two segments as long as the peer's Limit or, if it is to be full, as many as fit
// a superpacket. The peer's user space finds it in its TUN if it has arrived whole.
// EAGAIN tells that as many trials are on their way as the socket takes at once.
func (a *Assist) Try(own netip.Addr, subnet netip.Prefix, nonce uint64, full bool) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.super.why != nil {
		return a.super.why
	}
	n, ok := a.peers.slot(subnet)
	if !ok {
		return fmt.Errorf("send a trial to %v: the kernel sends it nothing", subnet)
	}
	segment := a.peers.slots.limit(n)
	if segment < probe.MinTrialSegment {
		return fmt.Errorf("send a trial to %v: its path takes no more than %d bytes", subnet, segment)
	}
	segments := 2
	for full && probe.TrialLen(segment, segments+1) <= maxSuperpacket {
		segments++
	}
	trial := make([]byte, probe.TrialLen(segment, segments))
	probe.BuildTrial(trial, own, subnet.Masked().Addr(), nonce)
	return a.super.trials.send(a.cfg.TUN, trial, segment)
}
