package subnet

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"
)

// View is what a Manager knows at one moment. It is not changed afterwards.
type View struct {
	// Held tells that Own is this node's to use. It stays so while etcd is
	// away; it is not while another node holds the subnet.
	Held bool
	Own  Lease // zero unless Held
	// Problem is one sentence on why no subnet is held, or what is wrong
	// though one is; "" if all is well. That etcd is away is no problem of
	// its own: see Connected.
	Problem string
	Expires time.Time // of Own unless renewed; zero for a reservation, or if unknown

	Peers []Lease         // of other nodes with an address to send to, by subnet
	Alive map[string]Node // weft nodes that run, by ID
	Bad   []BadEntry      // skipped, by key

	Revision    int64 // of the registry; everything up to it is known
	Connected   bool
	RegistryErr error     // why not Connected
	LastContact time.Time // the registry answered; zero if it never did
}

// published is what publish remembers between its calls.
type published struct {
	dirty    bool             // leases, nodes, or what is ours changed since
	warnings []string         // what is wrong around a lease that is held
	problem  string           // last logged
	bad      map[string]int64 // revision logged, by key
}

// publish brings the View up to date, and logs what is new in it.
func (m *Manager) publish() {
	v := *m.view.Load()
	before := v
	p := &m.published
	v.Held, v.Own, v.Expires = m.lease.held, Lease{}, time.Time{}
	if v.Held {
		v.Own, v.Expires = m.lease.own, m.lease.expires
	}
	if p.dirty {
		s := m.situation()
		v.Peers, v.Bad, p.warnings = s.survey()
		v.Alive = maps.Clone(m.table.alive)
		m.logBad(v.Bad)
	}
	v.Revision = m.table.revision
	v.RegistryErr = m.contact.err()
	v.Problem = m.problem()
	if v.Problem != p.problem {
		m.logProblem(v.Problem, before.Held)
		p.problem = v.Problem
	}
	if v.Problem == "" && !v.Held && v.RegistryErr != nil {
		v.Problem = "waiting for etcd: " + v.RegistryErr.Error()
	}
	v.Connected = v.RegistryErr == nil && !m.contact.last.IsZero()
	v.LastContact = m.contact.last
	m.view.Store(&v)
	if p.dirty || v.Held != before.Held || v.Own.Revision != before.Own.Revision || v.Problem != before.Problem ||
		v.Connected != before.Connected || !v.Expires.Equal(before.Expires) {
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
	p.dirty = false
}

// survey sorts the leases of others into peers and entries to skip, and says
// what is wrong about those that touch ours.
func (s *situation) survey() (peers []Lease, bad []BadEntry, warnings []string) {
	bad = slices.Collect(maps.Values(s.table.bad))
	skip := func(l Lease, format string, args ...any) {
		bad = append(bad, BadEntry{Key: "subnets/" + l.Subnet.Key(), Revision: l.Revision, Err: fmt.Errorf(format, args...)})
	}
	for _, l := range sorted(s.table.leases, s.table.lost) {
		if l.Subnet == s.own.Subnet && s.ours(l) {
			continue
		}
		switch ours := s.ours(l); {
		case ours && l.Reservation && !s.config.Fits(l.Subnet):
			skip(l, "this reservation for this node does not fit the network config")
		case ours:
		case !s.config.Covers(l.Subnet):
			skip(l, "lies outside the network %s", networks(s.config))
		case s.sameIP(l):
			// Packets for it would come back to us.
			if s.lives(l) {
				warnings = append(warnings, fmt.Sprintf("the public IP of %s is that of %s, which holds %s", s.self(), s.owner(l), l.Subnet))
			}
		case l.Attrs.PublicIP.IsValid() || l.Attrs.PublicIPv6.IsValid():
			peers = append(peers, l)
		}
		if l.Subnet != s.own.Subnet && l.Subnet.Overlaps(s.own.Subnet) && s.config.Covers(l.Subnet) && !s.ours(l) {
			warnings = append(warnings, fmt.Sprintf("subnet %s of %s overlaps %s, held by %s", s.own.Subnet, s.self(), l.Subnet, s.owner(l)))
		}
	}
	slices.SortFunc(bad, func(a, b BadEntry) int { return strings.Compare(a.Key, b.Key) })
	return peers, bad, warnings
}

func networks(c *Config) string {
	return Subnet{c.Network, c.IPv6Network}.String()
}

// problem says what is wrong with the lease, but for etcd being away.
func (m *Manager) problem() string {
	clone := m.cloneProblem()
	switch {
	case m.lease.held && m.announce.isClone:
		return clone
	case m.lease.held && len(m.published.warnings) > 1:
		return fmt.Sprintf("%s (and %d more such)", m.published.warnings[0], len(m.published.warnings)-1)
	case m.lease.held && len(m.published.warnings) > 0:
		return m.published.warnings[0]
	case m.lease.held:
		return ""
	case clone != "":
		return clone
	}
	return m.lease.waiting
}

// logProblem logs a new problem, or the end of one. That a subnet is ours
// again is logged as such.
func (m *Manager) logProblem(problem string, wasHeld bool) {
	switch {
	case problem != "" && m.lease.held:
		m.log.Warn("trouble with the lease", "problem", problem)
	case problem != "":
		m.log.Warn("no subnet for now", "problem", problem)
	case m.lease.held && wasHeld:
		m.log.Info("the trouble with the lease is over")
	}
}

// logBad reports entries once for each revision of their keys.
func (m *Manager) logBad(bad []BadEntry) {
	logged := make(map[string]int64, len(bad))
	for _, b := range bad {
		if m.published.bad[b.Key] != b.Revision {
			m.log.Warn("entry in etcd skipped", "key", b.Key, "revision", b.Revision, "error", b.Err)
		}
		logged[b.Key] = b.Revision
	}
	m.published.bad = logged
}
