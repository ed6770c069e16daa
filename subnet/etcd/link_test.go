package etcd

import (
	"context"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
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
func TestQuietWatch(t *testing.T) { staysQuiet(t, Config{}) }

// staysQuiet watches until a quiet etcd has answered several times that all is
// well, none of which may break the watch.
func staysQuiet(t *testing.T, cfg Config) {
	t.Helper()
	r := open(t, cfg)
	r.timing.watchQuiet, r.timing.watchAnswer = 100*time.Millisecond, patience
	f := follow(t, r)
	f.until(t, "the quiet watch's answers", func() bool { return f.calls >= 5 })
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.errs) > 0 || f.stands != 1 {
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

	connections := p.accepted()
	p.freeze()
	h.Put(t, "subnets/10.5.1.0-24", someLease, 0)
	f.until(t, "the missed lease", f.has("10.5.1.0-24"))
	f.mu.Lock()
	if !slices.ContainsFunc(f.errs, func(err error) bool { return strings.Contains(err.Error(), "no sign of life within 1.2s") }) {
		t.Errorf("the stuck watch ended with %v", f.errs)
	}
	if len(f.errs) > 10 || f.lists != 1 {
		t.Errorf("%d errors and %d lists; want few and one", len(f.errs), f.lists)
	}
	f.mu.Unlock()
	after, err := r.link.client(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if n := p.accepted() - connections; before == after || n != 1 {
		t.Errorf("fresh client %t, %d connections; want a fresh one and one", before != after, n)
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
// says nothing, and one that works. No call waits for the second.
func TestDeadEndpoints(t *testing.T) {
	mute := newProxy(t, shared.Endpoints()[0])
	mute.silence()
	r := open(t, Config{Endpoints: []string{closedPort(t), mute.url, shared.Endpoints()[0]}})
	// Who waits for a connection waits longer than the call may take.
	r.link.cfg.DialOptions = append(r.link.cfg.DialOptions, grpc.WithConnectParams(grpc.ConnectParams{
		Backoff: backoff.DefaultConfig, MinConnectTimeout: 10 * patience,
	}))
	for i := range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		if _, err := r.Snapshot(ctx); err != nil {
			t.Fatalf("call %d: %v", i, err)
		}
		cancel()
	}
}

// closedPort returns the URL of a port where nothing listens.
func closedPort(t *testing.T) string { return closedPorts(t, 1)[0] }

// closedPorts returns n of them, each another.
func closedPorts(t *testing.T, n int) (urls []string) {
	t.Helper()
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // together, lest one is given out twice
		urls = append(urls, "http://"+l.Addr().String())
	}
	return urls
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
