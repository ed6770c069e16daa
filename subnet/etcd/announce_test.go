package etcd

import (
	"context"
	"errors"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
)

// announcing is an announcement under way.
type announcing struct {
	err    chan error
	cancel context.CancelFunc
}

func announce(t *testing.T, r *Registry, n subnet.Node, ttl time.Duration) *announcing {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &announcing{err: make(chan error, 1), cancel: cancel}
	ready, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		a.err <- r.Announce(ctx, n, ttl, func() { close(ready) })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-ready:
	case err := <-a.err:
		t.Fatalf("announce: %v", err)
	case <-time.After(patience):
		t.Fatal("the announcement is never ready")
	}
	return a
}

func (a *announcing) running(t *testing.T) {
	t.Helper()
	select {
	case err := <-a.err:
		t.Fatalf("the announcement ended: %v", err)
	default:
	}
}

func (a *announcing) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.err:
		return err
	case <-time.After(patience):
		t.Fatal("the announcement does not end")
		return nil
	}
}

// etcdLeases returns the leases of etcd that the shared member holds. Those of
// other tests come to their end at any time.
func etcdLeases(t *testing.T, c *clientv3.Client) map[clientv3.LeaseID]bool {
	t.Helper()
	resp, err := c.Leases(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ids := map[clientv3.LeaseID]bool{}
	for _, l := range resp.Leases {
		ids[l.ID] = true
	}
	return ids
}

// TestAnnounceLeavesNothing checks that no way to end leaves an etcd lease.
func TestAnnounceLeavesNothing(t *testing.T) {
	r := open(t, Config{})
	c := dial(t, clientv3.Config{})
	h := harness(t, r, c)
	before := etcdLeases(t, c)
	node := subnet.Node{ID: "one", Instance: "i", Hostname: "h", PublicIP: "192.0.2.1"}
	other := subnet.Node{ID: "one", Instance: "j", Hostname: "g", PublicIP: "192.0.2.2"}

	a := announce(t, r, node, time.Minute)
	var alive *subnet.AliveError
	if err := r.Announce(t.Context(), other, time.Minute, nil); !errors.As(err, &alive) || alive.Other != node {
		t.Errorf("a second daemon got %v, want an AliveError", err)
	}
	h.Put(t, "weft/alive/one", `{"ID":"one","Instance":"j","Hostname":"g","PublicIP":"192.0.2.2"}`, 0)
	if err := a.ended(t); !errors.As(err, &alive) || alive.Other != other {
		t.Errorf("overwritten announcement ended with %v, want an AliveError naming %v", err, other)
	}
	h.Delete(t, "weft/alive/one")

	a = announce(t, r, node, time.Minute)
	a.cancel()
	a.ended(t)
	for id := range etcdLeases(t, c) {
		if !before[id] {
			t.Errorf("etcd lease %x is left", id)
		}
	}
	if err := r.Announce(t.Context(), subnet.Node{ID: "a/b"}, time.Minute, nil); err == nil {
		t.Error("a node ID with a slash was accepted")
	}
}

// TestAnnounceUnreachable lets the key run out while etcd cannot be reached.
func TestAnnounceUnreachable(t *testing.T) {
	p := newProxy(t, shared.Endpoints()[0])
	r := open(t, Config{Endpoints: []string{p.url}})
	r.timing.request = time.Second
	h := harness(t, r, dial(t, clientv3.Config{}))
	a := announce(t, r, subnet.Node{ID: "one", Instance: "i"}, h.ShortTTL)
	p.silence()
	if err := a.ended(t); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("announcement ended with %v", err)
	}
	p.thaw()
}
