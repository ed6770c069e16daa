package subnet

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// situation is all that a decision about this node's lease depends on.
type situation struct {
	config   *Config
	table    *table
	node     Node
	attrs    Attrs    // what our lease should publish
	previous []Subnet // held in earlier runs, best first

	// announced tells that our alive key is in place: no other machine has
	// our node ID, and what bears it is ours.
	announced bool
	// own is the lease as we last wrote or kept it in this run, even if it is
	// not ours any more. Zero: none yet.
	own Lease
	// renew asks for a new TTL.
	renew bool
	// avoid is a subnet that is not to be chosen again: a new one is asked for.
	avoid Subnet
	// renumber allows another subnet where ours is held by another node.
	renumber bool
	// longDead is the ID of a node that holds our subnet and has been dead
	// for so long that its lease may be written over; "" if there is none.
	longDead string

	random func(n uint64) uint64 // a number below n
}

type verb int

const (
	keep   verb = iota // lease is ours as it stands
	create             // subnet is to be leased
	update             // lease is to be rewritten as ours
	remove             // lease is ours and of no use
	wait               // nothing can be done
)

// decision is what to do next about this node's lease.
type decision struct {
	verb   verb
	lease  Lease  // to keep, update or remove
	subnet Subnet // to create
	why    string // a clause for the log; for wait, a sentence for the operator

	routine bool // not worth a log line

	// rival, for wait: the lease that stands where ours should. Zero where
	// there is another reason to wait.
	rival Lease
}

// decide says what to do next. It has no effect but on s.random.
func (s *situation) decide() decision {
	if s.own.Subnet.IsZero() {
		return s.acquire()
	}
	d := s.defend()
	if d.verb == wait && s.renumber {
		other := *s
		other.own = Lease{}
		return other.acquire()
	}
	return d
}

// defend keeps the subnet that is or was ours in this run.
func (s *situation) defend() decision {
	want := s.own.Subnet
	if bad, ok := s.table.badLease(want); ok {
		l := Lease{Subnet: want, Reservation: s.own.Reservation, Revision: bad.Revision}
		return decision{verb: update, lease: l, why: "its value in etcd had become unreadable"}
	}
	l, taken := s.holder(want)
	switch {
	case !taken:
		return decision{verb: create, subnet: want, why: "it was gone from etcd"}
	case l.Subnet != want:
		return s.waitFor(l, want)
	case s.ours(l) && !l.Attrs.Equal(s.attrs):
		return decision{verb: update, lease: l, why: "its attributes have changed"}
	case s.ours(l) && s.renew && !l.Reservation:
		return decision{verb: update, lease: l, why: "it is to be renewed", routine: true}
	case s.ours(l):
		return decision{verb: keep, lease: l, why: "its entry in etcd says so"}
	case s.longDead != "" && l.Attrs.NodeID == s.longDead && !s.lives(l):
		return decision{verb: update, lease: l, why: "the node that held it is dead: " + s.owner(l)}
	}
	return s.waitFor(l, want)
}

// acquire chooses the first subnet of this run. Nothing is ours yet; the order
// of preference is that of the design: our own lease, a reservation for us,
// what we held before, and any free one.
func (s *situation) acquire() decision {
	own, stranger := s.claims()
	for _, l := range own {
		if l.Reservation {
			continue
		}
		if !s.config.Fits(l.Subnet) {
			return decision{verb: remove, lease: l, why: "it does not fit the network config any more"}
		}
		if l.Subnet != own[0].Subnet && l.Attrs.NodeID == s.node.ID {
			return decision{verb: remove, lease: l, why: fmt.Sprintf("this node has %s too", own[0].Subnet)}
		}
	}
	own = slices.DeleteFunc(own, func(l Lease) bool { return !s.config.Fits(l.Subnet) }) // reservations
	if len(own) > 0 {
		return s.takeOwn(own[0])
	}
	if !stranger.Subnet.IsZero() {
		return decision{verb: wait, why: fmt.Sprintf(
			"the public IP of %s is that of %s, which holds %s; give one of them another --public-ip",
			s.self(), s.owner(stranger), stranger.Subnet)}
	}
	if s.avoid.IsZero() {
		for _, p := range s.previous {
			if d, ok := s.again(p); ok {
				return d
			}
		}
	}
	return s.choose()
}

// claims returns the leases and reservations that are ours, best first, and
// one that only seems so: it has our public IP, but its owner lives.
func (s *situation) claims() (own []Lease, stranger Lease) {
	for _, l := range s.table.leases.sorted {
		switch {
		case l.Subnet == s.avoid:
		case s.ours(*l), s.sameIP(*l) && !s.lives(*l):
			own = append(own, *l)
		case s.sameIP(*l):
			stranger = *l
		}
	}
	rank := func(l Lease) int {
		r := 0
		if l.Reservation {
			r += 4
		}
		if l.Attrs.NodeID != s.node.ID {
			r += 2
		}
		if len(s.previous) > 0 && l.Subnet != s.previous[0] {
			r++
		}
		return r
	}
	slices.SortStableFunc(own, func(a, b Lease) int { return cmp.Compare(rank(a), rank(b)) })
	return own, stranger
}

func (s *situation) takeOwn(l Lease) decision {
	switch {
	case l.Reservation && l.Attrs.Equal(s.attrs):
		return decision{verb: keep, lease: l, why: "it is reserved for this node"}
	case l.Reservation:
		return decision{verb: update, lease: l, why: "it is reserved for this node"}
	case l.Attrs.NodeID == s.node.ID:
		return decision{verb: update, lease: l, why: "this node leases it already"}
	case l.Attrs.NodeID == "":
		return decision{verb: update, lease: l, why: "it is leased to this node's public IP"}
	}
	return decision{verb: update, lease: l, why: "it was leased to this node's public IP by a node that is dead, " + l.Attrs.NodeID}
}

// again decides about a subnet held in an earlier run; not ok if it is of no
// use.
func (s *situation) again(p Subnet) (d decision, ok bool) {
	want, ok := s.refit(p)
	if !ok {
		return decision{}, false
	}
	if _, bad := s.table.badLease(want); bad {
		return s.waitFor(Lease{Subnet: want}, want), !s.renumber
	}
	if l, taken := s.holder(want); taken {
		return s.waitFor(l, want), !s.renumber
	}
	return decision{verb: create, subnet: want, why: "this node held it before"}, true
}

// refit makes a subnet of earlier days one of the network as it is now: where
// IPv6 came or went since, the IPv4 part stays.
func (s *situation) refit(p Subnet) (Subnet, bool) {
	if s.config.Fits(p) || !s.config.IPv4.fits(p.IPv4) {
		return p, s.config.Fits(p)
	}
	p.IPv6 = netip.Prefix{}
	if !s.config.DualStack() {
		return p, true
	}
	var err error
	p.IPv6, err = s.config.IPv6.allocate(s.config.IPv6Network, s.taken(), Subnet.ipv6, s.random)
	return p, err == nil
}

func (s *situation) choose() decision {
	free, err := allocate(s.config, s.taken(), s.random)
	if err != nil {
		return decision{verb: wait, why: err.Error()}
	}
	return decision{verb: create, subnet: free, why: "it was free"}
}

// holder returns a lease that shares addresses with want: the one of just this
// subnet, or else the first in order. Leases outside the network do not count:
// one of 10.0.0.0/8 must not block all of 10.5.0.0/16.
func (s *situation) holder(want Subnet) (Lease, bool) {
	if l, ok := s.table.leases.get(want); ok {
		return l, true
	}
	for _, l := range s.table.leases.sorted {
		if l.Subnet.Overlaps(want) && s.config.Covers(l.Subnet) {
			return *l, true
		}
	}
	return Lease{}, false
}

// taken lists what may not be chosen.
func (s *situation) taken() []Subnet {
	taken := []Subnet{s.avoid}
	for _, set := range []leaseSet{s.table.leases, s.table.lost} {
		for _, l := range set.sorted {
			if s.config.Covers(l.Subnet) {
				taken = append(taken, l.Subnet)
			}
		}
	}
	for key := range s.table.bad {
		_, name, _ := cutLast(key, "/")
		if sn, err := ParseKey(name); err == nil {
			taken = append(taken, sn)
		}
	}
	return taken
}
