package udp

import (
	"fmt"

	"github.com/weftnet/weft/tunnel"
)

// addTo adds to a status what there is to say of the assist.
func (a *assisted) addTo(s *tunnel.Status) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.addCarried(s)
	lost := a.dropped()
	if lost.failed > 0 {
		s.Drops["tx_assist_failed"] = lost.failed
	}
	if lost.ringFull > 0 {
		s.Drops["tx_flood_ring_full"] = lost.ringFull
	}
	for i := range s.Capabilities {
		switch c := &s.Capabilities[i]; {
		case c.Name == string(Assist) && a.off != nil:
			c.On, c.Why = false, a.off.Error()
		case c.Name == string(AssistGSO) && c.On:
			c.On, c.Why = a.superpackets()
		case c.Name == string(AssistFloods) && c.On:
			c.On, c.Why = a.floods()
		}
	}
	if a.fault != nil {
		s.Problems = append(s.Problems, "the kernel carries no packets by itself until the tunnel is made anew: "+a.fault.Error())
	}
}

// drops counts packets that the kernel's programs dropped.
type drops struct {
	failed   uint64 // for want of memory for another header
	ringFull uint64 // for want of room in a ring
}

// dropped is what the programs have dropped, also when they have gone.
func (a *assisted) dropped() drops {
	all := a.drops
	if kernel := a.kernel.Load(); kernel != nil {
		_, _, full := kernel.Floods()
		all.failed += kernel.Drops()
		all.ringFull += full
	}
	return all
}

// addCarried adds what the kernel has carried.
func (a *assisted) addCarried(s *tunnel.Status) {
	all := a.past
	for _, p := range a.table.Peers() {
		all.add(a.carried(p))
	}
	s.ByKernel = &tunnel.Carried{
		TxPackets: all.tx.Packets, TxBytes: all.tx.Bytes,
		RxPackets: all.rx.Packets, RxBytes: all.rx.Bytes,
		TxSuperpackets: all.super,
	}
}

// superpackets tells whether the kernel carries any, and to how many peers, or
// why not.
func (a *assisted) superpackets() (on bool, why string) {
	switch {
	case a.off != nil:
		return false, fmt.Sprintf("needs %s", Assist)
	case a.noSuper != nil:
		return false, a.noSuper.Error()
	}
	whole, all := 0, 0
	for _, p := range a.table.Peers() {
		if !takesAssist(p) {
			continue
		}
		all++
		if a.trials.on(p) {
			whole++
		}
	}
	return true, fmt.Sprintf("they reach %d of %d peers whole", whole, all)
}

// floods tells how many UDP flows user space carries for the number of their packets,
// or why none will be.
func (a *assisted) floods() (on bool, why string) {
	kernel := a.kernel.Load()
	if a.off != nil || kernel == nil {
		return false, fmt.Sprintf("needs %s", Assist)
	}
	n, most, _ := kernel.Floods()
	return true, fmt.Sprintf("UDP flows in user space for their rate: %d of at most %d", n, most)
}
