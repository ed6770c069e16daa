package subnet

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// settled is how long an announcement or a watch has to last for its end to be
// a first failure again.
const settled = 10 * time.Second

// announceState is the announcement of this node.
type announceState struct {
	node     Node // as announced
	run      int  // counts the announcements started
	cancel   context.CancelFunc
	ended    <-chan struct{}
	standing bool

	// Another daemon has our node ID: for aliveTTL it may be our own earlier
	// run, from then on it is another machine.
	clone   *Node
	cloneAt time.Time
	isClone bool
}

// announceEvent reports about one attempt to announce the node.
type announceEvent struct {
	run   int
	ready bool  // the alive key is in place
	stood bool  // with err: it had been
	err   error // why the attempt ended
}

// startAnnounce announces the node as it is now, once an announcement under
// way has ended.
func (m *Manager) startAnnounce(ctx context.Context) {
	a := &m.announce
	before := a.ended
	if a.cancel != nil {
		a.cancel()
	}
	ctx, a.cancel = context.WithCancel(ctx)
	ended := make(chan struct{})
	a.ended = ended
	a.node = m.node
	a.run++
	node, run := a.node, a.run
	m.tasks.Go(func() {
		defer close(ended)
		if before != nil {
			<-before
		}
		m.announceUntilEnd(ctx, node, run)
	})
}

func (m *Manager) announceUntilEnd(ctx context.Context, n Node, run int) {
	retry := backoff{min: 100 * time.Millisecond, max: 5 * time.Second}
	for ctx.Err() == nil {
		started := time.Now()
		var stood atomic.Bool
		err := m.registry.Announce(ctx, n, aliveTTL, func() {
			stood.Store(true)
			m.send(ctx, event{announced: &announceEvent{run: run, ready: true}})
		})
		m.send(ctx, event{announced: &announceEvent{run: run, stood: stood.Load(), err: err}})
		if stood.Load() && time.Since(started) > settled {
			retry.reset()
		}
		sleep(ctx, retry.delay())
	}
}

func (m *Manager) handleAnnounce(e announceEvent) {
	a := &m.announce
	if e.run != a.run {
		return
	}
	m.published.dirty = true // what is ours depends on it
	if e.ready {
		a.standing = true
		a.clone, a.cloneAt, a.isClone = nil, time.Time{}, false
		m.contact.note(sourceAnnounce, nil, m.log)
		m.retryAt = time.Time{} // etcd answers again
		return
	}
	a.standing = false
	var alive *AliveError
	switch {
	case errors.As(e.err, &alive):
		m.contact.note(sourceAnnounce, nil, m.log)
		if a.clone == nil || *a.clone != alive.Other {
			a.clone, a.cloneAt, a.isClone = &alive.Other, time.Now().Add(aliveTTL), false
		}
	case !e.stood:
		// One that stood and was lost says nothing: the next attempt will.
		m.contact.note(sourceAnnounce, e.err, m.log)
	}
}

// keepAnnouncing starts the announcement anew when what it says has changed.
func (m *Manager) keepAnnouncing(ctx context.Context) {
	l := &m.lease
	if m.node != m.announce.node && (!l.held || l.own.Attrs.Equal(m.attrs)) {
		m.startAnnounce(ctx)
	}
}

// cloneProblem says that another daemon has our node ID, if one does.
func (m *Manager) cloneProblem() string {
	a := &m.announce
	switch {
	case a.clone == nil:
		return ""
	case !a.isClone:
		return fmt.Sprintf("%s is announced in etcd with this node's ID; waiting for it to end, should it be an earlier run of this node", describe(*a.clone))
	}
	return fmt.Sprintf("this %s has the node ID of %s; if this machine is a copy of that one, delete node.json in the state directory here and restart weftd",
		describe(m.node), describe(*a.clone))
}
