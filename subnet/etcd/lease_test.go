package etcd

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
)

func mustKey(t testing.TB, key string) subnet.Subnet {
	t.Helper()
	s, err := subnet.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

var someAttrs = subnet.Attrs{PublicIP: netip.MustParseAddr("192.0.2.1"), NodeID: "one"}

// TestEtcdLeases checks which leases of etcd are left behind, and which are
// let alone.
func TestEtcdLeases(t *testing.T) {
	r := open(t, Config{})
	c := dial(t, clientv3.Config{})
	before := etcdLeases(t, c)
	fresh := func() (ids []clientv3.LeaseID) {
		for id := range etcdLeases(t, c) {
			if !before[id] {
				ids = append(ids, id)
			}
		}
		return ids
	}
	snap, err := r.Snapshot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	s := mustKey(t, "10.5.1.0-24")
	l, err := r.Create(t.Context(), s, someAttrs, time.Hour, snap.Revision)
	if err != nil {
		t.Fatal(err)
	}
	created := fresh()
	if len(created) != 1 {
		t.Fatalf("%d etcd leases after a create, want 1", len(created))
	}
	if ttl, err := c.TimeToLive(t.Context(), created[0]); err != nil || ttl.GrantedTTL != 3600 {
		t.Errorf("granted %+v, error %v; want 3600 s", ttl, err)
	}
	// What a refused write leaves is kept for the next one.
	for range 3 {
		if _, err := r.Create(t.Context(), s, someAttrs, time.Hour, l.Revision); !errors.Is(err, subnet.ErrChanged) {
			t.Errorf("create of an existing key: %v", err)
		}
	}
	if n := len(fresh()); n != 2 {
		t.Errorf("%d etcd leases after refused creates, want 2", n)
	}

	// Each renewal leaves one.
	for range 3 {
		if l, err = r.Update(t.Context(), l, someAttrs, time.Hour); err != nil {
			t.Fatal(err)
		}
		if ids := fresh(); len(ids) != 1 || ids[0] == created[0] {
			t.Errorf("etcd leases %v after a renewal, want one other than %v", ids, created)
		}
	}
	stale := l
	stale.Revision--
	if _, err := r.Update(t.Context(), stale, someAttrs, time.Hour); !errors.Is(err, subnet.ErrChanged) {
		t.Errorf("stale update: %v", err)
	}
	if l, err = r.Update(t.Context(), l, someAttrs, time.Hour); err != nil {
		t.Fatal(err)
	}
	if n := len(fresh()); n != 1 {
		t.Errorf("%d etcd leases after a refused update and one that was not, want 1", n)
	}

	// One that was kept is not used for another ttl.
	if _, err := r.Update(t.Context(), stale, someAttrs, time.Hour); !errors.Is(err, subnet.ErrChanged) {
		t.Errorf("stale update: %v", err)
	}
	if l, err = r.Update(t.Context(), l, someAttrs, 2*time.Hour); err != nil {
		t.Fatal(err)
	}
	mine := fresh()[0]
	if ttl, err := c.TimeToLive(t.Context(), mine); err != nil || ttl.GrantedTTL != 7200 || len(fresh()) != 1 {
		t.Errorf("granted %+v of %d etcd leases, error %v; want 7200 s of one", ttl, len(fresh()), err)
	}

	// Somebody attaches a key of theirs to our lease: it must live on.
	if _, err := c.Put(t.Context(), r.prefix+"/theirs", "x", clientv3.WithLease(mine)); err != nil {
		t.Fatal(err)
	}
	if l, err = r.Update(t.Context(), l, someAttrs, time.Hour); err != nil {
		t.Fatal(err)
	}
	if resp, err := c.Get(t.Context(), r.prefix+"/theirs"); err != nil || resp.Count != 1 {
		t.Errorf("somebody's key on our former lease: %v, error %v", resp, err)
	}
	if _, err := c.Revoke(t.Context(), mine); err != nil {
		t.Errorf("the former lease was gone: %v", err)
	}

	if err := r.Delete(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if ids := fresh(); len(ids) != 0 {
		t.Errorf("etcd leases %v after the delete, want none", ids)
	}
}

func TestSetConfig(t *testing.T) {
	r := open(t, Config{})
	const one, two = `{"Network":"10.5.0.0/16"}`, `{"Network":"10.6.0.0/16"}`
	for i, tt := range []struct {
		old, value string
		ok         bool
	}{
		{"something", one, false},
		{"", one, true},
		{"", two, false},
		{two, two, false},
		{one, two, true},
	} {
		var old []byte
		if tt.old != "" {
			old = []byte(tt.old)
		}
		err := r.SetConfig(t.Context(), old, []byte(tt.value))
		if tt.ok && err != nil || !tt.ok && !errors.Is(err, subnet.ErrChanged) {
			t.Errorf("step %d: %v", i, err)
		}
	}
	if got, err := r.Config(t.Context()); err != nil || string(got) != two {
		t.Errorf("config %q, error %v; want %q", got, err, two)
	}
}

// TestPrefix checks that the prefix is taken as flannel takes it.
func TestPrefix(t *testing.T) {
	for in, want := range map[string]string{
		"":                     "/coreos.com/network/config",
		"/coreos.com/network/": "/coreos.com/network/config",
		"my/net":               "my/net/config",
	} {
		cfg := Config{Endpoints: []string{"http://127.0.0.1:1"}, Prefix: in}
		r, err := New(cfg)
		if err != nil || r.configKey() != want {
			t.Errorf("prefix %q: config at %q, error %v; want %q", in, r.configKey(), err, want)
		}
	}
}

func TestBigValue(t *testing.T) {
	r := open(t, Config{})
	h := harness(t, r, dial(t, clientv3.Config{}))
	big := `{"PublicIP":"192.0.2.1","BackendData":"` + strings.Repeat("a", maxValue) + `"}`
	h.Put(t, "subnets/10.5.1.0-24", big, 0)
	h.Put(t, "subnets/10.5.2.0-24", someLease, 0)
	snap, err := r.Snapshot(t.Context())
	if err != nil || len(snap.Leases) != 1 || len(snap.Bad) != 1 {
		t.Errorf("got %d leases, bad %v, error %v; want one each", len(snap.Leases), snap.Bad, err)
	}
}
