package fallback

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/udp"
)

// block has a host drop what comes to a UDP port from another; the function
// that it returns ends that.
func block(t *testing.T, at, from *kerneltest.Node, port int) (unblock func()) {
	t.Helper()
	return drop(t, at, "input", fmt.Sprintf("ip saddr %v udp dport %d", from.IPv4, port))
}

// drop adds a rule to a host's firewall.
func drop(t *testing.T, at *kerneltest.Node, hook, match string) (undo func()) {
	t.Helper()
	nft := func(script string) {
		t.Helper()
		if out, err := at.Output("nft", script); err != nil {
			t.Fatal(err, out)
		}
	}
	nft(fmt.Sprintf("add table inet lab; add chain inet lab lab { type filter hook %s priority -10; }", hook))
	nft(fmt.Sprintf("add rule inet lab lab %s drop", match))
	return func() { nft("delete table inet lab") }
}

// What the host's own firewall keeps from leaving by udp goes by vxlan.
func TestBlockedBySelf(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	drop(t, a, "output", fmt.Sprintf("ip daddr %v udp dport %d", b.IPv4, udp.DefaultPort))
	if _, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 1<<20, "", nil); err != nil {
		t.Error(err)
	}
	if pathTo(a, b) != "vxlan" {
		t.Errorf("the path is %s", pathTo(a, b))
	}
}

// A way that is blocked in one direction, without a word, is left within a
// second, and that peer alone is moved. Nobody goes back before it is mended.
func TestBlockedOneWay(t *testing.T) {
	l := newLab(t, 3, false)
	a, b, other := l.Nodes[0], l.Nodes[1], l.Nodes[2]
	for _, n := range []*kerneltest.Node{a, b} {
		awaitPath(t, n, other, "udp")
	}
	awaitPath(t, a, b, "udp")
	awaitPath(t, b, a, "udp")
	var unblock func()
	struck := false
	_, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 256<<20, "", func(n int64) {
		if n > 16<<20 && !struck {
			struck = true
			unblock = block(t, b, a, udp.DefaultPort)
		}
	})
	kerneltest.Check(t, err)
	if pathTo(a, b) != "vxlan" || pathTo(b, a) != "vxlan" {
		t.Errorf("the paths are %s and %s", pathTo(a, b), pathTo(b, a))
	}
	if pathTo(a, other) != "udp" || pathTo(b, other) != "udp" || pathTo(other, a) != "udp" {
		t.Error("another peer is moved too")
	}
	if n := strings.Count(a.Log.String(), "peer is reached by vxlan"); n != 1 {
		t.Errorf("%d lines in the log:\n%s", n, a.Log)
	}
	for _, p := range a.Status().Peers {
		if p.Subnet == b.Lease.Subnet.IPv4.String() && !strings.Contains(fmt.Sprint(p.Notes), "no answer to") {
			t.Errorf("notes: %q", p.Notes)
		}
	}
	unblock()
	if !labtest.Full(t, "the way back, after ten good seconds") {
		return
	}
	deadline := time.Now().Add(minHold + 10*time.Second)
	for pathTo(a, b) != "udp" || pathTo(b, a) != "udp" {
		if time.Now().After(deadline) {
			t.Fatalf("the paths are %s and %s", pathTo(a, b), pathTo(b, a))
		}
		time.Sleep(50 * time.Millisecond)
	}
	kerneltest.Exchange(t, a, b)
}

// A restart takes over what the former run left: a TCP transfer goes on, first
// by vxlan, then by udp. So it does when the TUN is deleted.
func TestRestart(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(t *testing.T, n *kerneltest.Node)
	}{
		{"orderly", func(t *testing.T, n *kerneltest.Node) { kerneltest.Check(t, n.Close()) }},
		{"crash", crash},
		{"TUN deleted", func(t *testing.T, n *kerneltest.Node) {
			kerneltest.Check(t, n.LinkDelete("flannel0"))
			select {
			case <-n.Failed():
			case <-time.After(time.Minute):
				t.Error("nothing is said of it")
			}
			kerneltest.Check(t, n.Close())
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, 2, false)
			a, b := l.Nodes[0], l.Nodes[1]
			awaitPath(t, a, b, "udp")
			awaitPath(t, b, a, "udp")
			struck := false
			_, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 64<<20, "", func(n int64) {
				if n < 16<<20 || struck {
					return
				}
				struck = true
				c.end(t, a)
				a.Start()
				a.SetPeers(a.Peers())
			})
			kerneltest.Check(t, err)
			awaitPath(t, a, b, "udp")
			kerneltest.Exchange(t, a, b)
		})
	}
}

// What is deleted of the kernel's part comes back.
func TestHeals(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	awaitPath(t, b, a, "udp")
	want := peerRoutes(t, a, b)
	kerneltest.Check(t, a.LinkDelete("flannel.1"))
	kerneltest.Eventually(t, "the routes to be back", func() bool { return peerRoutes(t, a, b) == want })
	a.IP(t, "route", "del", b.Lease.Subnet.IPv4.String(), "metric", "100")
	kerneltest.Eventually(t, "the route to be back", func() bool { return peerRoutes(t, a, b) == want })
	// And the fallback works.
	crash(t, a)
	kerneltest.Exchange(t, a, b)
	a.Backend = nil
}

// A VTEP that does not answer is told of while nobody needs it.
func TestNoFallback(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	silent := func() bool {
		backend := a.Backend.(*Backend)
		backend.mu.Lock()
		defer backend.mu.Unlock()
		return backend.peers[0].path.vxlan.unanswered > 0
	}
	kerneltest.Eventually(t, "an answer by ARP", func() bool { return !silent() })
	unblock := block(t, b, a, 8472)
	backend := a.Backend.(*Backend)
	backend.mu.Lock()
	backend.peers[0].path.vxlan = standby{unanswered: standbyMissed - 1} // the last one of a row
	backend.mu.Unlock()
	kerneltest.Eventually(t, "a line in the log", func() bool { return strings.Contains(a.Log.String(), "is UDP port 8472 filtered") })
	if notes := fmt.Sprint(a.Status().Peers[0].Notes); !strings.Contains(notes, "its VTEP does not answer") {
		t.Errorf("notes: %s", notes)
	}
	unblock()
	backend.mu.Lock()
	backend.peers[0].path.vxlan.askedAt = time.Time{} // the next one now
	backend.mu.Unlock()
	kerneltest.Eventually(t, "another line", func() bool { return strings.Contains(a.Log.String(), "its VTEP answers") })

	// A device made anew is asked by as well.
	kerneltest.Check(t, a.LinkDelete("flannel.1"))
	backend.mu.Lock()
	backend.peers[0].path.vxlan = standby{unanswered: 1}
	backend.mu.Unlock()
	kerneltest.Eventually(t, "an answer by ARP", func() bool { return !silent() })
}
