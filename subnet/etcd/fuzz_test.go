package etcd

import (
	"encoding/json"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
)

// FuzzChanges reads events of any key and value: each is reported in one place
// at most, and a lease that is accepted is written back under the same key.
func FuzzChanges(f *testing.F) {
	r, err := New(Config{Endpoints: []string{"http://127.0.0.1:1"}})
	if err != nil {
		f.Fatal(err)
	}
	const node = `{"ID":"one","Instance":"i","Hostname":"h","PublicIP":"192.0.2.1"}`
	f.Add(r.leasePrefix()+"10.5.1.0-24", someLease, r.alivePrefix()+"one", node, false)
	f.Add(r.leasePrefix()+"10.5.1.0-24&fd00:5:1::-64", `{"PublicIPv6":"2001:db8::1","BackendData":{"weft":1}}`, r.leasePrefix()+"10.5.1.0-24", "", true)
	f.Add(r.leasePrefix(), "null", r.alivePrefix(), `{}`, false)
	f.Add(r.configKey(), "x", r.prefix, "[]", true)
	f.Fuzz(func(t *testing.T, key1, value1, key2, value2 string, deleted bool) {
		events := []*mvccpb.Event{
			{Kv: &mvccpb.KeyValue{Key: []byte(key1), Value: []byte(value1), ModRevision: 7}},
			{Kv: &mvccpb.KeyValue{Key: []byte(key2), Value: []byte(value2), ModRevision: 8, Lease: 1}},
		}
		if deleted {
			events[1] = &mvccpb.Event{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key2), ModRevision: 8}}
		}
		c := r.changes(events)
		keys := 0
		for _, key := range []string{key1, key2} {
			if strings.HasPrefix(key, r.leasePrefix()) || strings.HasPrefix(key, r.alivePrefix()) {
				keys++
			}
		}
		if key1 == key2 {
			keys /= 2
		}
		if got := len(c.Put) + len(c.Deleted) + len(c.Up) + len(c.Down) + len(c.Bad); got != keys || c.Revision != 8 {
			t.Fatalf("%d events for %d keys, up to revision %d", got, keys, c.Revision)
		}
		for _, l := range c.Put {
			if k := r.leaseKey(l.Subnet); k != key1 && k != key2 {
				t.Errorf("lease %s was read from another key than %q", l.Subnet, k)
			}
			if _, err := json.Marshal(l.Attrs); err != nil {
				t.Errorf("lease %s cannot be written: %v", l.Subnet, err)
			}
		}
		for _, n := range c.Up {
			if k := r.alivePrefix() + n.ID; k != key1 && k != key2 {
				t.Errorf("node %q was read from another key than %q", n.ID, k)
			}
		}
	})
}
