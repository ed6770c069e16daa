package subnet

import (
	"fmt"
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
	surveyAt time.Time        // no survey before; zero if there may be one
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
	// What is ours and what is a peer's never contradict each other.
	moved := v.Held != before.Held || v.Own.Subnet != before.Own.Subnet
	surveyed := moved || p.dirty && p.surveyAt.IsZero()
	if surveyed {
		begin := time.Now()
		around := m.situation().survey()
		v.Peers, v.Bad, p.warnings = around.peers, around.bad, around.warnings
		v.Alive, m.table.aliveShown = m.table.alive, true
		m.logBad(v.Bad)
		p.dirty = false
		// Where thousands of nodes start together, surveys take a fifth of
		// the time and not all of it.
		end := time.Now()
		p.surveyAt = end.Add(4 * end.Sub(begin))
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
	if surveyed || v.Own.Revision != before.Own.Revision || v.Problem != before.Problem ||
		v.Connected != before.Connected || !v.Expires.Equal(before.Expires) {
		select {
		case m.changed <- struct{}{}:
		default:
		}
	}
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
