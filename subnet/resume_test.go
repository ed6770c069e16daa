package subnet_test

import (
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/subnettest"
)

// memory is what a node knows that holds a subnet.
func (n *node) memory() *subnet.Memory {
	v := n.View()
	return &subnet.Memory{Revision: v.Revision, Own: v.Own, Expires: v.Expires, Peers: v.Peers}
}

// TestResume restarts a node while etcd is away, failing or silent: it goes on
// at once with what it knew, and finds out the rest when etcd is back.
func TestResume(t *testing.T) {
	for _, tt := range []struct {
		name      string
		away      func(*subnettest.Client)
		meanwhile func(*rig)
		after     func(subnet.View) bool
	}{
		{"nothing happened", (*subnettest.Client).Down, func(*rig) {}, func(v subnet.View) bool {
			return holds(ours)(v) && hasPeers("10.5.10.0-24")(v)
		}},
		{"silent", (*subnettest.Client).Hang, func(*rig) {}, func(v subnet.View) bool {
			return holds(ours)(v) && hasPeers("10.5.10.0-24")(v)
		}},
		{"peers changed", (*subnettest.Client).Down, func(r *rig) {
			r.store.Delete("subnets/10.5.10.0-24")
			r.flannel("10.5.11.0-24", "192.0.2.11")
		}, func(v subnet.View) bool { return holds(ours)(v) && hasPeers("10.5.11.0-24")(v) }},
		{"the lease was deleted", (*subnettest.Client).Down, func(r *rig) { r.store.Delete("subnets/" + ours) }, holds(ours)},
		{"all is lost", (*subnettest.Client).Down, func(r *rig) { r.store.Wipe() }, func(v subnet.View) bool {
			return holds(ours)(v) && hasPeers("10.5.10.0-24")(v) // which gets time to come again
		}},
		{"another has taken it", (*subnettest.Client).Down, func(r *rig) {
			r.store.Delete("subnets/" + ours)
			r.flannel(ours, "192.0.2.77")
		}, func(v subnet.View) bool { return !v.Held && strings.Contains(v.Problem, "192.0.2.77") }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				first := r.held(alice, previous(t, ours))
				r.flannel("10.5.10.0-24", "192.0.2.10")
				first.until("the peer is there", hasPeers("10.5.10.0-24"))
				known := first.memory()
				first.kill()
				begin := time.Now()
				again := alice
				again.run = "again"
				n := r.start(again, func(o *subnet.Options) {
					o.Resume = known
					tt.away(o.Registry.(*subnettest.Client))
				})
				v := n.until("it goes on", func(v subnet.View) bool {
					return holds(ours)(v) && hasPeers("10.5.10.0-24")(v) && !v.Connected
				})
				if d := time.Since(begin); d > 10*time.Millisecond || !v.Expires.Equal(known.Expires) {
					t.Errorf("it took %v; the lease expires %v, want %v", d, v.Expires, known.Expires)
				}
				n.stays(time.Minute, "it goes on", holds(ours))
				tt.meanwhile(r)
				n.client.Up()
				n.until("etcd is there, and it knows how things are", func(v subnet.View) bool { return v.Connected && tt.after(v) })
				n.stays(30*time.Second, "that is how things are", tt.after)
				if v := n.View(); v.Held && !v.Expires.After(known.Expires) {
					t.Error("the lease was not renewed")
				}
			})
		})
	}
}

// TestResumeWithOtherAttributes: a node whose lease says something else than
// before, such as a new version's, holds it all the same, and writes it anew.
func TestResumeWithOtherAttributes(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		first := r.held(alice, previous(t, ours))
		known := first.memory()
		first.kill()
		n := r.start(alice, func(o *subnet.Options) {
			o.Resume = known
			o.Attrs.BackendData = []byte(`{"weft":2}`)
			o.Registry.(*subnettest.Client).Down()
		})
		n.stays(time.Minute, "it goes on", holds(ours))
		n.client.Up()
		n.until("etcd is there", func(v subnet.View) bool { return v.Connected && v.Own.Revision != known.Own.Revision })
		if a, _ := r.attrsAt(ours); string(a.BackendData) != `{"weft":2}` {
			t.Errorf("the lease has %s", a.BackendData)
		}
	})
}
