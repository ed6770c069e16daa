package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc/codes"

	"github.com/weftnet/weft/subnet"
)

// Create implements subnet.Registry. One transaction compares the revisions of
// every key under subnets/ and writes: of two nodes that chose from the same
// snapshot one fails, whatever they chose.
func (r *Registry) Create(ctx context.Context, s subnet.Subnet, a subnet.Attrs, ttl time.Duration, asOf int64) (subnet.Lease, error) {
	what := fmt.Sprintf("create lease %s", s)
	if !s.IPv4.IsValid() {
		return subnet.Lease{}, fmt.Errorf("%s: a lease needs an IPv4 subnet", what)
	}
	key := r.leaseKey(s)
	return r.put(ctx, what, s, a, ttl, []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(key), "=", 0),
		// Compared for each key of the range; it holds for an empty range.
		clientv3.Compare(clientv3.ModRevision(r.leasePrefix()), "<", asOf+1).WithPrefix(),
	})
}

// Update implements subnet.Registry.
func (r *Registry) Update(ctx context.Context, l subnet.Lease, a subnet.Attrs, ttl time.Duration) (subnet.Lease, error) {
	if l.Reservation {
		ttl = 0
	}
	return r.put(ctx, fmt.Sprintf("update lease %s", l.Subnet), l.Subnet, a, ttl, r.unchanged(l))
}

// Delete implements subnet.Registry.
func (r *Registry) Delete(ctx context.Context, l subnet.Lease) error {
	what := fmt.Sprintf("delete lease %s", l.Subnet)
	resp, err := r.txn(ctx, what, r.unchanged(l), clientv3.OpDelete(r.leaseKey(l.Subnet), clientv3.WithPrevKV()))
	if err != nil {
		return err
	}
	for _, kv := range resp.Responses[0].GetResponseDeleteRange().PrevKvs {
		r.revokeUnused(ctx, clientv3.LeaseID(kv.Lease))
	}
	return nil
}

// unchanged compares that l is as it was read. A key that is gone has
// revision 0.
func (r *Registry) unchanged(l subnet.Lease) []clientv3.Cmp {
	return []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(r.leaseKey(l.Subnet)), "=", l.Revision)}
}

// put writes a lease under a fresh etcd lease of ttl, or under none if ttl
// is 0, provided that cond holds.
//
// If the answer to the write is lost, nobody knows whether it happened. The
// fresh etcd lease is then left to expire, for to revoke it could delete the
// key just when the caller, who lists again, has found it there.
func (r *Registry) put(ctx context.Context, what string, s subnet.Subnet, a subnet.Attrs, ttl time.Duration, cond []clientv3.Cmp) (subnet.Lease, error) {
	value, err := json.Marshal(a)
	if err != nil {
		return subnet.Lease{}, fmt.Errorf("%s: %w", what, err)
	}
	opts := []clientv3.OpOption{clientv3.WithPrevKV()}
	var fresh freshLease
	if ttl > 0 {
		if fresh, err = r.takeFresh(ctx, what, ttl); err != nil {
			return subnet.Lease{}, err
		}
		opts = append(opts, clientv3.WithLease(fresh.id))
	}
	resp, err := r.txn(ctx, what, cond, clientv3.OpPut(r.leaseKey(s), string(value), opts...))
	switch {
	case errors.Is(err, subnet.ErrChanged):
		r.keepFresh(ctx, fresh)
		return subnet.Lease{}, err
	case err != nil:
		if refused(err) {
			r.revoke(ctx, fresh.id)
		}
		return subnet.Lease{}, err
	}
	if old := resp.Responses[0].GetResponsePut().PrevKv; old != nil {
		r.revokeUnused(ctx, clientv3.LeaseID(old.Lease))
	}
	return subnet.Lease{Subnet: s, Attrs: a, Reservation: ttl == 0, Revision: resp.Header.Revision}, nil
}

// txn does op if cond holds, and otherwise returns subnet.ErrChanged.
func (r *Registry) txn(ctx context.Context, what string, cond []clientv3.Cmp, op clientv3.Op) (*clientv3.TxnResponse, error) {
	var resp *clientv3.TxnResponse
	err := r.call(ctx, what, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.Txn(ctx).If(cond...).Then(op).Commit()
		return err
	})
	if err != nil {
		return nil, err
	}
	if !resp.Succeeded {
		return nil, fmt.Errorf("%s: %w", what, subnet.ErrChanged)
	}
	return resp, nil
}

// refused tells that err means for certain that nothing was written.
func refused(err error) bool {
	var alive *subnet.AliveError
	if errors.Is(err, subnet.ErrChanged) || errors.As(err, &alive) {
		return true
	}
	// Unavailable are also "request timed out" and "leader changed", after
	// which the write may still happen.
	var e rpctypes.EtcdError
	return errors.As(err, &e) && e.Code() != codes.Unavailable
}
