package etcd

import (
	"context"
	"fmt"
	"testing"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
)

// BenchmarkSnapshot lists 10,000 leases and as many live nodes.
func BenchmarkSnapshot(b *testing.B) {
	r := open(b, Config{})
	fill(b, r, dial(b, clientv3.Config{}), 10_000)
	b.ReportAllocs()
	for b.Loop() {
		snap, err := r.Snapshot(b.Context())
		if err != nil || len(snap.Leases) != 10_000 || len(snap.Alive) != 10_000 {
			b.Fatalf("%v, error %v", snap, err)
		}
	}
}

// fill writes n leases and live nodes, as many in a transaction as etcd takes.
func fill(b *testing.B, r *Registry, c *clientv3.Client, n int) {
	b.Helper()
	var ops []clientv3.Op
	for i := range n {
		ip := fmt.Sprintf("192.%d.%d.%d", 168+i>>16, i>>8&255, i&255)
		id := fmt.Sprintf("0191d7a4-54c1-7c4e-9d0e-%012x", i)
		ops = append(ops,
			clientv3.OpPut(fmt.Sprintf("%s10.%d.%d.0-24", r.leasePrefix(), i>>8, i&255),
				fmt.Sprintf(`{"PublicIP":%q,"PublicIPv6":null,"NodeID":%q,"BackendType":"udp","BackendData":{"weft":1}}`, ip, id)),
			clientv3.OpPut(r.alivePrefix()+id,
				fmt.Sprintf(`{"ID":%q,"Instance":"%08x","Hostname":"host-%d","PublicIP":%q}`, id, i, i, ip)))
		if len(ops) == 128 || i == n-1 {
			if _, err := c.Txn(context.Background()).Then(ops...).Commit(); err != nil {
				b.Fatal(err)
			}
			ops = nil
		}
	}
}

// BenchmarkWatch measures from a write by another client to the call of fn.
func BenchmarkWatch(b *testing.B) {
	r := open(b, Config{})
	c := dial(b, clientv3.Config{})
	ctx, cancel := context.WithCancel(b.Context())
	seen := make(chan int64, 1)
	done := make(chan struct{})
	snap, err := r.Snapshot(ctx)
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		defer close(done)
		r.Watch(ctx, snap.Revision, func(ch subnet.Changes) { seen <- ch.Revision })
	}()
	<-seen
	for b.Loop() {
		if _, err := c.Put(ctx, r.leasePrefix()+"10.5.1.0-24", someLease); err != nil {
			b.Fatal(err)
		}
		<-seen
	}
	cancel()
	<-done
}
