package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
)

// farewell bounds how long removing the announcement may take.
const farewell = 2 * time.Second

// Announce implements subnet.Registry. The key of an earlier run on this host,
// which is one with our Instance or our PublicIP, is taken over. While etcd is
// away nothing is lost until ttl has passed.
func (r *Registry) Announce(ctx context.Context, n subnet.Node, ttl time.Duration, ready func()) error {
	what := fmt.Sprintf("announce node %s", n.ID)
	if n.ID == "" || strings.Contains(n.ID, "/") {
		return fmt.Errorf("announce node: %q is no node ID", n.ID)
	}
	lease, err := r.grant(ctx, what, ttl)
	if err != nil {
		return err
	}
	revision, err := r.claim(ctx, what, n, lease)
	for errors.Is(err, subnet.ErrChanged) && ctx.Err() == nil {
		// An earlier run's key went just now: there is a new state to judge.
		revision, err = r.claim(ctx, what, n, lease)
	}
	if err == nil {
		if ready != nil {
			ready()
		}
		err = r.keepAlive(ctx, what, n, ttl, lease, revision)
	}
	if ctx.Err() != nil || refused(err) || errors.Is(err, errLost) {
		// Nobody calls again, or the key is no more attached to this lease.
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
		defer cancel()
		r.revoke(bye, lease)
	}
	return err
}

// claim writes the node's alive key under an etcd lease and returns the
// revision of that.
func (r *Registry) claim(ctx context.Context, what string, n subnet.Node, lease clientv3.LeaseID) (int64, error) {
	value, err := json.Marshal(n)
	if err != nil {
		return 0, fmt.Errorf("%s: %w", what, err)
	}
	key := r.alivePrefix() + n.ID
	kv, _, err := r.aliveKey(ctx, what, key)
	if err != nil {
		return 0, err
	}
	var revision int64
	if kv != nil {
		revision = kv.ModRevision
		// A value that is no node is nobody's, and is replaced.
		other, err := r.parseNode(kv)
		if err == nil && other.Instance != n.Instance && (other.PublicIP == "" || other.PublicIP != n.PublicIP) {
			return 0, &subnet.AliveError{Other: other}
		}
	}
	resp, err := r.txn(ctx, what,
		[]clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(key), "=", revision)},
		clientv3.OpPut(key, string(value), clientv3.WithLease(lease)))
	if err != nil {
		return 0, err
	}
	return resp.Header.Revision, nil
}

// aliveKey reads an alive key, nil where there is none.
func (r *Registry) aliveKey(ctx context.Context, what, key string) (kv *mvccpb.KeyValue, revision int64, err error) {
	err = r.call(ctx, what, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, key)
		if err != nil {
			return err
		}
		revision = resp.Header.Revision
		if len(resp.Kvs) > 0 {
			kv = resp.Kvs[0]
		}
		return nil
	})
	return kv, revision, err
}

// keepAlive renews the etcd lease three times per ttl until ctx ends or the
// announcement is lost.
func (r *Registry) keepAlive(ctx context.Context, what string, n subnet.Node, ttl time.Duration, lease clientv3.LeaseID, revision int64) error {
	guardCtx, stop := context.WithCancel(ctx)
	lost := make(chan error, 1)
	go func() { lost <- r.guard(guardCtx, what, n, revision) }()
	guarded := true
	defer func() {
		stop()
		if guarded {
			<-lost
		}
	}()

	k := keeper{lease: lease}
	defer k.close()
	tick := time.NewTicker(max(ttl/3, 100*time.Millisecond))
	defer tick.Stop()
	renewed := time.Now()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		case err := <-lost:
			guarded = false
			return err
		case <-tick.C:
		}
		began := time.Now()
		err := r.call(ctx, what, k.renew)
		switch {
		case err == nil:
			renewed = began
		case errors.Is(err, errLost):
			return err
		case time.Since(renewed) > ttl:
			return fmt.Errorf("%s: not renewed for %v: %w", what, ttl, err)
		}
	}
}

// errLost says that the alive key is no longer ours.
var errLost = errors.New("the announcement was lost")

// guard watches the alive key and returns, with errLost, when it is no longer
// as it was written at revision. It tries again whatever else happens.
func (r *Registry) guard(ctx context.Context, what string, n subnet.Node, revision int64) error {
	key := r.alivePrefix() + n.ID
	for {
		err := r.guardOnce(ctx, what, key, n, revision)
		if ctx.Err() != nil || errors.Is(err, errLost) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		// Every node comes here at once when etcd restarts.
		case <-time.After(time.Second + rand.N(time.Second)):
		}
	}
}

// guardOnce looks at the key and then watches it until it changes or the watch
// breaks.
func (r *Registry) guardOnce(ctx context.Context, what, key string, n subnet.Node, revision int64) error {
	kv, asOf, err := r.aliveKey(ctx, what, key)
	if err != nil {
		return err
	}
	if kv == nil || kv.ModRevision != revision {
		return r.lostTo(what, n, kv)
	}
	c, err := r.link.client(ctx)
	if err != nil {
		return err
	}
	s := openStream(ctx, c, key, "", asOf)
	defer s.close()
	for {
		resp, err := s.next(ctx, r.timing)
		if err != nil {
			return err
		}
		if n := len(resp.Events); n > 0 {
			kv = nil
			if last := resp.Events[n-1]; last.Type == mvccpb.Event_PUT {
				kv = last.Kv
			}
			break
		}
	}
	return r.lostTo(what, n, kv)
}

// lostTo says who has taken the alive key, or that nobody has.
func (r *Registry) lostTo(what string, n subnet.Node, kv *mvccpb.KeyValue) error {
	if kv == nil {
		return fmt.Errorf("%s: %w: it expired or was removed", what, errLost)
	}
	if other, err := r.parseNode(kv); err == nil && other.Instance != n.Instance {
		return fmt.Errorf("%s: %w: %w", what, errLost, &subnet.AliveError{Other: other})
	}
	return fmt.Errorf("%s: %w: somebody overwrote it", what, errLost)
}
