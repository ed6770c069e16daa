package etcd

import (
	"context"
	"net"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// impatient shortens every wait.
func impatient(r *Registry) {
	r.timing = timing{
		request:     time.Second,
		watchOpen:   time.Second,
		watchQuiet:  200 * time.Millisecond,
		watchAnswer: time.Second,
		replace:     time.Second,
	}
}

// TestQuietWatch keeps a watch over which nothing happens.
func TestQuietWatch(t *testing.T) {
	r := open(t, Config{})
	impatient(r)
	f := follow(t, r)
	time.Sleep(2 * (r.timing.watchQuiet + r.timing.watchAnswer)) // nothing to wait for: nothing must happen
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 {
		t.Errorf("the quiet watch broke: %v", f.errs)
	}
}

// TestStuckConnection freezes the connection, which TCP takes for alive. The
// watch notices, a fresh client is made, and nothing is lost.
func TestStuckConnection(t *testing.T) {
	p := newProxy(t, shared.Endpoints()[0])
	r := open(t, Config{Endpoints: []string{p.url}})
	impatient(r)
	h := harness(t, r, dial(t, clientv3.Config{}))
	f := follow(t, r)
	before, err := r.link.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}

	p.freeze()
	h.Put(t, "subnets/10.5.1.0-24", someLease, 0)
	f.until(t, "the missed lease", f.has("10.5.1.0-24"))
	f.mu.Lock()
	if !strings.Contains(f.errs[0].Error(), "no sign of life within 1.2s") {
		t.Errorf("the stuck watch ended with %v", f.errs[0])
	}
	if len(f.errs) > 10 || f.lists != 1 {
		t.Errorf("%d errors and %d lists; want few and one", len(f.errs), f.lists)
	}
	f.mu.Unlock()
	after, err := r.link.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if before == after || p.accepted() != 2 {
		t.Errorf("fresh client %t, %d connections; want a fresh one and two", before != after, p.accepted())
	}
	// What was stuck does not come back to life.
	p.thaw()
	h.Put(t, "subnets/10.5.2.0-24", someLease, 0)
	f.until(t, "the second lease", f.has("10.5.2.0-24"))
}

// TestOutage cuts etcd off for a while, in which few connections are tried.
func TestOutage(t *testing.T) {
	p := newProxy(t, shared.Endpoints()[0])
	r := open(t, Config{Endpoints: []string{p.url}})
	impatient(r)
	h := harness(t, r, dial(t, clientv3.Config{}))
	f := follow(t, r)
	p.silence()
	f.until(t, "the outage", func() bool { return len(f.errs) >= 3 })
	h.Put(t, "subnets/10.5.1.0-24", someLease, 0)
	p.thaw()
	p.cut()
	f.until(t, "the missed lease", f.has("10.5.1.0-24"))
	if n := p.accepted(); n > 10 {
		t.Errorf("%d connections for one outage", n)
	}
}

// TestDeadEndpoints lists a port where nothing listens, one that accepts and
// says nothing, and one that works.
func TestDeadEndpoints(t *testing.T) {
	mute := newProxy(t, shared.Endpoints()[0])
	mute.silence()
	r := open(t, Config{Endpoints: []string{closedPort(t), mute.url, shared.Endpoints()[0]}})
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second) // connecting may take 3 s
		if _, err := r.Snapshot(ctx); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		cancel()
	}
}

// closedPort returns the URL of a port where nothing listens.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return "http://" + l.Addr().String()
}

func TestClosedRegistry(t *testing.T) {
	r := open(t, Config{})
	if _, err := r.Snapshot(t.Context()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := r.Snapshot(t.Context()); err == nil || err.Error() != "list the leases: the registry is closed" {
		t.Errorf("call on a closed registry: %v", err)
	}
}

// TestCloseEndsWatch closes the registry under a watch.
func TestCloseEndsWatch(t *testing.T) {
	r := open(t, Config{})
	f := follow(t, r)
	r.Close()
	f.until(t, "the end of the watch", func() bool { return len(f.errs) > 0 })
}
