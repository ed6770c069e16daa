package subnet

import (
	"context"
	"log/slog"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"
)

// Options is what a Manager is made of.
type Options struct {
	Registry Registry
	Config   *Config
	Node     Node     // this daemon
	Attrs    Attrs    // what our lease publishes; NodeID is filled in from Node
	Previous []Subnet // subnets held in earlier runs, best first
	Resume   *Memory  // of an earlier run, to go on from while etcd is away; nil to begin anew

	// MayRenumber is asked, from the Manager's goroutine, when the subnet
	// that was this node's is held by another one: may it take a different
	// subnet? nil means no.
	MayRenumber func() bool

	TTL         time.Duration // of the lease; 0 means flannel's 24 h
	RenewMargin time.Duration // before the TTL's end; 0 means flannel's 1 h
	Log         *slog.Logger  // nil means none
}

const (
	defaultTTL    = 24 * time.Hour
	defaultMargin = time.Hour

	// aliveTTL is how long a node that ended without saying so counts as
	// alive.
	aliveTTL = 30 * time.Second

	// callTimeout bounds each call of the registry: the manager's goroutine
	// waits for it.
	callTimeout = 10 * time.Second
)

// Manager keeps this node's lease and knows all others: it announces the node,
// acquires a subnet, renews it, watches, and puts right what goes wrong. What
// it knows is in its View.
//
// One goroutine, Run, owns all state. Two more wait for the registry, the
// announcement and the watch, and tell it what happens through events.
type Manager struct {
	registry    Registry
	config      *Config
	mayRenumber func() bool
	ttl, margin time.Duration
	log         *slog.Logger

	changed  chan struct{}
	view     atomic.Pointer[View]
	newAttrs chan Attrs // holds the last one set
	renewals chan renewal
	events   chan event

	// All below belongs to Run.
	node     Node
	attrs    Attrs
	previous []Subnet
	table    *table
	tasks    sync.WaitGroup // announcement and watch

	lease     leaseState
	announce  announceState
	watch     watchState
	contact   contact
	published published

	needList bool      // the registry is to be read before it is written
	listAt   time.Time // when it is to be read at the latest
	retryAt  time.Time // neither is tried before; zero if they may be

	race race

	listFailed, writeFailed, writeLost backoff // the last one: our lease was changed by others
}

// NewManager returns a manager that Run sets in motion.
func NewManager(o Options) *Manager {
	m := &Manager{
		registry:    o.Registry,
		config:      o.Config,
		mayRenumber: o.MayRenumber,
		ttl:         o.TTL,
		margin:      o.RenewMargin,
		log:         o.Log,
		changed:     make(chan struct{}, 1),
		newAttrs:    make(chan Attrs, 1),
		renewals:    make(chan renewal),
		events:      make(chan event, 64),
		node:        o.Node,
		attrs:       o.Attrs,
		previous:    o.Previous,
		table:       newTable(),
		needList:    true,
		listFailed:  backoff{min: 100 * time.Millisecond, max: 10 * time.Second},
		writeFailed: backoff{min: 100 * time.Millisecond, max: 10 * time.Second},
		writeLost:   backoff{min: 10 * time.Millisecond, max: time.Second},
	}
	if m.log == nil {
		m.log = slog.New(slog.DiscardHandler)
	}
	if m.mayRenumber == nil {
		m.mayRenumber = func() bool { return false }
	}
	if m.ttl == 0 {
		m.ttl = defaultTTL
	}
	if m.margin == 0 {
		m.margin = defaultMargin
	}
	m.attrs.NodeID = o.Node.ID
	m.lease.writes = budget{size: 5, window: time.Minute}
	m.watch.retry = backoff{min: 100 * time.Millisecond, max: 10 * time.Second}
	m.view.Store(&View{Alive: map[string]Node{}})
	if o.Resume != nil {
		m.resume(o.Resume)
	}
	return m
}

// Changed receives a value after the View has changed in more than the time of
// the last contact, once for any number of changes.
func (m *Manager) Changed() <-chan struct{} { return m.changed }

// View returns what is known now. It is not to be written to.
func (m *Manager) View() View { return *m.view.Load() }

// SetAttrs replaces what the lease publishes (its NodeID is filled in): the
// public IP or the backend changed. It does not wait for etcd.
func (m *Manager) SetAttrs(a Attrs) {
	for {
		select {
		case m.newAttrs <- a:
			return
		case <-m.newAttrs: // overtaken
		}
	}
}

// renewal is a request of Renew.
type renewal struct {
	ctx       context.Context
	newSubnet bool
	done      chan error
}

// Renew renews the lease now, or exchanges it for one of another subnet.
func (m *Manager) Renew(ctx context.Context, newSubnet bool) error {
	r := renewal{ctx: ctx, newSubnet: newSubnet, done: make(chan error, 1)}
	select {
	case m.renewals <- r:
	case <-ctx.Done():
		return ctx.Err()
	}
	select {
	case err := <-r.done:
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Run manages the lease until ctx ends; nothing else ends it. The lease stays
// in the registry, the announcement does not. Run may be called once.
func (m *Manager) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer m.tasks.Wait()
	defer cancel()
	m.startAnnounce(ctx)
	m.publish() // what an earlier run knew does not wait for the registry
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		m.step(ctx)
		m.publish()
		timer.Reset(time.Until(m.nextDeadline()))
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-m.events:
			m.handle(e)
			for len(m.events) > 0 {
				m.handle(<-m.events)
			}
		case a := <-m.newAttrs:
			m.changeAttrs(a)
		case r := <-m.renewals:
			err := m.renewNow(ctx, r)
			m.publish() // the caller looks at the View at once
			r.done <- err
		case <-timer.C:
		}
	}
}

// event is what the announcement or the watch reports; one field is set.
type event struct {
	announced *announceEvent
	watched   *watchEvent
}

// send hands an event to Run, unless ctx ends.
func (m *Manager) send(ctx context.Context, e event) {
	select {
	case m.events <- e:
	case <-ctx.Done():
	}
}

func (m *Manager) handle(e event) {
	switch {
	case e.announced != nil:
		m.handleAnnounce(*e.announced)
	case e.watched != nil:
		m.handleWatch(*e.watched)
	}
}

// changeAttrs takes over new attributes, and the public IP from them. The
// lease is rewritten first and the announcement follows, so that no other node
// finds a lease with a dead owner in between.
func (m *Manager) changeAttrs(a Attrs) {
	a.NodeID = m.node.ID
	m.attrs = a
	m.published.dirty = true // what is ours depends on it
	switch {
	case a.PublicIP.IsValid():
		m.node.PublicIP = a.PublicIP.String()
	case a.PublicIPv6.IsValid():
		m.node.PublicIP = a.PublicIPv6.String()
	}
}

// step does all that is to be done now.
func (m *Manager) step(ctx context.Context) {
	now := time.Now()
	if m.table.forgetLost(now) {
		m.published.dirty = true
	}
	m.needList = elapsed(&m.listAt, now) || m.needList
	m.lease.renewDue = elapsed(&m.lease.renewAt, now) || m.lease.renewDue
	elapsed(&m.lease.askAt, now)
	elapsed(&m.lease.takeBackAt, now)
	elapsed(&m.published.surveyAt, now)
	m.announce.isClone = elapsed(&m.announce.cloneAt, now) || m.announce.isClone
	if !m.race.lostAt.IsZero() {
		m.retryAt = m.race.until(m.table.ahead(m.node.ID))
	}
	if elapsed(&m.retryAt, now) {
		m.race.lostAt = time.Time{}
	}
	if m.needList && m.retryAt.IsZero() {
		if err := m.list(ctx); err != nil {
			m.retryAt = time.Now().Add(m.listFailed.delay())
		}
	}
	for ctx.Err() == nil && m.act(ctx) {
	}
	m.keepAnnouncing(ctx)
	m.keepWatching(ctx)
}

// elapsed clears a deadline that has passed, and tells whether it had.
func elapsed(at *time.Time, now time.Time) bool {
	if at.IsZero() || now.Before(*at) {
		return false
	}
	*at = time.Time{}
	return true
}

// nextDeadline is when step has to be called at the latest. Deadlines are zero
// while there is nothing to wait for, and step clears those that have passed.
func (m *Manager) nextDeadline() time.Time {
	next := time.Now().Add(time.Hour)
	for _, at := range []time.Time{
		m.retryAt, m.listAt, m.watch.startAt,
		m.lease.renewAt, m.lease.askAt, m.lease.takeBackAt,
		m.announce.cloneAt, m.table.lostUntil,
	} {
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	if m.published.dirty && m.published.surveyAt.Before(next) {
		next = m.published.surveyAt
	}
	return next
}

// list reads the whole registry.
func (m *Manager) list(ctx context.Context) error {
	callCtx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	begin := time.Now()
	snap, err := m.registry.Snapshot(callCtx)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	m.contact.note(sourceList, err, m.log)
	if err != nil {
		return err
	}
	before := m.table.revision
	if m.table.replace(snap, time.Now()) {
		m.log.Warn("etcd has lost data: its revision went back; it was wiped or restored from a backup", "from", before, "to", snap.Revision)
		m.stopWatch()
	}
	m.published.dirty = true
	m.needList = false
	m.listFailed.reset()
	m.race.listed(time.Since(begin))
	m.listAt = time.Now().Add(auditInterval(len(snap.Leases)))
	return nil
}

// auditInterval is the time after which the registry is read anew though
// nothing tells that the watch missed anything. It grows with the number of
// leases, so that all nodes together read some ten times a second at most.
func auditInterval(leases int) time.Duration {
	d := 5*time.Minute + time.Duration(leases)*100*time.Millisecond
	return d + rand.N(d/5)
}
