package subnettest

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
)

// Harness is a registry under test and the means to do to its store what other
// programs do. Keys are given without the prefix: "subnets/10.5.1.0-24".
// Every test gets an empty store, or at least an empty prefix.
type Harness struct {
	Registry subnet.Registry
	Prefix   string // of all keys, without a slash at its end

	// Put writes a key blindly and returns its revision; a ttl of zero means none.
	Put func(t *testing.T, key, value string, ttl time.Duration) int64
	// Delete removes a key.
	Delete func(t *testing.T, key string)
	// Get returns a key's value and whether it has a TTL.
	Get func(t *testing.T, key string) (value string, leased, ok bool)
	// Expire ends the TTL of a key now.
	Expire func(t *testing.T, key string)
	// Compact forgets the history up to the present revision.
	Compact func(t *testing.T)
	// ShortTTL is one that can be waited out.
	ShortTTL time.Duration
}

// Harness returns a new client of s and its controls.
func (s *Store) Harness() Harness {
	return Harness{
		Registry: s.Client(),
		Prefix:   Prefix,
		Put: func(_ *testing.T, key, value string, ttl time.Duration) int64 {
			return s.Put(key, value, ttl)
		},
		Delete:   func(_ *testing.T, key string) { s.Delete(key) },
		Get:      func(_ *testing.T, key string) (string, bool, bool) { return s.Get(key) },
		Expire:   func(_ *testing.T, key string) { s.Expire(key) },
		Compact:  func(_ *testing.T) { s.Compact() },
		ShortTTL: 100 * time.Millisecond,
	}
}

// RunRegistry checks that a registry keeps the contract of subnet.Registry.
// open is called once for each test.
func RunRegistry(t *testing.T, open func(t *testing.T) Harness) {
	runRegistry(t, func(t *testing.T, test func(*testing.T)) { test(t) }, open)
}

// runRegistry is RunRegistry with each test, and its harness, within a call of
// in.
func runRegistry(t *testing.T, in func(*testing.T, func(*testing.T)), open func(t *testing.T) Harness) {
	for _, tt := range []struct {
		name string
		run  func(t *testing.T, h Harness)
	}{
		{"Config", testConfig},
		{"ContextEnds", testContextEnds},
		{"Create", testCreate},
		{"CreateAfterChange", testCreateAfterChange},
		{"CreateRace", testCreateRace},
		{"Update", testUpdate},
		{"UpdateAfterChange", testUpdateAfterChange},
		{"UpdateRenews", testUpdateRenews},
		{"UpdateReservation", testUpdateReservation},
		{"Delete", testDelete},
		{"SnapshotForeign", testSnapshotForeign},
		{"SnapshotBad", testSnapshotBad},
		{"WatchLeases", testWatchLeases},
		{"WatchResumes", testWatchResumes},
		{"WatchExpiry", testWatchExpiry},
		{"WatchBad", testWatchBad},
		{"WatchCompacted", testWatchCompacted},
		{"WatchFuture", testWatchFuture},
		{"WatchEnds", testWatchEnds},
		{"Announce", testAnnounce},
		{"AnnounceKeepsAlive", testAnnounceKeepsAlive},
		{"AnnounceClone", testAnnounceClone},
		{"AnnounceTakeover", testAnnounceTakeover},
		{"AnnounceLost", testAnnounceLost},
	} {
		t.Run(tt.name, func(t *testing.T) {
			in(t, func(t *testing.T) { tt.run(t, open(t)) })
		})
	}
}

// patience bounds every wait of the suite; it is never waited out in a test
// that passes.
const patience = time.Minute

const leaseTTL = time.Hour

func mustKey(t *testing.T, key string) subnet.Subnet {
	t.Helper()
	s, err := subnet.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func attrsOf(publicIP, nodeID string) subnet.Attrs {
	return subnet.Attrs{
		PublicIP:    netip.MustParseAddr(publicIP),
		NodeID:      nodeID,
		BackendType: "udp",
		BackendData: []byte(`{"weft":1}`),
	}
}

func (h Harness) snapshot(t *testing.T) *subnet.Snapshot {
	t.Helper()
	snap, err := h.Registry.Snapshot(t.Context())
	if err != nil {
		t.Fatalf("snapshot: %v", err)
	}
	if snap.Revision == 0 || snap.Alive == nil {
		t.Fatalf("snapshot has revision %d, live nodes %v; want a revision and a map", snap.Revision, snap.Alive)
	}
	return snap
}

func (h Harness) create(t *testing.T, key string, a subnet.Attrs) subnet.Lease {
	t.Helper()
	l, err := h.Registry.Create(t.Context(), mustKey(t, key), a, leaseTTL, h.snapshot(t).Revision)
	if err != nil {
		t.Fatalf("create %s: %v", key, err)
	}
	return l
}

// inTime runs a test in which a TTL must not be over before something is done,
// and returns that TTL: the short one, or where the test fails a longer one,
// since a busy machine may stand still for seconds.
func (h Harness) inTime(t *testing.T, test func(ttl time.Duration) error) time.Duration {
	t.Helper()
	for ttl := h.ShortTTL; ; ttl *= 2 {
		err := test(ttl)
		if err == nil {
			return ttl
		}
		if ttl >= 8*h.ShortTTL {
			t.Fatalf("with a TTL of %v: %v", ttl, err)
		}
		t.Logf("with a TTL of %v: %v; again with a longer one", ttl, err)
	}
}

func wantLease(t *testing.T, got, want subnet.Lease) {
	t.Helper()
	if got.Subnet != want.Subnet || got.Revision != want.Revision ||
		got.Reservation != want.Reservation || !got.Attrs.Equal(want.Attrs) {
		t.Fatalf("got lease %+v, want %+v", got, want)
	}
}

func wantErr(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Fatalf("got error %v, want %v", got, want)
	}
}

// watching is a watch under way and the changes that it has reported.
type watching struct {
	mu      sync.Mutex
	changes []subnet.Changes
	more    chan struct{} // holds a token when changes grew
	err     chan error
	cancel  context.CancelFunc
}

// watch starts a watch, ended with the test at the latest, and waits until it
// stands.
func (h Harness) watch(t *testing.T, after int64) *watching {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &watching{more: make(chan struct{}, 1), err: make(chan error, 1), cancel: cancel}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		w.err <- h.Registry.Watch(ctx, after, func(ch subnet.Changes) {
			w.mu.Lock()
			defer w.mu.Unlock()
			w.changes = append(w.changes, ch)
			select {
			case w.more <- struct{}{}:
			default:
			}
		})
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	w.until(t, "sign that the watch stands", func(subnet.Changes) bool { return true })
	return w
}

// until waits for a change that ok accepts, among those reported so far and
// later, and returns it.
func (w *watching) until(t *testing.T, what string, ok func(subnet.Changes) bool) subnet.Changes {
	t.Helper()
	timeout := time.After(patience)
	for {
		w.mu.Lock()
		for _, ch := range w.changes {
			if ok(ch) {
				w.mu.Unlock()
				return ch
			}
		}
		w.mu.Unlock()
		select {
		case <-w.more:
		case err := <-w.err:
			t.Fatalf("watch ended while waiting for %s: %v", what, err)
		case <-timeout:
			t.Fatalf("watch never reported %s", what)
		}
	}
}

// ended waits for the end of the watch.
func (w *watching) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-w.err:
		return err
	case <-time.After(patience):
		t.Fatal("watch does not end")
		return nil
	}
}
