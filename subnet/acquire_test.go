package subnet_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/weftnet/weft/subnet"
)

func TestFirstLease(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.flannel("10.5.7.0-24", "192.0.2.77")
		n := r.held(alice, nil)
		v := n.until("it is connected", func(v subnet.View) bool { return v.Connected && len(v.Alive) == 1 })
		if v.Problem != "" || v.RegistryErr != nil || v.Own.Attrs.NodeID != "alice" || v.Own.Revision == 0 || v.LastContact.IsZero() || v.Revision < v.Own.Revision {
			t.Errorf("view %+v", v)
		}
		if left := time.Until(v.Expires); left < 23*time.Hour || left > 24*time.Hour {
			t.Errorf("expires in %v, want 24 h", left)
		}
		if !hasPeers("10.5.7.0-24")(v) {
			t.Errorf("peers %v", peers(v))
		}
		want := alice.attrs()
		want.NodeID = "alice"
		if got, leased := r.attrsAt(v.Own.Subnet.Key()); !leased || !got.Equal(want) {
			t.Errorf("published %+v, with a TTL %t", got, leased)
		}
		select {
		case <-n.Changed():
		default:
			t.Error("no change was signalled")
		}
		n.log.want(t, 1, "")
	})
}

// TestRace starts nodes together on a store that takes its time, in networks
// with much and with hardly any room.
func TestRace(t *testing.T) {
	const count = 50
	for _, config := range []string{
		`{"Network":"10.5.0.0/16"}`,
		`{"Network":"10.5.0.0/16","SubnetMax":"10.5.50.0"}`,
		`{"Network":"10.5.0.0/16","SubnetMax":"10.5.50.0","EnableIPv6":true,"IPv6Network":"fd00:5::/48","IPv6SubnetMax":"fd00:5:0:32::"}`,
	} {
		inBubble(t, func(t *testing.T, r *rig) {
			r.config = config
			begin := time.Now()
			for i := range count {
				h := host{id: fmt.Sprint("node", i), ip: fmt.Sprint("192.0.2.", i+1)}
				n := r.start(h, nil)
				n.client.SetLatency(10 * time.Millisecond)
			}
			var all []subnet.Subnet
			for _, n := range r.nodes {
				v := n.until("a subnet is held", func(v subnet.View) bool { return v.Held })
				for _, s := range all {
					if s.Overlaps(v.Own.Subnet) {
						t.Errorf("%s and %s are both leased", s, v.Own.Subnet)
					}
				}
				all = append(all, v.Own.Subnet)
			}
			// An attempt takes 10 ms on average, and one in all succeeds at a time.
			if d := time.Since(begin); d > time.Second {
				t.Errorf("it took %v", d)
			}
			for _, n := range r.nodes {
				n.until("all others are peers", func(v subnet.View) bool { return len(v.Peers) == count-1 && len(v.Alive) == count })
				n.log.want(t, 1, "")
			}
		})
	}
}

func TestRestart(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, nil)
		key := n.View().Own.Subnet.Key()
		n.stop()
		if _, _, ok := r.store.Get("weft/alive/alice"); ok {
			t.Error("a node that ended is announced")
		}
		n = r.held(host{alice.id, alice.ip, "again"}, nil)
		n.until("it holds its subnet", holds(key))
	})
}

// TestKilled starts a node again while the announcement of its last run still
// stands.
func TestKilled(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, nil)
		key := n.View().Own.Subnet.Key()
		n.kill()
		begin := time.Now()
		n = r.held(host{alice.id, alice.ip, "again"}, nil)
		n.until("it holds its subnet", holds(key))
		if d := time.Since(begin); d > time.Second {
			t.Errorf("it took %v with the same address", d)
		}

		n.kill()
		begin = time.Now()
		n = r.start(host{alice.id, "192.0.2.99", "moved"}, nil)
		n.until("it says what it waits for", func(v subnet.View) bool {
			return !v.Held && strings.Contains(v.Problem, "earlier run") && strings.Contains(v.Problem, "alice-host, 192.0.2.1")
		})
		n.until("it holds its subnet", holds(key))
		if d := time.Since(begin); d > 40*time.Second {
			t.Errorf("it took %v with another address", d)
		}
		if a, _ := r.attrsAt(key); a.PublicIP.String() != "192.0.2.99" {
			t.Errorf("the lease has public IP %s", a.PublicIP)
		}
	})
}

// TestClone has two machines with one node ID.
func TestClone(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		first := r.held(alice, nil)
		key := first.View().Own.Subnet.Key()
		before, _ := r.attrsAt(key)
		clone := r.start(host{id: alice.id, ip: bob.ip}, nil)
		clone.until("it says that it is a clone", func(v subnet.View) bool {
			return strings.Contains(v.Problem, "alice-host, 192.0.2.1") && strings.Contains(v.Problem, "delete node.json")
		})
		clone.stays(10*time.Minute, "it holds nothing", func(v subnet.View) bool { return !v.Held })
		if !holds(key)(first.View()) {
			t.Errorf("the original: %s", show(first.View()))
		}
		if a, _ := r.attrsAt(key); !a.Equal(before) || len(r.store.Keys("subnets/")) != 1 {
			t.Errorf("the clone wrote: %+v, %v", a, r.store.Keys("subnets/"))
		}
		clone.log.want(t, 2, "")
		if err := clone.Renew(t.Context(), true); err == nil || !strings.Contains(err.Error(), "not announced") {
			t.Errorf("renewal of a clone: %v", err)
		}
		first.stop()
		clone.until("it takes the place of the original", holds(key))
	})
}

// TestReinstalled has a host that lost its node ID.
func TestReinstalled(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(host{id: "before", ip: alice.ip}, nil)
		key := n.View().Own.Subnet.Key()
		n.kill()
		n = r.start(alice, nil)
		n.until("it names the other", func(v subnet.View) bool {
			return !v.Held && strings.Contains(v.Problem, "node before (before-host, 192.0.2.1)") && strings.Contains(v.Problem, "node alice (alice-host, 192.0.2.1)")
		})
		begin := time.Now()
		n.until("it adopts the lease", holds(key))
		if d := time.Since(begin); d > 31*time.Second {
			t.Errorf("it took %v", d)
		}
		if a, _ := r.attrsAt(key); a.NodeID != "alice" {
			t.Errorf("the lease is that of %q", a.NodeID)
		}
	})
}

// TestFromFlannel takes over what flannel left, and flannel could take it back.
func TestFromFlannel(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.flannel("10.5.9.0-24", alice.ip)
		r.held(alice, nil).until("it holds the subnet that flannel had", holds("10.5.9.0-24"))
		var a struct{ PublicIP, BackendType string }
		value, _, _ := r.store.Get("subnets/10.5.9.0-24")
		if err := json.Unmarshal([]byte(value), &a); err != nil || a.PublicIP != alice.ip || a.BackendType != "udp" {
			t.Errorf("flannel would read %+v, error %v", a, err)
		}
	})
}

func TestReservation(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.store.Put("subnets/10.5.9.0-24", `{"PublicIP":"192.0.2.1"}`, 0)
		r.store.Put("subnets/10.5.10.0-24", `{"PublicIP":"192.0.2.50"}`, 0)
		r.store.Put("subnets/10.5.11.0-24", `{}`, 0)
		n := r.held(alice, previous(t, "10.5.30.0-24"))
		v := n.until("it has its reservation", holds("10.5.9.0-24"))
		if a, leased := r.attrsAt("10.5.9.0-24"); leased || a.NodeID != "alice" || !v.Own.Reservation || !v.Expires.IsZero() {
			t.Errorf("attributes %+v, with a TTL %t, view %+v", a, leased, v)
		}
		if !hasPeers("10.5.10.0-24")(v) {
			t.Errorf("peers %v, want the reservation that has an owner", peers(v))
		}
		if err := n.Renew(t.Context(), false); err != nil {
			t.Errorf("renewal of a reservation: %v", err)
		}
		time.Sleep(48 * time.Hour)
		if !holds("10.5.9.0-24")(n.View()) {
			t.Errorf("after two days: %s", show(n.View()))
		}
	})
}

// TestMadeReservation takes the TTL from a lease in use, as flannel's
// documentation advises.
func TestMadeReservation(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		n := r.held(alice, previous(t, "10.5.9.0-24"))
		value, _, _ := r.store.Get("subnets/10.5.9.0-24")
		r.store.Put("subnets/10.5.9.0-24", value, 0)
		n.until("it is a reservation", func(v subnet.View) bool { return v.Own.Reservation && v.Expires.IsZero() })
		n.stays(48*time.Hour, "it is held", holds("10.5.9.0-24"))
		if _, leased := r.attrsAt("10.5.9.0-24"); leased {
			t.Error("the reservation got a TTL")
		}
	})
}

func TestFull(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.config = `{"Network":"10.5.0.0/22"}`
		r.flannel("10.5.1.0-24", "192.0.2.11")
		r.flannel("10.5.2.0-24", "192.0.2.12")
		r.flannel("10.5.3.0-24", "192.0.2.13")
		n := r.start(alice, nil)
		n.until("the network is full", func(v subnet.View) bool {
			return v.Problem == "network 10.5.0.0/22 full: 3 leases of 3 possible"
		})
		n.stays(time.Hour, "nothing is held", func(v subnet.View) bool { return !v.Held })
		n.log.want(t, 1, "")
		r.store.Expire("subnets/10.5.2.0-24")
		n.until("it has what became free", holds("10.5.2.0-24"))
	})
}

// TestConfigChanged starts nodes in a network that is not what it was.
func TestConfigChanged(t *testing.T) {
	for _, tt := range []struct{ name, config, before, after string }{
		{"network", `{"Network":"10.6.0.0/16","SubnetMax":"10.6.1.0"}`, "10.5.9.0-24", "10.6.1.0-24"},
		{"length", `{"Network":"10.5.0.0/16","SubnetLen":25,"SubnetMin":"10.5.9.128","SubnetMax":"10.5.9.128"}`, "10.5.9.0-24", "10.5.9.128-25"},
		{"IPv6", `{"Network":"10.5.0.0/16","EnableIPv6":true,"IPv6Network":"fd00:5::/48","IPv6SubnetMax":"fd00:5:0:1::"}`, "10.5.9.0-24", "10.5.9.0-24&fd00:5:0:1::-64"},
		{"no IPv6", `{"Network":"10.5.0.0/16"}`, "10.5.9.0-24&fd00:5:0:1::-64", "10.5.9.0-24"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *rig) {
				r.config = tt.config
				r.weft(tt.before, alice)
				n := r.held(alice, previous(t, tt.before))
				n.until("it has a subnet that fits", holds(tt.after))
				if _, _, ok := r.store.Get("subnets/" + tt.before); ok {
					t.Error("the old lease is still there")
				}
				n.log.want(t, 1, "lease removed")
			})
		})
	}
}

func TestPreviousSubnetTaken(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.weft("10.5.9.0-24", bob)
		r.alive(bob)
		var asked atomic.Int32
		n := r.start(alice, func(o *subnet.Options) {
			previous(t, "10.5.9.0-24")(o)
			o.MayRenumber = func() bool { asked.Add(1); return false }
		})
		n.until("it names both", func(v subnet.View) bool {
			return strings.Contains(v.Problem, "subnet 10.5.9.0/24 of this node alice (alice-host, 192.0.2.1) is held by node bob (bob-host, 192.0.2.2)")
		})
		for range 600 { // ten minutes, with something happening each second
			r.flannel("10.5.10.0-24", carol.ip)
			n.stays(time.Second, "nothing is held", func(v subnet.View) bool { return !v.Held })
		}
		if got := asked.Load(); got < 10 || got > 25 {
			t.Errorf("asked %d times in ten minutes", got)
		}
		n.log.want(t, 1, "")
		r.store.Delete("subnets/10.5.9.0-24")
		n.until("it has its subnet again", holds("10.5.9.0-24"))
	})
}

func TestMayRenumber(t *testing.T) {
	inBubble(t, func(t *testing.T, r *rig) {
		r.flannel("10.5.9.0-24", bob.ip)
		var unused atomic.Bool
		n := r.start(alice, func(o *subnet.Options) {
			previous(t, "10.5.9.0-24", "10.5.10.0-24")(o)
			o.MayRenumber = unused.Load
		})
		n.until("it waits", func(v subnet.View) bool { return v.Problem != "" })
		unused.Store(true)
		n.until("it takes the next best", holds("10.5.10.0-24"))
	})
}
