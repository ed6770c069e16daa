package subnet

import (
	"context"
	"errors"
	"time"
)

// watchState is the watch of the registry.
type watchState struct {
	run     int // counts the watches started
	cancel  context.CancelFunc
	started time.Time // zero while none is under way
	stood   bool
	startAt time.Time // the next one is not started before; zero if it may be
	retry   backoff
}

// watchEvent reports what one watch saw, or its end.
type watchEvent struct {
	run     int
	changes Changes
	err     error
}

// keepWatching starts a watch where there is none and may be one.
func (m *Manager) keepWatching(ctx context.Context) {
	w := &m.watch
	elapsed(&w.startAt, time.Now())
	if !w.started.IsZero() || !w.startAt.IsZero() || m.needList {
		return
	}
	ctx, w.cancel = context.WithCancel(ctx)
	w.run++
	w.started, w.stood = time.Now(), false
	run, after := w.run, m.table.revision
	m.tasks.Go(func() {
		err := m.registry.Watch(ctx, after, func(ch Changes) {
			m.send(ctx, event{watched: &watchEvent{run: run, changes: ch}})
		})
		m.send(ctx, event{watched: &watchEvent{run: run, err: err}})
	})
}

// stopWatch ends the watch under way; nothing is heard of it any more.
func (m *Manager) stopWatch() {
	if w := &m.watch; !w.started.IsZero() {
		w.cancel()
		w.run++
		w.started = time.Time{}
	}
}

func (m *Manager) handleWatch(e watchEvent) {
	w := &m.watch
	switch {
	case e.run != w.run:
	case e.err != nil:
		m.endWatch(e.err)
	default:
		m.contact.note(sourceWatch, nil, m.log)
		w.stood = true
		if m.table.apply(e.changes) {
			m.published.dirty = true
		}
	}
}

// endWatch plans the next watch, from the last revision known, or from a new
// list where that is compacted.
func (m *Manager) endWatch(err error) {
	w := &m.watch
	w.cancel()
	now := time.Now()
	if w.stood && now.Sub(w.started) > settled {
		w.retry.reset()
	}
	w.started = time.Time{}
	w.startAt = now.Add(w.retry.delay())
	switch {
	case errors.Is(err, ErrCompacted):
		m.log.Info("watch of etcd is too far behind, listing the leases anew", "revision", m.table.revision)
		m.needList = true
		m.contact.note(sourceWatch, nil, m.log)
	case !w.stood:
		// One that stood and broke says nothing: the next attempt will.
		m.contact.note(sourceWatch, err, m.log)
	}
}
