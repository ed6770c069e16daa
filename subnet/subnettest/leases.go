package subnettest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
)

func testConfig(t *testing.T, h Harness) {
	_, err := h.Registry.Config(t.Context())
	wantErr(t, err, subnet.ErrNoConfig)
	const raw = `{ "Network": "10.5.0.0/16" }` + "\n"
	h.Put(t, "config", raw, 0)
	got, err := h.Registry.Config(t.Context())
	if err != nil || string(got) != raw {
		t.Fatalf("got config %q, error %v; want %q", got, err, raw)
	}
}

func testContextEnds(t *testing.T, h Harness) {
	l := h.create(t, "10.5.1.0-24", attrsOf("192.0.2.1", "one"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	r := h.Registry
	_, configErr := r.Config(ctx)
	_, snapshotErr := r.Snapshot(ctx)
	_, createErr := r.Create(ctx, mustKey(t, "10.5.2.0-24"), l.Attrs, leaseTTL, l.Revision)
	_, updateErr := r.Update(ctx, l, l.Attrs, leaseTTL)
	for name, err := range map[string]error{
		"Config": configErr, "Snapshot": snapshotErr, "Create": createErr, "Update": updateErr,
		"Delete":   r.Delete(ctx, l),
		"Watch":    r.Watch(ctx, l.Revision, func(subnet.Changes) {}),
		"Announce": r.Announce(ctx, subnet.Node{ID: "one", Instance: "i"}, h.ShortTTL, nil),
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s with an ended context returned %v, want %v", name, err, context.Canceled)
		}
	}
	wantLease(t, onlyLease(t, h), l)
}

func testCreate(t *testing.T, h Harness) {
	a := attrsOf("192.0.2.1", "one")
	l := h.create(t, "10.5.1.0-24&fd00:5:1::-64", a)
	wantLease(t, l, subnet.Lease{Subnet: mustKey(t, "10.5.1.0-24&fd00:5:1::-64"), Attrs: a, Revision: l.Revision})
	if l.Revision == 0 {
		t.Error("created lease has no revision")
	}
	wantLease(t, onlyLease(t, h), l)

	value, leased, ok := h.Get(t, "subnets/10.5.1.0-24&fd00:5:1::-64")
	want, err := json.Marshal(a)
	if err != nil {
		t.Fatal(err)
	}
	if !ok || !leased || value != string(want) {
		t.Errorf("key present %t, with a TTL %t, value %s; want both and %s", ok, leased, value, want)
	}
	h.Expire(t, "subnets/10.5.1.0-24&fd00:5:1::-64")
	if n := len(h.snapshot(t).Leases); n != 0 {
		t.Errorf("%d leases after expiry, want none", n)
	}
}

func testCreateAfterChange(t *testing.T, h Harness) {
	r, a := h.Registry, attrsOf("192.0.2.1", "one")
	before := h.snapshot(t).Revision
	h.Put(t, "config", `{}`, 0)
	h.Put(t, "weft/alive/two", `{"ID":"two"}`, 0)
	first, err := r.Create(t.Context(), mustKey(t, "10.5.1.0-24"), a, leaseTTL, before)
	if err != nil {
		t.Fatalf("create after a change elsewhere than under subnets/: %v", err)
	}

	_, err = r.Create(t.Context(), mustKey(t, "10.5.2.0-24"), a, leaseTTL, before)
	wantErr(t, err, subnet.ErrChanged) // another lease was created

	asOf := h.snapshot(t).Revision
	_, err = r.Create(t.Context(), mustKey(t, "10.5.1.0-24"), a, leaseTTL, asOf)
	wantErr(t, err, subnet.ErrChanged) // the key is there
	wantLease(t, onlyLease(t, h), first)

	h.Put(t, "subnets/10.5.0.0-20", `garbage`, 0)
	_, err = r.Create(t.Context(), mustKey(t, "10.5.2.0-24"), a, leaseTTL, asOf)
	wantErr(t, err, subnet.ErrChanged) // also by what is no lease
	_, err = r.Create(t.Context(), mustKey(t, "10.5.0.0-20"), a, leaseTTL, h.snapshot(t).Revision)
	wantErr(t, err, subnet.ErrChanged) // a key without a lease is a key
	if value, _, _ := h.Get(t, "subnets/10.5.0.0-20"); value != "garbage" {
		t.Errorf("a refused create wrote %q", value)
	}
}

// testCreateRace lets clients choose from snapshots at the same time: of those
// that chose from one snapshot, one may win.
func testCreateRace(t *testing.T, h Harness) {
	const clients = 20
	var wg sync.WaitGroup
	errs := make(chan error, clients)
	for i := range clients {
		wg.Go(func() {
			for {
				snap, err := h.Registry.Snapshot(t.Context())
				if err != nil {
					errs <- err
					return
				}
				// Everyone wants the next one in order, so that any fault
				// of the compare shows as an overwritten key.
				s, err := subnet.ParseKey(fmt.Sprintf("10.5.%d.0-24", len(snap.Leases)))
				if err != nil {
					errs <- err
					return
				}
				_, err = h.Registry.Create(t.Context(), s, attrsOf("192.0.2.1", fmt.Sprint(i)), leaseTTL, snap.Revision)
				if errors.Is(err, subnet.ErrChanged) {
					continue
				}
				errs <- err
				return
			}
		})
	}
	wg.Wait()
	for range clients {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	owners := map[string]bool{}
	for _, l := range h.snapshot(t).Leases {
		owners[l.Attrs.NodeID] = true
	}
	if len(owners) != clients {
		t.Errorf("%d of %d clients hold a lease", len(owners), clients)
	}
}

func testUpdate(t *testing.T, h Harness) {
	l := h.create(t, "10.5.1.0-24", attrsOf("192.0.2.1", "one"))
	a := attrsOf("192.0.2.99", "one")
	u, err := h.Registry.Update(t.Context(), l, a, leaseTTL)
	if err != nil {
		t.Fatalf("update: %v", err)
	}
	if u.Revision <= l.Revision {
		t.Errorf("update went from revision %d to %d", l.Revision, u.Revision)
	}
	wantLease(t, u, subnet.Lease{Subnet: l.Subnet, Attrs: a, Revision: u.Revision})
	wantLease(t, onlyLease(t, h), u)
}

func testUpdateAfterChange(t *testing.T, h Harness) {
	a := attrsOf("192.0.2.1", "one")
	l := h.create(t, "10.5.1.0-24", a)
	const theirs = `{"PublicIP":"192.0.2.7"}`
	h.Put(t, "subnets/10.5.1.0-24", theirs, 0)
	_, err := h.Registry.Update(t.Context(), l, a, leaseTTL)
	wantErr(t, err, subnet.ErrChanged)
	if value, _, _ := h.Get(t, "subnets/10.5.1.0-24"); value != theirs {
		t.Errorf("a refused update wrote %q", value)
	}
	h.Delete(t, "subnets/10.5.1.0-24")
	_, err = h.Registry.Update(t.Context(), l, a, leaseTTL)
	wantErr(t, err, subnet.ErrChanged)
	if _, _, ok := h.Get(t, "subnets/10.5.1.0-24"); ok {
		t.Error("an update created its key")
	}
}

// testUpdateRenews checks that a renewed lease neither ends with the TTL it had
// nor stays for ever.
func testUpdateRenews(t *testing.T, h Harness) {
	s := mustKey(t, "10.5.1.0-24")
	var l subnet.Lease
	short := h.inTime(t, func(short time.Duration) (err error) {
		l, err = h.Registry.Create(t.Context(), s, attrsOf("192.0.2.1", "one"), short, h.snapshot(t).Revision)
		if err != nil {
			t.Fatal(err)
		}
		l, err = h.Registry.Update(t.Context(), l, l.Attrs, leaseTTL)
		return err
	})
	// A second lease with the first one's TTL tells when that has run out.
	if _, err := h.Registry.Create(t.Context(), mustKey(t, "10.5.2.0-24"), l.Attrs, short, l.Revision); err != nil {
		t.Fatal(err)
	}
	w := h.watch(t, l.Revision)
	w.until(t, "the end of the short lease", func(ch subnet.Changes) bool { return len(ch.Deleted) > 0 })
	wantLease(t, onlyLease(t, h), l)
	h.Expire(t, "subnets/10.5.1.0-24")
	w.until(t, "the end of the renewed lease", func(ch subnet.Changes) bool {
		return len(ch.Deleted) == 1 && ch.Deleted[0] == s
	})
}

func testUpdateReservation(t *testing.T, h Harness) {
	h.Put(t, "subnets/10.5.1.0-24", `{"PublicIP":"192.0.2.1"}`, 0)
	l := onlyLease(t, h)
	if !l.Reservation {
		t.Fatalf("a key without a TTL is no reservation: %+v", l)
	}
	a := attrsOf("192.0.2.1", "one")
	u, err := h.Registry.Update(t.Context(), l, a, leaseTTL)
	if err != nil {
		t.Fatal(err)
	}
	wantLease(t, u, subnet.Lease{Subnet: l.Subnet, Attrs: a, Reservation: true, Revision: u.Revision})
	wantLease(t, onlyLease(t, h), u)
	if _, leased, _ := h.Get(t, "subnets/10.5.1.0-24"); leased {
		t.Error("an updated reservation got a TTL")
	}
}

func testDelete(t *testing.T, h Harness) {
	l := h.create(t, "10.5.1.0-24", attrsOf("192.0.2.1", "one"))
	stale := l
	l, err := h.Registry.Update(t.Context(), l, l.Attrs, leaseTTL)
	if err != nil {
		t.Fatal(err)
	}
	wantErr(t, h.Registry.Delete(t.Context(), stale), subnet.ErrChanged)
	wantLease(t, onlyLease(t, h), l)
	if err := h.Registry.Delete(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if n := len(h.snapshot(t).Leases); n != 0 {
		t.Errorf("%d leases after the delete, want none", n)
	}
	wantErr(t, h.Registry.Delete(t.Context(), l), subnet.ErrChanged)
}

// onlyLease returns the one lease of a snapshot.
func onlyLease(t *testing.T, h Harness) subnet.Lease {
	t.Helper()
	snap := h.snapshot(t)
	if len(snap.Leases) != 1 || len(snap.Bad) != 0 {
		t.Fatalf("snapshot has leases %+v and bad entries %+v, want one lease", snap.Leases, snap.Bad)
	}
	return snap.Leases[0]
}
