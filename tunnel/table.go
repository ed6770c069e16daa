package tunnel

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/gaissmai/bart"

	"github.com/weftnet/weft/subnet"
)

// Table is all that the data path knows of peers: which one an inner address
// belongs to, and which ones an outer address may speak for. It is immutable:
// readers load it through an atomic pointer, and a change makes a new one.
type Table struct {
	own     subnet.Subnet
	routes  bart.Table[*Peer]      // by inner prefix
	at      map[netip.Addr][]*Peer // by outer address
	peers   []*Peer                // by subnet
	skipped []SkippedPeer          // by subnet
}

// Self is what a Table must know of this node.
type Self struct {
	Own     subnet.Lease // the zero Lease while this node holds none
	Network Network

	// IPv4 and IPv6 tell in which families this node reaches others and is
	// reached by them.
	IPv4, IPv6 bool

	// No6In6 says that the underlay is too narrow to carry IPv6 over IPv6,
	// whose packets may not be made smaller than 1280 bytes.
	No6In6 bool
}

// NewTable makes the table of the given leases, this node's own not among
// them. Those that cannot be served are left out and listed by Skipped.
// The state of peers that prev has too is taken over from it; prev may be nil.
//
// In a large cluster almost every peer is as it was. Those are shared with
// prev, so that a lease event allocates little.
func NewTable(self Self, leases []subnet.Lease, prev *Table) *Table {
	if prev == nil {
		prev = new(Table)
	}
	t := &Table{
		own:   self.Own.Subnet,
		at:    make(map[netip.Addr][]*Peer, len(leases)),
		peers: make([]*Peer, 0, len(leases)),
	}
	for _, l := range byPrecedence(leases) {
		p, err := newPeer(self, l)
		if err == nil {
			err = t.insert(prev.known(p))
		}
		if err != nil {
			t.skipped = append(t.skipped, SkippedPeer{Subnet: subnetText(l.Subnet), Why: err.Error()})
		}
	}
	slices.SortFunc(t.peers, func(a, b *Peer) int { return a.Subnet.IPv4.Compare(b.Subnet.IPv4) })
	slices.SortFunc(t.skipped, func(a, b SkippedPeer) int { return cmp.Compare(a.Subnet, b.Subnet) })
	return t
}

// byPrecedence orders leases so that of two which overlap, the one to be
// served comes first, whatever order they arrived in: the longer prefix, which
// cannot swallow the traffic of many nodes, and of one prefix the lease written
// last (a node that became dual stack has its former lease for another day).
func byPrecedence(leases []subnet.Lease) []subnet.Lease {
	compare := func(a, b subnet.Lease) int {
		return cmp.Or(
			-cmp.Compare(a.Subnet.IPv4.Bits(), b.Subnet.IPv4.Bits()),
			a.Subnet.IPv4.Compare(b.Subnet.IPv4),
			-cmp.Compare(a.Revision, b.Revision),
		)
	}
	if slices.IsSortedFunc(leases, compare) { // as where all subnets are of one length
		return leases
	}
	sorted := slices.Clone(leases)
	slices.SortStableFunc(sorted, compare)
	return sorted
}

// newPeer makes a peer without State of a lease, or says why it cannot.
func newPeer(self Self, l subnet.Lease) (Peer, error) {
	says := ReadAnnounced(l.Attrs.BackendData)
	p := Peer{
		Subnet: l.Subnet,
		NodeID: l.Attrs.NodeID,
		Weft:   says.Weft,
		Probe:  says.Probe,
		public: [2]netip.Addr{l.Attrs.PublicIP, l.Attrs.PublicIPv6},

		SourcePorts: says.SourcePorts,
		Assist:      says.Assist,
	}
	if err := checkLease(self, "udp", l); err != nil {
		return Peer{}, err
	}
	if says.NoUDP {
		return Peer{}, errNoUDP
	}
	if p.Weft == 0 { // flannel's udp backend knows IPv4 only, inside and outside
		p.Subnet.IPv6, p.public[1] = netip.Prefix{}, netip.Addr{}
	}
	if err := checkPublic(self, p.public[0], p.public[1]); err != nil {
		return Peer{}, err
	}
	switch {
	case self.IPv4 && p.public[0].IsValid():
		p.Endpoint = p.public[0]
	case self.IPv6 && p.public[1].IsValid():
		p.Endpoint = p.public[1]
		if self.No6In6 {
			p.Subnet.IPv6 = netip.Prefix{}
		}
	default:
		return Peer{}, fmt.Errorf("no address family for the tunnel in common (its public IPs: %v)", p.publicText())
	}
	return p, nil
}

var errNoUDP = errors.New("it has no TUN and so no udp path; only nodes with the config's Fallback reach it")

// known returns the table's Peer that p is just like, or a new one, with the
// State of the table's if that has the same subnet and endpoint.
func (t *Table) known(p Peer) *Peer {
	was, ok := t.routes.Get(p.Subnet.IPv4)
	if ok && was.Subnet == p.Subnet && was.Endpoint == p.Endpoint {
		p.State = was.State
		if p == *was {
			return was
		}
	} else {
		p.State = new(PeerState)
	}
	changed := p // it is this copy that lives on, not each p
	return &changed
}

// insert adds p unless it overlaps a peer that is there already.
func (t *Table) insert(p *Peer) error {
	for _, prefix := range p.prefixes() {
		if t.routes.OverlapsPrefix(prefix) {
			return fmt.Errorf("%v overlaps another lease, %v", prefix, t.overlapping(prefix))
		}
	}
	for _, prefix := range p.prefixes() {
		t.routes.Insert(prefix, p)
	}
	for _, a := range p.public {
		if a.IsValid() {
			t.at[a] = append(t.at[a], p)
		}
	}
	t.peers = append(t.peers, p)
	return nil
}

// overlapping finds a prefix in the table that overlaps the given one.
func (t *Table) overlapping(prefix netip.Prefix) netip.Prefix {
	for other := range t.routes.Supernets(prefix) {
		return other
	}
	for other := range t.routes.Subnets(prefix) {
		return other
	}
	return netip.Prefix{}
}

// Lookup returns the peer that an inner address belongs to, or nil.
func (t *Table) Lookup(inner netip.Addr) *Peer {
	p, _ := t.routes.Lookup(inner)
	return p
}

// At returns the peers whose leases name an outer address, nil if none does.
func (t *Table) At(outer netip.Addr) []*Peer { return t.at[outer] }

// Owns reports whether an inner address lies in this node's own subnet.
func (t *Table) Owns(inner netip.Addr) bool { return owns(t.own, inner) }

// Own returns this node's own subnet, the zero Subnet while it has no lease.
func (t *Table) Own() subnet.Subnet { return t.own }

// HasLease reports whether this node holds a lease: without one, nothing is
// to be carried.
func (t *Table) HasLease() bool { return t.own.IPv4.IsValid() || t.own.IPv6.IsValid() }

// Peers lists the peers, and Skipped the leases left out and why, both by
// subnet. Neither may be changed.
func (t *Table) Peers() []*Peer         { return t.peers }
func (t *Table) Skipped() []SkippedPeer { return t.skipped }

// Contains reports whether an address lies in the network.
func (n Network) Contains(a netip.Addr) bool {
	return n.IPv4.Contains(a) || n.IPv6.Contains(a)
}

func (p *Peer) prefixes() []netip.Prefix {
	if !p.Subnet.IPv6.IsValid() {
		return []netip.Prefix{p.Subnet.IPv4}
	}
	return []netip.Prefix{p.Subnet.IPv4, p.Subnet.IPv6}
}

func (p *Peer) publicText() string {
	text := ""
	for _, a := range p.public {
		if a.IsValid() {
			text += " " + a.String()
		}
	}
	if text == "" {
		return "none"
	}
	return text[1:]
}

// within reports whether inner is a prefix inside outer.
func within(inner, outer netip.Prefix) bool {
	return inner.IsValid() && outer.IsValid() && inner.Bits() >= outer.Bits() && outer.Contains(inner.Addr())
}

func overlap(a, b subnet.Subnet) bool {
	return a.IPv4.Overlaps(b.IPv4) || a.IPv6.Overlaps(b.IPv6)
}

func subnetText(s subnet.Subnet) string {
	if !s.IPv6.IsValid() {
		return s.IPv4.String()
	}
	return s.IPv4.String() + " " + s.IPv6.String()
}
