package etcd

import (
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd/embedded"
)

// TestAuthentication runs an etcd that wants users, with one who may write
// below the prefix, and one who may do nothing.
func TestAuthentication(t *testing.T) {
	t.Parallel() // has its own etcd
	cfg := embedded.Config{DataDir: t.TempDir()}
	m := ownMember(t, cfg)
	root := dial(t, clientv3.Config{Endpoints: m.Endpoints()})
	must := func(_ any, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	ctx := t.Context()
	must(root.UserAdd(ctx, "root", "secret"))
	must(root.UserGrantRole(ctx, "root", "root"))
	must(root.RoleAdd(ctx, "weft"))
	const prefix = "/coreos.com/network"
	must(root.RoleGrantPermission(ctx, "weft", prefix+"/", clientv3.GetPrefixRangeEnd(prefix+"/"), clientv3.PermissionType(clientv3.PermReadWrite)))
	must(root.UserAdd(ctx, "weft", "rope"))
	must(root.UserGrantRole(ctx, "weft", "weft"))
	must(root.UserAdd(ctx, "nobody", "nothing"))
	must(root.AuthEnable(ctx))

	as := func(name, password string) *Registry {
		return open(t, Config{Endpoints: m.Endpoints(), Prefix: prefix, Username: name, Password: password})
	}
	for _, tt := range []struct{ name, password, want string }{
		{"", "", "it wants a user name and a password: set --etcd-username and --etcd-password"},
		{"weft", "wrong", `it refuses user "weft": wrong name or password`},
		{"stranger", "x", `it refuses user "stranger": wrong name or password`},
		{"nobody", "nothing", `user "nobody" lacks permission: grant its role everything below the prefix (etcdctl role grant-permission ROLE readwrite --prefix /coreos.com/network/)`},
	} {
		r := as(tt.name, tt.password)
		_, err := r.Snapshot(ctx)
		watchErr := r.Watch(ctx, 1, func(subnet.Changes) {})
		for _, err := range []error{err, watchErr} {
			if err == nil || !strings.HasSuffix(err.Error(), m.Endpoints()[0]+": "+tt.want) {
				t.Errorf("user %q: got  %v\nwant %s", tt.name, err, tt.want)
			}
		}
	}

	r := as("weft", "rope")
	f := follow(t, r)
	a := announce(t, r, subnet.Node{ID: "one", Instance: "i"}, 2*time.Minute)
	create := func(key string) {
		t.Helper()
		s, err := subnet.ParseKey(key)
		if err != nil {
			t.Fatal(err)
		}
		snap, err := r.Snapshot(ctx)
		if err != nil {
			t.Fatal(err)
		}
		l, err := r.Create(ctx, s, subnet.Attrs{}, time.Hour, snap.Revision)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := r.Update(ctx, l, l.Attrs, time.Hour); err != nil {
			t.Fatal(err)
		}
		f.until(t, key, f.has(key))
	}
	create("10.5.1.0-24")

	// Tokens are in the member's memory: after a restart the old one is
	// refused as an expired one is.
	m.Close()
	cfg.ListenClient = m.Endpoints()
	m = ownMember(t, cfg)
	waitFor(t, "etcd after its restart", func() string {
		if _, err := r.Snapshot(ctx); err != nil {
			return err.Error()
		}
		return ""
	})
	create("10.5.2.0-24")
	a.running(t)
	if n := f.listed(); n != 1 {
		t.Errorf("%d lists, want one", n)
	}
	a.cancel()
	a.ended(t)
}
