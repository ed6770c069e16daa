package subnettest

import (
	"context"
	"slices"
	"testing"

	"github.com/weftnet/weft/subnet"
)

// testSnapshotForeign reads what flannel and an administrator write.
func testSnapshotForeign(t *testing.T, h Harness) {
	h.Put(t, "config", `{"Network":"10.5.0.0/16"}`, 0)
	h.Put(t, "weft/something", `else`, 0)
	h.Put(t, "subnets/10.5.1.0-24", `{"PublicIP":"192.0.2.1","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}}`, leaseTTL)
	h.Put(t, "subnets/10.5.2.0-24&fd00:5:2::-64", `{"PublicIP":"192.0.2.2","PublicIPv6":"2001:db8::2"}`, leaseTTL)
	h.Put(t, "subnets/10.5.3.0-24", `{"PublicIP":"192.0.2.3"}`, 0)
	snap := h.snapshot(t)
	if len(snap.Bad) != 0 {
		t.Fatalf("bad entries %+v, want none", snap.Bad)
	}
	slices.SortFunc(snap.Leases, func(a, b subnet.Lease) int { return a.Subnet.Compare(b.Subnet) })
	var got []string
	for _, l := range snap.Leases {
		kind := "lease"
		if l.Reservation {
			kind = "reservation"
		}
		got = append(got, kind+" "+l.Subnet.String()+" "+l.Attrs.PublicIP.String()+" "+l.Attrs.BackendType)
	}
	want := []string{
		"lease 10.5.1.0/24 192.0.2.1 vxlan",
		"lease 10.5.2.0/24 fd00:5:2::/64 192.0.2.2 ",
		"reservation 10.5.3.0/24 192.0.2.3 ",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func testSnapshotBad(t *testing.T, h Harness) {
	good := h.create(t, "10.5.1.0-24", attrsOf("192.0.2.1", "one"))
	bad := map[string]string{
		"subnets/10.5.2.0-24":  `{"PublicIP":`,
		"subnets/10.5.3.0-24":  `{"PublicIP":"nonsense"}`,
		"subnets/10.5.4.0":     `{"PublicIP":"192.0.2.4"}`,
		"subnets/10.5.5.64-24": `{"PublicIP":"192.0.2.5"}`,
		"weft/alive/six":       `nonsense`,
		"weft/alive/seven":     `{"ID":"eight"}`,
	}
	revisions := map[string]int64{}
	for key, value := range bad {
		revisions[h.Prefix+"/"+key] = h.Put(t, key, value, 0)
	}
	snap := h.snapshot(t)
	if len(snap.Leases) != 1 || len(snap.Alive) != 0 {
		t.Fatalf("got leases %+v, live nodes %v; want the good lease only", snap.Leases, snap.Alive)
	}
	wantLease(t, snap.Leases[0], good)
	for _, b := range snap.Bad {
		if b.Err == nil || b.Revision == 0 || b.Revision != revisions[b.Key] {
			t.Errorf("bad entry %+v, want an error and revision %d", b, revisions[b.Key])
		}
		delete(revisions, b.Key)
	}
	if len(revisions) != 0 {
		t.Errorf("not reported as bad: %v", revisions)
	}
}

func testWatchLeases(t *testing.T, h Harness) {
	w := h.watch(t, h.snapshot(t).Revision)
	l := h.create(t, "10.5.1.0-24&fd00:5:1::-64", attrsOf("192.0.2.1", "one"))
	u, err := h.Registry.Update(t.Context(), l, attrsOf("192.0.2.9", "one"), leaseTTL)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Registry.Delete(t.Context(), u); err != nil {
		t.Fatal(err)
	}
	h.Put(t, "subnets/10.5.2.0-24", `{"PublicIP":"192.0.2.2"}`, 0)
	last := w.until(t, "the last put", func(ch subnet.Changes) bool {
		return len(ch.Put) > 0 && ch.Put[len(ch.Put)-1].Subnet == mustKey(t, "10.5.2.0-24")
	})
	if r := last.Put[len(last.Put)-1]; !r.Reservation || r.Revision == 0 {
		t.Errorf("got %+v, want a reservation with a revision", r)
	}
	// Revisions may come together, but then as each key's last state.
	final, revision := map[subnet.Subnet]subnet.Lease{}, int64(0)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.changes {
		if ch.Revision < revision {
			t.Errorf("revision %d after %d", ch.Revision, revision)
		}
		revision = ch.Revision
		for _, p := range ch.Put {
			if p.Revision > ch.Revision || slices.Contains(ch.Deleted, p.Subnet) {
				t.Errorf("%+v in changes up to revision %d, deleted %v", p, ch.Revision, ch.Deleted)
			}
			if p.Subnet == l.Subnet && p.Revision == u.Revision {
				wantLease(t, p, u)
			}
			final[p.Subnet] = p
		}
		for _, d := range ch.Deleted {
			delete(final, d)
		}
	}
	if len(final) != 1 {
		t.Errorf("the changes add up to %+v, want one lease", final)
	}
}

// testWatchResumes checks that a watch from any revision that was handed over
// misses nothing and repeats nothing.
func testWatchResumes(t *testing.T, h Harness) {
	start := h.snapshot(t).Revision
	one := h.create(t, "10.5.1.0-24", attrsOf("192.0.2.1", "one"))
	two := h.create(t, "10.5.2.0-24", attrsOf("192.0.2.2", "two"))

	reports := func(w *watching, l subnet.Lease) {
		t.Helper()
		w.until(t, l.Subnet.String(), func(ch subnet.Changes) bool {
			return len(ch.Put) > 0 && ch.Put[len(ch.Put)-1].Subnet == l.Subnet
		})
	}
	w := h.watch(t, start)
	reports(w, two)

	w = h.watch(t, one.Revision)
	reports(w, two)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, ch := range w.changes {
		if ch.Revision < one.Revision || slices.ContainsFunc(ch.Put, func(l subnet.Lease) bool { return l.Subnet == one.Subnet }) {
			t.Errorf("watch after revision %d reported %+v", one.Revision, ch)
		}
	}
}

func testWatchExpiry(t *testing.T, h Harness) {
	l := h.create(t, "10.5.1.0-24", attrsOf("192.0.2.1", "one"))
	w := h.watch(t, l.Revision)
	h.Expire(t, "subnets/10.5.1.0-24")
	ch := w.until(t, "the expiry", func(ch subnet.Changes) bool { return len(ch.Deleted) > 0 })
	if len(ch.Deleted) != 1 || ch.Deleted[0] != l.Subnet || ch.Revision <= l.Revision {
		t.Errorf("got %+v, want %s deleted", ch, l.Subnet)
	}
}

func testWatchBad(t *testing.T, h Harness) {
	w := h.watch(t, h.snapshot(t).Revision)
	is := func(key string, revision int64, isErr bool) func(subnet.Changes) bool {
		return func(ch subnet.Changes) bool {
			return len(ch.Bad) == 1 && ch.Bad[0].Key == h.Prefix+"/"+key &&
				(revision == 0 || ch.Bad[0].Revision == revision) && (ch.Bad[0].Err != nil) == isErr
		}
	}
	rev := h.Put(t, "subnets/10.5.1.0-24", `nonsense`, 0)
	w.until(t, "the bad value", is("subnets/10.5.1.0-24", rev, true))
	rev = h.Put(t, "subnets/nonsense", `{"PublicIP":"192.0.2.1"}`, 0)
	w.until(t, "the bad key", is("subnets/nonsense", rev, true))
	rev = h.Put(t, "weft/alive/one", `nonsense`, 0)
	w.until(t, "the bad node", is("weft/alive/one", rev, true))

	h.Delete(t, "subnets/nonsense")
	w.until(t, "the end of the bad key", is("subnets/nonsense", 0, false))
	h.Delete(t, "subnets/10.5.1.0-24")
	w.until(t, "the end of the bad value", func(ch subnet.Changes) bool {
		return len(ch.Deleted) == 1 && ch.Deleted[0] == mustKey(t, "10.5.1.0-24")
	})
	h.Delete(t, "weft/alive/one")
	w.until(t, "the end of the bad node", func(ch subnet.Changes) bool {
		return len(ch.Down) == 1 && ch.Down[0] == "one"
	})
}

func testWatchCompacted(t *testing.T, h Harness) {
	start := h.snapshot(t).Revision
	for range 3 {
		h.Put(t, "subnets/10.5.1.0-24", `{"PublicIP":"192.0.2.1"}`, 0)
	}
	standing := h.watch(t, h.snapshot(t).Revision)
	h.Compact(t)
	err := h.Registry.Watch(t.Context(), start, func(ch subnet.Changes) {
		if len(ch.Put) > 0 {
			t.Errorf("compacted watch reported %+v", ch)
		}
	})
	wantErr(t, err, subnet.ErrCompacted)
	h.Put(t, "subnets/10.5.2.0-24", `{"PublicIP":"192.0.2.2"}`, 0)
	standing.until(t, "a put after the compaction", func(ch subnet.Changes) bool { return len(ch.Put) > 0 })
}

// testWatchFuture watches from a revision that the store has not reached, as
// after the loss of its data.
func testWatchFuture(t *testing.T, h Harness) {
	err := h.Registry.Watch(t.Context(), h.snapshot(t).Revision+1000, func(subnet.Changes) {})
	wantErr(t, err, subnet.ErrCompacted)
}

func testWatchEnds(t *testing.T, h Harness) {
	w := h.watch(t, h.snapshot(t).Revision)
	w.cancel()
	wantErr(t, w.ended(t), context.Canceled)
}
