package etcd

import (
	"context"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// freshLease is a lease of etcd with no key attached to it yet.
type freshLease struct {
	id      clientv3.LeaseID
	ttl     time.Duration
	granted time.Time
}

// takeFresh returns a lease of ttl: one that was kept, if it is nearly as good
// as new, or a new one. When many nodes register at once, most writes are
// refused, and granting and revoking would be two thirds of etcd's work.
func (r *Registry) takeFresh(ctx context.Context, what string, ttl time.Duration) (freshLease, error) {
	select {
	case l := <-r.fresh:
		if l.ttl == ttl && time.Since(l.granted) < ttl/100 {
			return l, nil
		}
		r.revoke(ctx, l.id)
	default:
	}
	l := freshLease{ttl: ttl, granted: time.Now()}
	var err error
	l.id, err = r.grant(ctx, what, ttl)
	return l, err
}

// keepFresh keeps a lease for the next write. If there is none, the lease lasts
// for its ttl.
func (r *Registry) keepFresh(ctx context.Context, l freshLease) {
	if l.id == clientv3.NoLease {
		return
	}
	select {
	case r.fresh <- l:
	default:
		r.revoke(ctx, l.id)
	}
}

// grant makes an etcd lease of ttl, in whole seconds.
func (r *Registry) grant(ctx context.Context, what string, ttl time.Duration) (id clientv3.LeaseID, err error) {
	seconds := int64((ttl + time.Second - 1) / time.Second)
	err = r.call(ctx, what, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Grant(ctx, seconds)
		if err == nil {
			id = resp.ID
		}
		return err
	})
	return id, err
}

// revoke ends an etcd lease and deletes the keys attached to it. If that
// fails, the lease lasts for its ttl.
func (r *Registry) revoke(ctx context.Context, id clientv3.LeaseID) {
	if id == clientv3.NoLease {
		return
	}
	_ = r.call(ctx, "revoke an etcd lease", func(ctx context.Context, c *clientv3.Client) error {
		_, err := c.Revoke(ctx, id)
		return err
	})
}

// revokeUnused revokes the etcd lease that a key of ours has left, unless
// other keys are attached, for somebody may have done that by hand.
func (r *Registry) revokeUnused(ctx context.Context, id clientv3.LeaseID) {
	if id == clientv3.NoLease {
		return
	}
	var unused bool
	_ = r.call(ctx, "look at an etcd lease", func(ctx context.Context, c *clientv3.Client) error {
		left, err := c.TimeToLive(ctx, id, clientv3.WithAttachedKeys())
		unused = err == nil && left.TTL > 0 && len(left.Keys) == 0
		return err
	})
	if unused {
		r.revoke(ctx, id)
	}
}
