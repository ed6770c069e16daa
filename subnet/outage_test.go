package subnet_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/subnettest"
)

// TestOutage takes etcd away for an hour, failing or silent.
func TestOutage(t *testing.T) {
	for name, away := range map[string]func(*subnettest.Client){
		"failing": (*subnettest.Client).Down,
		"silent":  (*subnettest.Client).Hang,
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				n := r.held(alice, previous(t, ours))
				r.flannel("10.5.10.0-24", "192.0.2.10")
				n.until("the peer is there", hasPeers("10.5.10.0-24"))
				away(n.client)
				r.flannel("10.5.11.0-24", "192.0.2.11")
				// A silent one is noticed when the next call is due.
				v := n.until("it notices", func(v subnet.View) bool { return !v.Connected })
				if v.RegistryErr == nil || time.Since(v.LastContact) > 10*time.Minute {
					t.Errorf("error %v, last contact %v ago", v.RegistryErr, time.Since(v.LastContact))
				}
				n.stays(time.Hour, "all goes on", func(v subnet.View) bool {
					return holds(ours)(v) && hasPeers("10.5.10.0-24")(v) && !v.Connected
				})
				n.log.want(t, 1, "cannot be used")
				n.client.Up()
				begin := time.Now()
				n.until("it catches up", func(v subnet.View) bool {
					return v.Connected && v.RegistryErr == nil && holds(ours)(v) && hasPeers("10.5.10.0-24", "10.5.11.0-24")(v)
				})
				if d := time.Since(begin); d > 15*time.Second {
					t.Errorf("it took %v", d)
				}
				n.log.want(t, 1, "can be used again")
				n.log.want(t, 3, "")
			})
		})
	}
}

// TestStartsBeforeEtcd starts a node long before etcd.
func TestStartsBeforeEtcd(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.start(alice, func(o *subnet.Options) { o.Registry.(*subnettest.Client).Down() })
		n.until("it says what it waits for", func(v subnet.View) bool {
			return !v.Held && !v.Connected && strings.Contains(v.Problem, "waiting for etcd: registry is down")
		})
		if err := n.Renew(t.Context(), false); err == nil || !strings.Contains(err.Error(), "down") {
			t.Errorf("renewal without etcd: %v", err)
		}
		time.Sleep(time.Hour)
		n.log.want(t, 1, "")
		n.client.Up()
		begin := time.Now()
		n.until("it has a subnet", func(v subnet.View) bool { return v.Held && v.Problem == "" && v.Connected })
		if d := time.Since(begin); d > 15*time.Second {
			t.Errorf("it took %v", d)
		}
	})
}

// TestExpiredWhileAway cuts a node off until its lease has run out.
func TestExpiredWhileAway(t *testing.T) {
	for _, tt := range []struct {
		name      string
		meanwhile func(r *rig)
		after     func(subnet.View) bool
	}{
		{"free", func(*rig) {}, holds(ours)},
		{"taken", func(r *rig) { r.flannel(ours, "192.0.2.77") }, func(v subnet.View) bool {
			return !v.Held && strings.Contains(v.Problem, "192.0.2.77")
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				n := r.held(alice, previous(t, ours))
				n.client.Down()
				n.stays(25*time.Hour, "the subnet is held", func(v subnet.View) bool { return v.Held })
				if keys := r.store.Keys("subnets/"); len(keys) != 0 {
					t.Fatalf("leases left: %v", keys)
				}
				tt.meanwhile(r)
				n.client.Up()
				n.until("it is as it should be", tt.after)
			})
		})
	}
}

// TestWiped loses all data of etcd under three nodes, of which one is dead. The
// others take their subnets again, and none of them loses a peer for it.
func TestWiped(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		a := r.held(alice, previous(t, "10.5.1.0-24"))
		b := r.held(bob, previous(t, "10.5.2.0-24"))
		c := r.held(carol, previous(t, "10.5.3.0-24"))
		a.until("the peers are there", hasPeers("10.5.2.0-24", "10.5.3.0-24"))
		c.kill()
		r.store.Wipe()
		begin := time.Now()
		a.stays(30*time.Second, "nothing is lost", func(v subnet.View) bool {
			return holds("10.5.1.0-24")(v) && hasPeers("10.5.2.0-24", "10.5.3.0-24")(v)
		})
		r.attrsAt("10.5.1.0-24")
		r.attrsAt("10.5.2.0-24")
		a.log.want(t, 1, "lost data")
		a.until("the dead one is gone", hasPeers("10.5.2.0-24"))
		if d := time.Since(begin); d < 55*time.Second || d > 65*time.Second {
			t.Errorf("it took %v", d)
		}
		b.until("the other is there", func(v subnet.View) bool { return hasPeers("10.5.1.0-24")(v) && len(v.Alive) == 2 })

		// A new node does not take what a lost lease may come back to.
		r.config = `{"Network":"10.5.0.0/16","SubnetMax":"10.5.3.0"}`
		r.held(host{id: "dave", ip: "192.0.2.4"}, nil).until("it has the dead one's", holds("10.5.3.0-24"))
		a.until("it is a peer", hasPeers("10.5.2.0-24", "10.5.3.0-24"))
	})
}

// TestDeletedAll deletes all leases, but no history: they really vanished.
func TestDeletedAll(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		r.flannel("10.5.10.0-24", "192.0.2.10")
		n.until("the peer is there", hasPeers("10.5.10.0-24"))
		for _, key := range r.store.Keys("subnets/") {
			r.store.Delete(key)
		}
		begin := time.Now()
		n.until("the peer is gone", hasPeers())
		if d := time.Since(begin); d > time.Second {
			t.Errorf("it took %v", d)
		}
		n.until("its own is back", holds(ours))
	})
}

func TestRenewal(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		first := n.View()
		time.Sleep(23 * time.Hour)
		v := n.View()
		if left := time.Until(v.Expires); left < 22*time.Hour || v.Own.Revision <= first.Own.Revision {
			t.Errorf("an hour before the end, the lease ends in %v", left)
		}
		time.Sleep(10 * 24 * time.Hour)
		n.until("it is held after ten days", holds(ours))
		if writes := n.View().Own.Revision - first.Own.Revision; writes > 15 {
			t.Errorf("%d renewals in ten days", writes)
		}
		n.log.want(t, 1, "")

		// Renewals fail for the first half of the margin.
		time.Sleep(time.Until(n.View().Expires) - 67*time.Minute)
		n.client.Down()
		time.Sleep(50 * time.Minute)
		n.client.Up()
		n.until("it is renewed in time", func(v subnet.View) bool { return holds(ours)(v) && time.Until(v.Expires) > 23*time.Hour })
	})
}

// TestShortTTL has a renewal margin that leaves no time.
func TestShortTTL(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, func(o *subnet.Options) {
			previous(t, ours)(o)
			o.TTL, o.RenewMargin = time.Minute, time.Hour
		})
		begin := n.View().Own.Revision
		n.stays(time.Hour, "it is held", holds(ours))
		if writes := n.View().Own.Revision - begin; writes > 700 {
			t.Errorf("%d renewals in an hour", writes)
		}
	})
}

func TestRenewNow(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, ours))
		before := n.View()
		time.Sleep(time.Hour)
		if err := n.Renew(t.Context(), false); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		if v := n.View(); !holds(ours)(v) || v.Own.Revision <= before.Own.Revision || time.Until(v.Expires) < 23*time.Hour+44*time.Minute {
			t.Errorf("%s, expires in %v", show(v), time.Until(v.Expires))
		}

		if err := n.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		v := n.until("it has another subnet", func(v subnet.View) bool { return v.Held && v.Own.Subnet.Key() != ours })
		if _, _, ok := r.store.Get("subnets/" + ours); ok || len(r.store.Keys("subnets/")) != 1 {
			t.Errorf("leases %v, want one of %s", r.store.Keys("subnets/"), v.Own.Subnet)
		}
		n.stays(time.Hour, "that is held", holds(v.Own.Subnet.Key()))

		n.client.Down()
		if err := n.Renew(t.Context(), false); err == nil {
			t.Error("a renewal without etcd succeeded")
		}
		n.client.Hang()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begin := time.Now()
		if err := n.Renew(ctx, false); err == nil || time.Since(begin) > 2*time.Second {
			t.Errorf("a renewal without answer: %v after %v", err, time.Since(begin))
		}
	})
}

// TestRenewThenView looks at the View as soon as Renew returns, as the answer to
// `weftd lease renew` does. Many leases make the View slow to come.
func TestRenewThenView(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.config = `{"Network":"10.0.0.0/8"}`
		for i := range 10000 {
			r.flannel(fmt.Sprintf("10.%d.%d.0-24", 100+i/256, i%256), "198.51.100.1")
		}
		n := r.held(alice, previous(t, ours))
		if err := n.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		if v := n.View(); !v.Held || v.Own.Subnet.Key() == ours {
			t.Errorf("a new subnet was asked for: %s", v.Own.Subnet)
		}
	})
}

// TestNewSubnetOfReservation keeps a reservation that is left.
func TestNewSubnetOfReservation(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.store.Put("subnets/"+ours, `{"PublicIP":"192.0.2.1"}`, 0)
		n := r.held(alice, nil)
		n.until("it has its reservation", holds(ours))
		if err := n.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		n.until("it has another", func(v subnet.View) bool { return v.Held && v.Own.Subnet.Key() != ours })
		r.attrsAt(ours)
	})
}

// TestNewSubnetInFullNetwork keeps what it has.
func TestNewSubnetInFullNetwork(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.config = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.9.0","SubnetMax":"10.5.9.0"}`
		n := r.held(alice, nil)
		if err := n.Renew(t.Context(), true); err == nil || !strings.Contains(err.Error(), "full") {
			t.Errorf("error %v, want that the network is full", err)
		}
		n.stays(time.Hour, "the subnet is held", holds(ours))
	})
}
