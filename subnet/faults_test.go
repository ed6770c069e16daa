package subnet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/subnettest"
)

const ours = "10.5.9.0-24"

// TestRevoked deletes the lease of a running node.
func TestRevoked(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		revision := n.View().Own.Revision
		r.store.Delete("subnets/" + ours)
		n.stays(time.Second, "the subnet is held", holds(ours))
		if n.View().Own.Revision <= revision {
			t.Error("the lease was not written again")
		}
		if _, leased := r.attrsAt(ours); !leased {
			t.Error("the lease has no TTL")
		}
	})
}

// TestOverwritten has flannel write over our lease, blindly.
func TestOverwritten(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.flannel(ours, "192.0.2.77")
		n.until("it names both", func(v subnet.View) bool {
			return !v.Held && v.Own.Subnet.IsZero() && hasPeers(ours)(v) &&
				strings.Contains(v.Problem, "node alice (alice-host, 192.0.2.1) is held by the flannel node at 192.0.2.77")
		})
		n.stays(time.Hour, "nothing is held", func(v subnet.View) bool { return !v.Held })
		if a, _ := r.attrsAt(ours); a.PublicIP.String() != "192.0.2.77" {
			t.Errorf("the lease was written over: %+v", a)
		}
		if err := n.Renew(t.Context(), false); err == nil || !strings.Contains(err.Error(), "192.0.2.77") {
			t.Errorf("renewal of a lost lease: %v", err)
		}
		n.log.want(t, 2, "") // held, lost
		r.store.Delete("subnets/" + ours)
		n.until("it has its subnet again", holds(ours))
		n.log.want(t, 3, "")
	})
}

// TestOverwrittenNewSubnet leaves the subnet to the other, as the message
// advises.
func TestOverwrittenNewSubnet(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.flannel(ours, "192.0.2.77")
		n.until("it is lost", func(v subnet.View) bool { return !v.Held })
		if err := n.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		v := n.until("it has another", func(v subnet.View) bool { return v.Held && v.Problem == "" })
		if v.Own.Subnet.Key() == ours || !hasPeers(ours)(v) {
			t.Errorf("view: %s", show(v))
		}
		r.attrsAt(ours)
	})
}

// TestTakeBack loses the subnet to a weft node that then dies: a restart of
// that node does not lose it its lease, but its end does.
func TestTakeBack(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.alive(bob)
		r.weft(ours, bob)
		lost := func(v subnet.View) bool { return !v.Held && strings.Contains(v.Problem, "bob") }
		n.until("bob has it", lost)
		for range 3 {
			r.store.Delete("weft/alive/bob")
			n.stays(4*time.Minute, "bob has it", lost)
			r.alive(bob)
			n.stays(time.Minute, "bob has it", lost)
		}
		r.store.Delete("weft/alive/bob")
		begin := time.Now()
		n.until("it takes the subnet back", holds(ours))
		if d := time.Since(begin); d < 5*time.Minute || d > 6*time.Minute {
			t.Errorf("it took %v", d)
		}
	})
}

// TestCloneOverwrites has a machine with our node ID take our lease while we
// could not announce ourselves.
func TestCloneOverwrites(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		n.client.Down()
		n.until("it is cut off", func(v subnet.View) bool { return !v.Connected })
		time.Sleep(time.Minute)
		clone := r.held(host{id: alice.id, ip: bob.ip}, nil)
		clone.until("it has the lease", holds(ours))
		if !n.View().Held {
			t.Errorf("cut off: %s", show(n.View()))
		}
		n.client.Up()
		n.until("it gives in", func(v subnet.View) bool {
			return !v.Held && strings.Contains(v.Problem, "alice-host, 192.0.2.2")
		})
		clone.stays(time.Hour, "it keeps the lease", holds(ours))
		clone.kill()
		n.until("it has its subnet again", holds(ours))
	})
}

func TestOverlap(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.flannel("10.5.8.0-22", "192.0.2.77")
		n.until("it says so", func(v subnet.View) bool {
			return v.Held && strings.Contains(v.Problem, "subnet 10.5.9.0/24 of this node alice (alice-host, 192.0.2.1) overlaps 10.5.8.0/22, held by the flannel node at 192.0.2.77")
		})
		r.flannel("10.5.9.0-25", "192.0.2.78")
		n.until("it says that there are two", func(v subnet.View) bool { return v.Held && strings.Contains(v.Problem, "1 more") })
		r.store.Delete("subnets/10.5.8.0-22")
		r.store.Delete("subnets/10.5.9.0-25")
		n.until("all is well", holds(ours))
	})
}

// TestSharedPublicIP has a live node with our public IP and another subnet.
func TestSharedPublicIP(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.alive(host{id: "bob", ip: alice.ip})
		r.weft("10.5.10.0-24", host{id: "bob", ip: alice.ip})
		n.until("it says so", func(v subnet.View) bool {
			return v.Held && len(v.Peers) == 0 && strings.Contains(v.Problem, "the public IP of this node alice") && strings.Contains(v.Problem, "node bob")
		})
	})
}

// TestUnreadable spoils our lease, one of another node, and other keys.
func TestUnreadable(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		peer := r.held(bob, previous(t, "10.5.10.0-24"))
		n.until("they are peers", hasPeers("10.5.10.0-24"))
		r.store.Put("subnets/"+ours, "garbage", 0)
		n.stays(time.Second, "the subnet is held", holds(ours))
		peer.stays(time.Second, "its peer stays", hasPeers(ours))
		r.attrsAt(ours)

		r.store.Put("subnets/10.5.20.0-24", "garbage", 0)
		r.store.Put("subnets/garbage", "{}", 0)
		r.store.Put("weft/alive/carol", "garbage", 0)
		r.flannel("10.66.0.0-24", "192.0.2.66")
		v := n.until("they are skipped", func(v subnet.View) bool { return len(v.Bad) == 4 && holds(ours)(v) })
		for i, key := range []string{"/subnets/10.5.20.0-24", "/subnets/garbage", "/weft/alive/carol", "subnets/10.66.0.0-24"} {
			if b := v.Bad[i]; !strings.HasSuffix(b.Key, key) || b.Err == nil || b.Revision == 0 {
				t.Errorf("bad entry %+v, want %s", b, key)
			}
		}
		if !hasPeers("10.5.10.0-24")(v) {
			t.Errorf("peers %v", peers(v))
		}
		time.Sleep(time.Hour) // with lists in between
		n.log.want(t, 4, "skipped")
		n.log.want(t, 1, "unreadable")
		r.store.Put("subnets/garbage", "[]", 0)
		time.Sleep(time.Second)
		n.log.want(t, 5, "skipped")

		for _, key := range []string{"subnets/10.5.20.0-24", "subnets/garbage", "weft/alive/carol", "subnets/10.66.0.0-24"} {
			r.store.Delete(key)
		}
		n.until("none is left", func(v subnet.View) bool { return len(v.Bad) == 0 })
		peer.until("its peer is there", hasPeers(ours))
	})
}

// TestCompacted breaks the watch when what it missed is compacted.
func TestCompacted(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.flannel("10.5.10.0-24", "192.0.2.10")
		r.flannel("10.5.11.0-24", "192.0.2.11")
		n.until("the peers are there", hasPeers("10.5.10.0-24", "10.5.11.0-24"))
		n.client.Mute()
		r.store.Delete("subnets/10.5.11.0-24")
		r.flannel("10.5.12.0-24", "192.0.2.12")
		r.store.Compact()
		r.flannel("10.5.13.0-24", "192.0.2.13")
		r.store.BreakWatches()
		n.until("the changes are there", func(v subnet.View) bool {
			got := fmt.Sprint(peers(v))
			if !strings.Contains(got, "10.5.10.0-24") {
				t.Errorf("a peer was dropped: %s", got)
			}
			return got == "[10.5.10.0-24 10.5.12.0-24 10.5.13.0-24]"
		})
		n.client.Up()
		r.flannel("10.5.14.0-24", "192.0.2.14")
		n.until("the watch goes on", hasPeers("10.5.10.0-24", "10.5.12.0-24", "10.5.13.0-24", "10.5.14.0-24"))
		if !holds(ours)(n.View()) {
			t.Errorf("%s", show(n.View()))
		}
	})
}

// TestBrokenWatches breaks the watch again and again.
func TestBrokenWatches(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		var want []string
		for i := range 20 {
			r.store.BreakWatches()
			key := fmt.Sprintf("10.5.%d.0-24", 100+i)
			r.flannel(key, fmt.Sprint("192.0.2.", 100+i))
			want = append(want, key)
			n.until("nothing is missed", hasPeers(want...))
		}
		n.log.want(t, 1, "") // a watch that is back at once is not worth a line
	})
}

// TestMissedEvents checks that what a watch never reported is found in time.
func TestMissedEvents(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		n.client.Mute()
		r.flannel("10.5.10.0-24", "192.0.2.10")
		begin := time.Now()
		n.until("the lease is seen", hasPeers("10.5.10.0-24"))
		if d := time.Since(begin); d > 7*time.Minute {
			t.Errorf("it took %v", d)
		}

		// A write that fails for what was missed looks at once.
		r.flannel("10.5.11.0-24", "192.0.2.11")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := n.Renew(ctx, true); err != nil {
			t.Error(err)
		}
		n.until("the other lease is seen", hasPeers("10.5.10.0-24", "10.5.11.0-24"))
	})
}

// TestWriteWar has another program rewrite our lease as fast as it can.
func TestWriteWar(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		begin := n.View().Own.Revision
		for range 600 { // ten minutes
			r.flannel(ours, alice.ip) // with our address, but without our ID
			time.Sleep(time.Second)
			synctest.Wait()
			if !n.View().Held {
				t.Fatalf("%s", show(n.View()))
			}
		}
		wrote := r.store.Put("config", "{}", 0) - begin - 600
		if wrote < 20 || wrote > 60 {
			t.Errorf("it wrote %d times in ten minutes", wrote)
		}
	})
}

func TestSetAttrs(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		peer := r.held(bob, nil)
		moved := host{id: alice.id, ip: "192.0.2.99"}
		n.SetAttrs(moved.attrs())
		v := peer.until("the peer sees it", func(v subnet.View) bool {
			return len(v.Peers) == 1 && v.Peers[0].Attrs.PublicIP == netip.MustParseAddr(moved.ip) && v.Alive["alice"].PublicIP == moved.ip
		})
		if v.Peers[0].Attrs.NodeID != "alice" {
			t.Errorf("lease of %q", v.Peers[0].Attrs.NodeID)
		}
		n.until("it holds its subnet", holds(ours))
		n.log.want(t, 1, "its attributes have changed")
		n.log.want(t, 2, "")

		// While etcd is away.
		n.client.Down()
		n.SetAttrs(alice.attrs())
		time.Sleep(time.Minute)
		if v := n.View(); !v.Held || v.Own.Attrs.PublicIP.String() != moved.ip {
			t.Errorf("%s, lease of %s", show(v), v.Own.Attrs.PublicIP)
		}
		n.client.Up()
		peer.until("the peer sees it", func(v subnet.View) bool {
			return v.Peers[0].Attrs.PublicIP.String() == alice.ip && v.Alive["alice"].PublicIP == alice.ip
		})
		n.until("it holds its subnet", holds(ours))
	})
}

// TestAliveKeyLost deletes the alive key of a running node.
func TestAliveKeyLost(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.store.Delete("weft/alive/alice")
		n.stays(time.Second, "the subnet is held", holds(ours))
		var got subnet.Node
		value, _, _ := r.store.Get("weft/alive/alice")
		if err := json.Unmarshal([]byte(value), &got); err != nil || got.Hostname != "alice-host" {
			t.Errorf("announced as %+v, error %v", got, err)
		}
		n.log.want(t, 1, "")
	})
}

// TestDeaf loses the answers to writes that are done.
func TestDeaf(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.start(alice, func(o *subnet.Options) { o.Registry.(*subnettest.Client).Deafen() })
		time.Sleep(10 * time.Minute)
		if v := n.View(); v.Connected || v.RegistryErr == nil {
			t.Errorf("%s", show(v))
		}
		n.log.want(t, 1, "cannot be used")
		n.client.Up()
		v := n.until("a subnet is held", func(v subnet.View) bool { return v.Held && v.Connected })
		if keys := r.store.Keys("subnets/"); len(keys) != 1 || keys[0] != "subnets/"+v.Own.Subnet.Key() {
			t.Errorf("leases %v, want one of %s", keys, v.Own.Subnet)
		}
	})
}

// TestNotAnnounced deletes the lease of a node while another machine has its
// node ID: the subnet may be that one's as well.
func TestNotAnnounced(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.alive(host{id: alice.id, ip: bob.ip})
		n.until("it knows", func(v subnet.View) bool { return v.Held && strings.Contains(v.Problem, "node.json") })
		r.store.Delete("subnets/" + ours)
		n.stays(time.Hour, "it waits", func(v subnet.View) bool { return strings.Contains(v.Problem, "node.json") })
		if keys := r.store.Keys("subnets/"); len(keys) != 0 {
			t.Errorf("leases %v, want none", keys)
		}
		r.store.Delete("weft/alive/alice")
		n.until("it holds its subnet", holds(ours))
		r.attrsAt(ours)
	})
}

// TestForeignTTL has another hand write our lease as it was, with a short TTL.
func TestForeignTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		value, _, _ := r.store.Get("subnets/" + ours)
		r.store.Put("subnets/"+ours, value, 10*time.Minute)
		n.until("it notices", func(v subnet.View) bool { return v.Expires.IsZero() })
		n.stays(time.Hour, "the subnet is held", holds(ours))
		n.log.want(t, 1, "") // the lease was never gone
	})
}
