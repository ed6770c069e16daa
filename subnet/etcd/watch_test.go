package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd/embedded"
)

// patience bounds every wait; no test that passes waits it out.
const patience = time.Minute

// follower does what a manager does: it watches, again from the last revision
// whenever the watch breaks, and from a fresh list after ErrCompacted.
type follower struct {
	mu     sync.Mutex
	more   *sync.Cond
	leases map[subnet.Subnet]subnet.Lease
	at     int64
	stands int     // watches that stood
	calls  int     // by watches, those with no change included
	lists  int     // snapshots taken
	errs   []error // of watches
	seen   []int64 // revisions of every lease put, in order
}

func follow(t *testing.T, r *Registry) *follower {
	t.Helper()
	f := &follower{}
	f.more = sync.NewCond(&f.mu)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.run(ctx, r) })
	t.Cleanup(func() {
		cancel()
		wg.Wait()
	})
	f.until(t, "the watch to stand", func() bool { return f.stands > 0 })
	return f
}

func (f *follower) run(ctx context.Context, r *Registry) {
	list := true
	for ctx.Err() == nil {
		if list {
			snap, err := r.Snapshot(ctx)
			if err != nil {
				f.failed(ctx, err)
				continue
			}
			f.reset(snap)
		}
		first := true
		err := r.Watch(ctx, f.revision(), func(c subnet.Changes) {
			f.apply(c, first)
			first = false
		})
		list = errors.Is(err, subnet.ErrCompacted)
		f.failed(ctx, err)
	}
}

func (f *follower) failed(ctx context.Context, err error) {
	f.mu.Lock()
	f.errs = append(f.errs, err)
	f.mu.Unlock()
	f.more.Broadcast()
	select {
	case <-ctx.Done():
	case <-time.After(50 * time.Millisecond):
	}
}

func (f *follower) reset(s *subnet.Snapshot) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.lists++
	f.at = s.Revision
	f.leases = map[subnet.Subnet]subnet.Lease{}
	for _, l := range s.Leases {
		f.leases[l.Subnet] = l
	}
}

func (f *follower) apply(c subnet.Changes, first bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	defer f.more.Broadcast()
	f.calls++
	if first {
		f.stands++
	}
	f.at = c.Revision
	for _, l := range c.Put {
		f.leases[l.Subnet] = l
		f.seen = append(f.seen, l.Revision)
	}
	for _, s := range c.Deleted {
		delete(f.leases, s)
	}
}

func (f *follower) revision() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.at
}

func (f *follower) listed() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.lists
}

// until waits until ok, which is called with the mutex held.
func (f *follower) until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	late := time.AfterFunc(patience, f.more.Broadcast)
	defer late.Stop()
	end := time.Now().Add(patience)
	f.mu.Lock()
	defer f.mu.Unlock()
	for !ok() {
		if !time.Now().Before(end) {
			t.Fatalf("no sign of %s; at revision %d, %d leases, errors %v", what, f.at, len(f.leases), f.errs)
		}
		f.more.Wait()
	}
}

func (f *follower) has(key string) func() bool {
	s, err := subnet.ParseKey(key)
	if err != nil {
		panic(err)
	}
	return func() bool { _, ok := f.leases[s]; return ok }
}

const someLease = `{"PublicIP":"192.0.2.1"}`

// TestWatchExact writes while the connection is cut again and again: every
// write arrives once and in order.
func TestWatchExact(t *testing.T) {
	p := newProxy(t, shared.Endpoints()[0])
	r := open(t, Config{Endpoints: []string{p.url}})
	h := harness(t, r, dial(t, clientv3.Config{}))
	f := follow(t, r)

	var want []int64
	for i := range 300 {
		want = append(want, h.Put(t, fmt.Sprintf("subnets/10.5.%d.0-24", i%200), someLease, 0))
		if i%30 == 15 {
			p.cut()
		}
	}
	f.until(t, "the last write", func() bool { return f.at >= want[len(want)-1] })
	f.mu.Lock()
	defer f.mu.Unlock()
	// Of two writes of one key in one response only the last is reported.
	for i := 1; i < len(f.seen); i++ {
		if f.seen[i] <= f.seen[i-1] {
			t.Fatalf("revision %d after %d", f.seen[i], f.seen[i-1])
		}
	}
	for _, rev := range want[100:] { // the last write of each key
		if !slices.Contains(f.seen, rev) {
			t.Errorf("revision %d was lost", rev)
		}
	}
	if f.stands < 2 || f.lists != 1 {
		t.Errorf("%d watches and %d lists; want several and one", f.stands, f.lists)
	}
}

// TestWatchCompactedWhileBroken compacts away what happened while the watch
// was broken.
func TestWatchCompactedWhileBroken(t *testing.T) {
	p := newProxy(t, shared.Endpoints()[0])
	r := open(t, Config{Endpoints: []string{p.url}})
	h := harness(t, r, dial(t, clientv3.Config{}))
	h.Put(t, "subnets/10.5.1.0-24", someLease, 0)
	f := follow(t, r)
	f.until(t, "the first lease", f.has("10.5.1.0-24"))

	p.silence()
	p.cut()
	h.Delete(t, "subnets/10.5.1.0-24")
	h.Put(t, "subnets/10.5.2.0-24", someLease, 0)
	h.Compact(t)
	p.thaw()
	f.until(t, "the second lease", f.has("10.5.2.0-24"))
	f.until(t, "the end of the first", func() bool { return len(f.leases) == 1 })
	if n := f.listed(); n != 2 {
		t.Errorf("%d lists, want a second one after the compaction", n)
	}
}

// ownMember starts an etcd that the test may stop.
func ownMember(t testing.TB, cfg embedded.Config) *embedded.Member {
	t.Helper()
	if cfg.ListenClient == nil {
		cfg.ListenClient = []string{"http://127.0.0.1:0"}
	}
	m, err := embedded.Start(context.Background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.Close() })
	return m
}

// TestRestartedMember stops etcd under a watch and an announcement and starts
// it again on the same directory and port: nothing is listed anew and the
// announcement stays.
func TestRestartedMember(t *testing.T) {
	t.Parallel() // has its own etcd
	cfg := embedded.Config{DataDir: t.TempDir()}
	m := ownMember(t, cfg)
	r := open(t, Config{Endpoints: m.Endpoints()})
	h := harness(t, r, dial(t, clientv3.Config{Endpoints: m.Endpoints()}))
	f := follow(t, r)
	node := subnet.Node{ID: "one", Instance: "i", Hostname: "h", PublicIP: "192.0.2.1"}
	a := announce(t, r, node, 2*time.Minute)

	m.Close()
	f.until(t, "the watch to break", func() bool { return len(f.errs) > 0 })
	cfg.ListenClient = m.Endpoints()
	ownMember(t, cfg)
	h.Put(t, "subnets/10.5.1.0-24", someLease, 0)
	f.until(t, "the lease written after the restart", f.has("10.5.1.0-24"))
	if n := f.listed(); n != 1 {
		t.Errorf("%d lists, want the first one only", n)
	}
	a.running(t)

	h.Delete(t, "weft/alive/one")
	if err := a.ended(t); !errors.Is(err, errLost) {
		t.Errorf("announcement whose key was deleted after the restart ended with %v", err)
	}
}

// TestWipedMember starts etcd again on an empty directory. Its revisions are
// then behind, and soon ahead of, those that the watch knows.
func TestWipedMember(t *testing.T) {
	t.Parallel() // has its own etcd
	m := ownMember(t, embedded.Config{DataDir: t.TempDir()})
	r := open(t, Config{Endpoints: m.Endpoints()})
	c := dial(t, clientv3.Config{Endpoints: m.Endpoints()})
	h := harness(t, r, c)
	h.Put(t, "subnets/10.5.1.0-24", someLease, 0)
	f := follow(t, r)

	m.Close()
	m = ownMember(t, embedded.Config{DataDir: t.TempDir(), ListenClient: m.Endpoints()})
	for range 10 {
		h.Put(t, "subnets/10.5.2.0-24", someLease, 0)
	}
	f.until(t, "the new lease", f.has("10.5.2.0-24"))
	f.until(t, "the end of the old lease", func() bool { return len(f.leases) == 1 })
	m.Close()
}
