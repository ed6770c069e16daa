package etcd

import (
	"context"
	"fmt"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
)

// Watch implements subnet.Registry. It is one stream over <prefix>/ and ends
// at the first thing that goes wrong with it; the caller watches again from
// the last revision it was given.
//
// The revision handed over is that of the last event, never that of a response
// header: a header may be ahead of events that follow in the next response,
// and that of a progress notification is, before etcd 3.4.25 and 3.5.8, not to
// be relied on either (etcd issue 15220). The price is a fresh list where a
// watch breaks that has been quiet for longer than history is kept.
func (r *Registry) Watch(ctx context.Context, after int64, fn func(subnet.Changes)) error {
	const what = "watch the leases"
	c, err := r.link.client(ctx)
	if err != nil {
		return r.explain(what, err)
	}
	all := r.prefix + "/"
	s := openStream(ctx, c, all, clientv3.GetPrefixRangeEnd(all), after)
	defer s.close()

	for {
		resp, err := s.next(ctx, r.timing)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case err == nil && resp.Created:
			err = r.checkHistory(ctx, c, resp.Header.ClusterId, resp.Header.Revision, after)
		}
		r.link.note(c, err, r.timing.replace)
		if err != nil {
			return r.explain(what, err)
		}
		changes := subnet.Changes{Revision: after}
		if n := len(resp.Events); n > 0 {
			changes = r.changes(resp.Events)
			after = changes.Revision
		}
		fn(changes)
	}
}

// checkHistory returns subnet.ErrCompacted where revision after is not one of
// the history of the cluster that answered. Such a watch would stand, and stay
// silent until the new history has got as far as the old.
func (r *Registry) checkHistory(ctx context.Context, c *clientv3.Client, cluster uint64, revision, after int64) error {
	if was := r.cluster.Load(); was != 0 && cluster != was {
		return fmt.Errorf("this is another cluster than before: %w", subnet.ErrCompacted)
	}
	if revision >= after {
		return nil
	}
	// A member that lags behind is no other history: a read waits for it.
	ctx, cancel := context.WithTimeout(ctx, r.timing.request)
	defer cancel()
	resp, err := c.Get(ctx, r.configKey(), clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	if resp.Header.Revision < after {
		return fmt.Errorf("etcd is at revision %d, but was at %d: it was wiped or restored: %w", resp.Header.Revision, after, subnet.ErrCompacted)
	}
	return nil
}

// changes sorts the events of one response, which are of whole revisions and
// in order. Of the events of one key the last counts.
func (r *Registry) changes(events []*mvccpb.Event) subnet.Changes {
	last := make(map[string]int, len(events))
	for i, ev := range events {
		last[string(ev.Kv.Key)] = i
	}
	c := subnet.Changes{Revision: events[len(events)-1].Kv.ModRevision}
	for i, ev := range events {
		key := string(ev.Kv.Key)
		switch {
		case last[key] != i:
		case strings.HasPrefix(key, r.leasePrefix()):
			r.addLease(&c, ev)
		case strings.HasPrefix(key, r.alivePrefix()):
			r.addNode(&c, ev)
		}
	}
	return c
}

func (r *Registry) addLease(c *subnet.Changes, ev *mvccpb.Event) {
	if ev.Type == mvccpb.Event_DELETE {
		s, err := subnet.ParseKey(strings.TrimPrefix(string(ev.Kv.Key), r.leasePrefix()))
		if err != nil {
			addBad(c, ev, nil)
			return
		}
		c.Deleted = append(c.Deleted, s)
		return
	}
	l, err := r.parseLease(ev.Kv)
	if err != nil {
		addBad(c, ev, err)
		return
	}
	c.Put = append(c.Put, l)
}

func (r *Registry) addNode(c *subnet.Changes, ev *mvccpb.Event) {
	if ev.Type == mvccpb.Event_DELETE {
		c.Down = append(c.Down, strings.TrimPrefix(string(ev.Kv.Key), r.alivePrefix()))
		return
	}
	n, err := r.parseNode(ev.Kv)
	if err != nil {
		addBad(c, ev, err)
		return
	}
	c.Up = append(c.Up, n)
}

func addBad(c *subnet.Changes, ev *mvccpb.Event, err error) {
	c.Bad = append(c.Bad, subnet.BadEntry{Key: string(ev.Kv.Key), Revision: ev.Kv.ModRevision, Err: err})
}
