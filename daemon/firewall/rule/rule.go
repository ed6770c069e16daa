// Package rule describes weft's firewall rules without saying which tool
// carries them out: iptables (package ipt) and nftables (package nft) render
// the same lists.
package rule

import "net/netip"

// Comment marks every rule that weft makes, in either tool.
const Comment = "weft"

// Action is what becomes of a packet that matches.
type Action int

const (
	// Accept ends the walk of the filter table's hook.
	Accept Action = iota
	// Return leaves weft's chain undecided: the rules after it go on.
	Return
	// KeepSource decides that the source address stays: no rule after it,
	// whoever made it, translates the source of this connection.
	KeepSource
	// Masquerade sets the source to the address of the device it leaves by.
	Masquerade
	// SNAT sets the source to Rule.To.
	SNAT
	// ClampMSS lowers the MSS option of a TCP SYN or SYN-ACK to what both the
	// route ahead and the route back to the sender carry.
	ClampMSS
)

// Rule matches packets by every field that is set; a zero field matches all.
type Rule struct {
	In, Out  string       // device names, exact
	Src, Dst netip.Prefix // masked
	Action   Action

	To          netip.Addr // SNAT: the new source
	RandomFully bool       // Masquerade and SNAT: pick source ports at random
}

// Set holds the rules of one address family, each list in order. The zero Set
// stands for no rule at all.
type Set struct {
	Postrouting []Rule // source NAT
	Clamp       []Rule // TCP MSS of forwarded connections
	Raw         []Rule // accepts what peers send to local containers, before Docker drops what is routed to them
	Overlay     []Rule // accepts what goes between nodes, before Docker decides
	Forward     []Rule // accepts all that is forwarded for the cluster network

	guest bool
}

// Sets is a Set for each address family.
type Sets struct {
	IPv4, IPv6 Set
}

// Guest returns what is wanted of a firewall that is not the one in force: an
// accept in one firewall does not undo a drop in another, so the accepting
// rules go wherever forwarded packets may be dropped, and nothing else does.
func (s Set) Guest() Set {
	return Set{Raw: s.Raw, Overlay: s.Overlay, Forward: s.Forward, guest: true}
}

// Guest is Set.Guest of both families.
func (s Sets) Guest() Sets {
	return Sets{IPv4: s.IPv4.Guest(), IPv6: s.IPv6.Guest()}
}

// Empty tells whether the set asks for nothing.
func (s Set) Empty() bool {
	return len(s.Postrouting)+len(s.Clamp)+len(s.Raw)+len(s.Overlay)+len(s.Forward) == 0
}

// Report names chains for people to read.
type Report struct {
	InPlace []string // hold weft's rules, and can be reached
	Changed []string // had to be written or removed for that
	Answers []string // what drops forwarded packets there, and which chain accepts before it
}

// Add appends another report.
func (r *Report) Add(o Report) {
	r.InPlace = append(r.InPlace, o.InPlace...)
	r.Changed = append(r.Changed, o.Changed...)
	r.Answers = append(r.Answers, o.Answers...)
}
