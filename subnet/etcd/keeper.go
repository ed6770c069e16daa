package etcd

import (
	"context"
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// keeper renews one etcd lease on a gRPC stream of its own, which it keeps
// from one renewal to the next: to open one costs etcd a password check.
// clientv3's KeepAliveOnce, besides, tries again at once and without end while
// etcd is away.
type keeper struct {
	lease  clientv3.LeaseID
	client *clientv3.Client // that stream belongs to
	stream pb.Lease_LeaseKeepAliveClient
	cancel context.CancelFunc
}

// renew renews the lease through c within ctx. The error is errLost where the
// lease has expired.
func (k *keeper) renew(ctx context.Context, c *clientv3.Client) error {
	ttl, err := k.request(ctx, c)
	if err != nil {
		k.close()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return err
	}
	if ttl <= 0 {
		return fmt.Errorf("%w: its etcd lease has expired", errLost)
	}
	return nil
}

func (k *keeper) request(ctx context.Context, c *clientv3.Client) (ttl int64, err error) {
	if k.stream != nil && k.client != c {
		k.close()
	}
	life := context.WithoutCancel(ctx) // the stream outlives ctx,
	if k.stream == nil {
		life, k.cancel = context.WithCancel(life)
	}
	stop := context.AfterFunc(ctx, k.cancel) // but not if ctx ends in here
	defer stop()
	if k.stream == nil {
		k.client = c
		if k.stream, err = pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(life); err != nil {
			return 0, err
		}
	}
	if err := k.stream.Send(&pb.LeaseKeepAliveRequest{ID: int64(k.lease)}); err != nil {
		return 0, err
	}
	resp, err := k.stream.Recv()
	if err != nil {
		return 0, err
	}
	return resp.TTL, nil
}

func (k *keeper) close() {
	if k.cancel != nil {
		k.cancel()
	}
	k.stream, k.cancel = nil, nil
}
