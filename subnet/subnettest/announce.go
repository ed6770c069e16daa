package subnettest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
)

// announcing is an announcement under way.
type announcing struct {
	err    chan error
	cancel context.CancelFunc
}

// announce starts an announcement, ended with the test at the latest, and
// waits until it is ready.
func (h Harness) announce(t *testing.T, n subnet.Node, ttl time.Duration) *announcing {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &announcing{err: make(chan error, 1), cancel: cancel}
	ready, ended := make(chan struct{}, 2), make(chan struct{})
	go func() {
		defer close(ended)
		a.err <- h.Registry.Announce(ctx, n, ttl, func() { ready <- struct{}{} })
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
	})
	select {
	case <-ready:
	case err := <-a.err:
		t.Fatalf("announce %+v: %v", n, err)
	case <-time.After(patience):
		t.Fatalf("announce %+v: never ready", n)
	}
	return a
}

func (a *announcing) ended(t *testing.T) error {
	t.Helper()
	select {
	case err := <-a.err:
		return err
	case <-time.After(patience):
		t.Fatal("announcement does not end")
		return nil
	}
}

var (
	nodeOne = subnet.Node{ID: "one", Instance: "first run", Hostname: "host-one", PublicIP: "192.0.2.1"}
	clone   = subnet.Node{ID: "one", Instance: "clone", Hostname: "host-two", PublicIP: "192.0.2.2"}
)

func wantAlive(t *testing.T, h Harness, want subnet.Node) {
	t.Helper()
	if got := h.snapshot(t).Alive[want.ID]; got != want {
		t.Fatalf("live node %+v, want %+v", got, want)
	}
}

func testAnnounce(t *testing.T, h Harness) {
	w := h.watch(t, h.snapshot(t).Revision)
	a := h.announce(t, nodeOne, time.Minute)
	wantAlive(t, h, nodeOne)
	w.until(t, "the node up", func(ch subnet.Changes) bool { return len(ch.Up) == 1 && ch.Up[0] == nodeOne })
	if _, leased, ok := h.Get(t, "weft/alive/one"); !ok || !leased {
		t.Errorf("alive key present %t, with a TTL %t; want both", ok, leased)
	}
	a.cancel()
	wantErr(t, a.ended(t), context.Canceled)
	w.until(t, "the node down", func(ch subnet.Changes) bool { return len(ch.Down) == 1 && ch.Down[0] == "one" })
	if len(h.snapshot(t).Alive) != 0 {
		t.Error("the alive key outlives its announcement")
	}
}

// testAnnounceKeepsAlive lets a key with the same TTL that nobody keeps alive
// run out, twice, as a clock.
func testAnnounceKeepsAlive(t *testing.T, h Harness) {
	h.inTime(t, func(ttl time.Duration) error {
		w := h.watch(t, h.snapshot(t).Revision)
		a := h.announce(t, nodeOne, ttl)
		for _, id := range []string{"two", "three"} {
			h.Put(t, "weft/alive/"+id, `{"ID":"`+id+`"}`, ttl)
			w.until(t, id+" down", func(ch subnet.Changes) bool { return slices.Contains(ch.Down, id) })
		}
		alive := h.snapshot(t).Alive[nodeOne.ID]
		a.cancel()
		if err := a.ended(t); !errors.Is(err, context.Canceled) || alive != nodeOne {
			return fmt.Errorf("live node %+v, want %+v; the announcement ended with %w", alive, nodeOne, err)
		}
		return nil
	})
}

func testAnnounceClone(t *testing.T, h Harness) {
	a := h.announce(t, nodeOne, time.Minute)
	err := h.Registry.Announce(t.Context(), clone, time.Minute, func() { t.Error("the clone is ready") })
	var alive *subnet.AliveError
	if !errors.As(err, &alive) || alive.Other != nodeOne {
		t.Fatalf("got error %v, want an AliveError naming %+v", err, nodeOne)
	}
	wantAlive(t, h, nodeOne)
	a.cancel()
	a.ended(t)
	h.announce(t, clone, time.Minute)
	wantAlive(t, h, clone)
}

// testAnnounceTakeover starts a daemon again before the key of its last run
// has run out, and one whose address changed while it ran.
func testAnnounceTakeover(t *testing.T, h Harness) {
	restarted := nodeOne
	restarted.Instance = "second run"
	moved := restarted
	moved.PublicIP = "192.0.2.7"

	first := h.announce(t, nodeOne, time.Minute)
	second := h.announce(t, restarted, time.Minute)
	if err := first.ended(t); errors.Is(err, context.Canceled) {
		t.Errorf("the announcement that was taken over returned %v", err)
	}
	wantAlive(t, h, restarted)
	h.announce(t, moved, time.Minute)
	second.cancel()
	second.ended(t)
	wantAlive(t, h, moved)
}

func testAnnounceLost(t *testing.T, h Harness) {
	for name, lose := range map[string]func(*testing.T, string){"expired": h.Expire, "deleted": h.Delete} {
		a := h.announce(t, nodeOne, time.Minute)
		lose(t, "weft/alive/one")
		if err := a.ended(t); err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("announcement that was %s returned %v", name, err)
		}
		h.announce(t, nodeOne, time.Minute).cancel()
	}
}
