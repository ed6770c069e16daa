package subnet

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

const (
	// takeBackAfter is how long the node that holds our subnet has to be dead
	// before its lease is written over: longer than a restart of its daemon
	// or its machine takes.
	takeBackAfter = 5 * time.Minute
	// askInterval is how often MayRenumber is asked at most.
	askInterval = 30 * time.Second
	// unsureRenewal is the delay of a renewal when another hand wrote our
	// lease, with a TTL that we do not know.
	unsureRenewal = time.Minute
)

// leaseState is this node's lease.
type leaseState struct {
	own     Lease // as last written or found; stays when it is lost, to be taken back
	held    bool  // own is ours
	waiting string

	expires  time.Time // zero for a reservation
	renewAt  time.Time
	renewDue bool

	// writes bounds the writes that answer those of others, so that two
	// programs at odds over a lease do not keep etcd busy.
	writes budget

	renumber   bool // MayRenumber said yes
	askAt      time.Time
	rival      string    // ID of the dead node that holds our subnet; "" if none does
	deadSince  time.Time // it was first seen so
	takeBackAt time.Time
}

func (m *Manager) situation() *situation {
	l := &m.lease
	longDead := ""
	if l.rival != "" && time.Since(l.deadSince) >= takeBackAfter {
		longDead = l.rival
	}
	return &situation{
		config: m.config, table: m.table, node: m.node, attrs: m.attrs, previous: m.previous,
		announced: m.announce.standing,
		own:       l.own,
		renew:     l.renewDue,
		renumber:  l.renumber,
		longDead:  longDead,
		random:    rand.Uint64N,
	}
}

// act takes the next step with our lease, and tells whether another may follow
// at once.
func (m *Manager) act(ctx context.Context) bool {
	first := m.lease.own.Subnet.IsZero()
	if first && (m.needList || !m.announce.standing) {
		return false
	}
	d := m.situation().decide()
	switch d.verb {
	case keep:
		m.contact.forget(sourceWrite, m.log) // none is wanted
		m.hold(d)
		return false
	case wait:
		m.contact.forget(sourceWrite, m.log)
		return m.wait(d)
	}
	if m.needList || !m.retryAt.IsZero() || !m.announce.standing {
		return false
	}
	now := time.Now()
	answer := !first && (d.verb == create || d.lease.Revision != m.lease.own.Revision)
	if w := m.lease.writes.wait(now); answer && w > 0 {
		m.retryAt = now.Add(w)
		return false
	}
	err := m.write(ctx, d)
	switch {
	case err == nil && d.verb == remove:
		// What can be kept of it is chosen again.
		m.previous = slices.Concat([]Subnet{d.lease.Subnet}, m.previous)
		return true
	case err == nil:
		if answer {
			m.lease.writes.spend(now)
		}
		return true
	case errors.Is(err, ErrChanged) && d.verb == create:
		m.race.lose(time.Now())
		m.retryAt = m.race.until(m.table.ahead(m.node.ID))
	case errors.Is(err, ErrChanged):
		m.retryAt = time.Now().Add(m.writeLost.delay())
	default:
		m.retryAt = time.Now().Add(m.writeFailed.delay())
	}
	return false
}

// write carries out a decision to create, update or remove. One that failed
// may have been carried out all the same; another attempt tells, by ErrChanged.
func (m *Manager) write(ctx context.Context, d decision) error {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	granted := time.Now()
	var l Lease
	var err error
	switch d.verb {
	case create:
		l, err = m.registry.Create(callCtx, d.subnet, m.attrs, m.ttl, m.table.revision)
		m.race.created(time.Since(granted))
	case update:
		l, err = m.registry.Update(callCtx, d.lease, m.attrs, m.ttl)
	case remove:
		err = m.registry.Delete(callCtx, d.lease)
	}
	if errors.Is(err, ErrChanged) {
		m.needList = true
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.contact.note(sourceWrite, err, m.log)
	if err != nil {
		return err
	}
	m.writeFailed.reset()
	m.writeLost.reset()
	m.published.dirty = true
	if d.verb == remove {
		m.log.Info("lease removed", "subnet", d.lease.Subnet, "why", d.why)
		m.table.leases.remove(d.lease.Subnet)
		return nil
	}
	m.table.put(l)
	if m.lease.held && l.Subnet == m.lease.own.Subnet && !d.routine {
		m.log.Info("lease written again", "subnet", l.Subnet, "why", d.why)
	}
	m.hold(decision{lease: l, why: d.why})
	m.schedule(granted)
	return nil
}

// hold notes that d.lease is ours as it stands.
func (m *Manager) hold(d decision) {
	l := &m.lease
	news := !l.held || l.own.Subnet != d.lease.Subnet
	if news {
		m.log.Info("subnet is ours", "subnet", d.lease.Subnet, "reservation", d.lease.Reservation, "why", d.why)
	}
	if news || l.own.Revision != d.lease.Revision {
		m.published.dirty = true
		l.renewAt, l.expires = time.Time{}, time.Time{}
		if !d.lease.Reservation {
			l.renewAt = time.Now().Add(unsureRenewal)
		}
	}
	l.own, l.held = d.lease, true
	l.waiting, l.renumber = "", false
	l.rival, l.takeBackAt, l.askAt = "", time.Time{}, time.Time{}
}

// schedule plans the renewal of a lease that we have just written. Nodes that
// started together do not renew together.
func (m *Manager) schedule(granted time.Time) {
	l := &m.lease
	l.renewDue = false
	if l.own.Reservation {
		return
	}
	ttl := m.ttl - m.ttl/100 // what the Registry promises at least
	wait := max(ttl-m.margin, ttl/10)
	l.expires = granted.Add(ttl)
	l.renewAt = granted.Add(wait - rand.N(min(wait, m.margin)/10+1))
}

// wait notes that the subnet is not ours for now, and tells whether another
// decision is to be made because it may be exchanged.
func (m *Manager) wait(d decision) bool {
	l := &m.lease
	now := time.Now()
	l.held, l.waiting = false, d.why
	dead := d.rival.Attrs.NodeID
	if _, alive := m.table.alive[dead]; alive || l.own.Subnet.IsZero() {
		dead = ""
	}
	switch dead {
	case "":
		l.rival, l.takeBackAt = "", time.Time{}
	case l.rival:
	default:
		l.rival, l.deadSince, l.takeBackAt = dead, now, now.Add(takeBackAfter)
	}
	if d.rival.Subnet.IsZero() || l.renumber || !l.askAt.IsZero() {
		return false
	}
	l.askAt = now.Add(askInterval)
	l.renumber = m.mayRenumber()
	return l.renumber
}

// renewNow answers a call of Renew.
func (m *Manager) renewNow(ctx context.Context, r renewal) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(r.ctx, cancel)()
	old, held := m.lease.own, m.lease.held
	why := m.view.Load().Problem
	if err := m.contact.err(); err != nil && why == "" {
		why = err.Error()
	}
	switch {
	case !m.announce.standing:
		return fmt.Errorf("renew lease: this node is not announced in etcd: %s", why)
	case !r.newSubnet && !held:
		return fmt.Errorf("renew lease: this node holds no subnet: %s", why)
	}
	for ctx.Err() == nil {
		if m.needList {
			if err := m.list(ctx); err != nil {
				return fmt.Errorf("renew lease: %w", err)
			}
		}
		s := m.situation()
		s.renew = true
		if r.newSubnet {
			s.own, s.avoid, s.renumber = Lease{}, old.Subnet, true
		}
		d := s.decide()
		switch d.verb {
		case wait:
			return fmt.Errorf("renew lease: %s", d.why)
		case keep:
			m.hold(d)
			if r.newSubnet {
				return m.release(ctx, old, held)
			}
			return nil
		}
		err := m.write(ctx, d)
		switch {
		case errors.Is(err, ErrChanged):
			sleep(ctx, m.writeLost.delay())
		case err != nil:
			return fmt.Errorf("renew lease: %w", err)
		case d.verb != remove && r.newSubnet:
			return m.release(ctx, old, held)
		case d.verb != remove:
			return nil
		}
	}
	return fmt.Errorf("renew lease: %w", ctx.Err())
}

// release gives up a lease that another has taken the place of.
func (m *Manager) release(ctx context.Context, old Lease, held bool) error {
	old, there := m.table.leases.get(old.Subnet)
	if !held || !there || old.Reservation {
		return nil
	}
	err := m.write(ctx, decision{verb: remove, lease: old, why: "a new subnet was asked for"})
	if err != nil {
		return fmt.Errorf("the new subnet is %s, but the lease of %s stays until it expires: %w", m.lease.own.Subnet, old.Subnet, err)
	}
	return nil
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
