package assist

import (
	"errors"
	"net/netip"
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
}

// Peer is another node.
type Peer struct {
	Subnet netip.Prefix // IPv4

	// Public is the IPv4 address that its datagrams come from and go to. The
	// zero Addr: user space carries all of its packets. It must be in the table
	// all the same where a shorter prefix might be found in its place.
	Public netip.Addr

	SourcePorts bool // it takes datagrams from further source ports

	// Limit is the longest inner packet in bytes that the kernel sends it. 0: user
	// space sends all packets, while those that come from it are still the
	// kernel's.
	Limit int
}

// Count counts inner packets, and their bytes from the IPv4 header on.
type Count struct{ Packets, Bytes uint64 }

// Assist is a pair of attached programs. Its methods may be called from several
// goroutines.
type Assist struct{}

// Attach loads the programs and attaches them, in the network namespace of the
// calling goroutine's thread. Nothing is carried until Set.
//
// It fails like Check, and if an interface is missing or is of a kind that it
// cannot work on (the underlay must be Ethernet, the TUN an L3 device).
func Attach(cfg Config) (*Assist, error) {
	return nil, errNotBuilt
}

// Set replaces this node's subnet (the zero Prefix: nothing is carried) and the
// peers. The counters of a peer with the same subnet and public address go on.
//
// At any moment a packet goes by what was in force before, by what will be, or
// through user space. After an error the peers are a mixture of both, to which
// the same holds: Set may be called again.
func (a *Assist) Set(own netip.Prefix, peers []Peer) error {
	return errNotBuilt
}

// SetLimit changes the Limit of one peer, without a system call. It does nothing
// for a subnet that is no peer's, or that of a peer without Public.
func (a *Assist) SetLimit(subnet netip.Prefix, limit int) {}

// Traffic reads what the kernel has sent to one peer and received from it,
// without a system call: zero for a subnet that is no peer's, or that of a peer
// without Public.
func (a *Assist) Traffic(subnet netip.Prefix) (tx, rx Count) { return tx, rx }

// Drops counts packets to peers that were lost because there was no memory for
// another header, or because nothing else could be done with them any more.
// There are no others: a packet that the kernel cannot take goes to user space.
func (a *Assist) Drops() uint64 { return 0 }

// Err tells that a program was detached, because its interface was removed: then
// user space carries all, until another Assist is attached.
func (a *Assist) Err() error { return nil }

// Close detaches the programs: from its return on user space carries all. The
// kernel does so too when the process ends, however it does. After Close the
// other methods do nothing.
func (a *Assist) Close() error { return nil }

// Check tells why this host's kernel cannot do it, nil if it can. It loads the
// programs and attaches nothing. Whether there is IPsec, which may change while
// the programs are attached, is for the caller to ask: see IPsec.
func Check() error { return errNotBuilt }

var errNotBuilt = errors.New("not built yet")
