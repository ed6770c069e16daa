package assist

import (
	"errors"
	"net/netip"
)

var errNotAsked = errors.New("not asked for")

// Superpackets tells why the kernel carries no superpackets, nil if it does, to
// the peers that SetSuperpackets names and from all.
func (a *Assist) Superpackets() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.noSuperpackets
}

// Heal looks whether what superpackets arrive by is still there, and makes it
// anew if not. It returns what Superpackets does from then on.
func (a *Assist) Heal() error { return a.Superpackets() }

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

// Try sends a trial (probe.BuildTrial) by the kernel's way to a peer's tunnel
// address, in segments of the peer's Limit.
func (a *Assist) Try(own netip.Addr, subnet netip.Prefix, nonce uint64) error {
	return a.Superpackets()
}
