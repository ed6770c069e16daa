package vxlan

import (
	"encoding/binary"
	"fmt"
	"net"
	"sync"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/netstate/netevent"
)

// changes counts what the kernel announces in a host's namespace about weft's
// routes and devices, by kind.
type changes struct {
	mu     sync.Mutex
	counts map[string]int
}

var kinds = map[uint16]string{
	unix.RTM_NEWROUTE: "route made", unix.RTM_DELROUTE: "route deleted",
	unix.RTM_NEWLINK: "link made or changed", unix.RTM_DELLINK: "link deleted",
	unix.RTM_NEWADDR: "address made", unix.RTM_DELADDR: "address deleted",
	unix.RTM_NEWNEIGH: "neighbour made", unix.RTM_DELNEIGH: "neighbour deleted",
}

// watch counts until the test ends.
func watch(t *testing.T, n *kerneltest.Node) *changes {
	t.Helper()
	var events *netevent.Subscription
	devices := make(map[uint32]bool)
	kerneltest.Check(t, n.Do(func() (err error) {
		for _, name := range n.Backend.(*Backend).VTEP().Devices() {
			device, err := net.InterfaceByName(name)
			if err != nil {
				return err
			}
			devices[uint32(device.Index)] = true
		}
		events, err = netevent.Subscribe()
		return
	}))
	kerneltest.Check(t, events.WatchNeighbours())
	c := &changes{counts: make(map[string]int)}
	var reading sync.WaitGroup
	reading.Go(func() {
		for {
			messages, err := events.Next()
			if err != nil {
				return
			}
			c.mu.Lock()
			for _, m := range messages {
				switch m.Header.Type {
				case unix.RTM_NEWROUTE, unix.RTM_DELROUTE: // struct rtmsg
					if m.Data[5] != netstate.RouteProtocol {
						continue
					}
				default: // the index is in the same place of ifinfomsg, ifaddrmsg and ndmsg
					if !devices[binary.NativeEndian.Uint32(m.Data[4:])] {
						continue
					}
				}
				c.counts[kinds[m.Header.Type]]++
			}
			c.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		events.Close()
		reading.Wait()
	})
	return c
}

// String lists the counts, in a fixed order.
func (c *changes) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprint(c.counts)
}

// A TCP transfer goes on while the daemons at both ends end and others start,
// and the kernel sees nothing of it: no route, device, address or neighbour is
// changed. That the counter counts is seen at the end.
func TestRestartDisturbsNothing(t *testing.T) {
	for _, c := range []struct {
		name    string
		dual    bool
		backend string
	}{
		{"IPv4", false, ""},
		{"dual stack", true, ""},
		{"direct routing", true, `{"DirectRouting":true}`},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := newLab(t, 2, c.dual, c.backend)
			a, b := l.Nodes[0], l.Nodes[1]
			a.Reach(t, b)
			running, restarted := make(chan struct{}), make(chan struct{})
			var once sync.Once
			done := make(chan error, 1)
			go func() {
				// Received last, so that the restart falls into the transfer.
				_, err := traffic.SendChecked(t.Context(), a.Container.Namespace, b.Container.Namespace, b.Container.IPv4, 64<<20, "",
					func(received int64) {
						once.Do(func() { close(running) })
						if received > 32<<20 {
							<-restarted
						}
					})
				done <- err
			}()
			<-running
			seenA, seenB := watch(t, a), watch(t, b)
			for _, n := range l.Nodes {
				kerneltest.Check(t, n.Close())
				n.Start()
			}
			l.Introduce()
			close(restarted)
			kerneltest.Check(t, <-done)
			kerneltest.Exchange(t, a, b)
			for _, seen := range []*changes{seenA, seenB} {
				if got := seen.String(); got != "map[]" {
					t.Errorf("the kernel announced %s", got)
				}
			}
			a.SetPeers(nil)
			kerneltest.Eventually(t, "the deletion of routes", func() bool { return seenA.String() != "map[]" })
		})
	}
}

// A daemon that starts while its peers are not known yet leaves their routes.
func TestStartKeepsPeers(t *testing.T) {
	l := newLab(t, 2, true, "")
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	kerneltest.Check(t, a.Close())
	a.Start()
	kerneltest.Exchange(t, a, b)
}

// Settings that cannot be changed in place have the device made anew.
func TestSettingsChange(t *testing.T) {
	l := newLab(t, 2, false, "")
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	for _, n := range l.Nodes {
		kerneltest.Check(t, n.Close())
		next, err := New(nodeConfig(n, `{"Port":4789}`))
		kerneltest.Check(t, err)
		n.Backend = next
		kerneltest.Check(t, n.Do(func() error { return next.Start(t.Context(), n.Lease) }))
	}
	l.Introduce()
	kerneltest.Exchange(t, a, b)
	if want := `msg="made anew" object="link flannel.1" why="port was 8472"`; !contains(a, want) {
		t.Errorf("no line %s in the log:\n%s", want, a.Log)
	}
}

// Direct routes give way to the tunnel when they are switched off.
func TestDirectRoutingSwitchedOff(t *testing.T) {
	l := newLab(t, 2, true, `{"DirectRouting":true}`)
	for _, n := range l.Nodes {
		kerneltest.Check(t, n.Close())
		next, err := New(nodeConfig(n, ""))
		kerneltest.Check(t, err)
		n.Backend = next
		kerneltest.Check(t, n.Do(func() error { return next.Start(t.Context(), n.Lease) }))
	}
	l.Introduce()
	a := l.Nodes[0]
	kerneltest.Exchange(t, a, l.Nodes[1])
	if s := a.Status(); s.Peers[0].Path != "vxlan" || len(s.Problems) != 0 {
		t.Errorf("status: %+v", s)
	}
}

// The underlay gets another name; the daemon notices and starts again. The
// device, which knows it by its index, stays.
func TestUnderlayRenamed(t *testing.T) {
	l := newLab(t, 2, false, `{"DirectRouting":true}`)
	a, b := l.Nodes[0], l.Nodes[1]
	a.Reach(t, b)
	before := a.IP(t, "-o", "link", "show", "flannel.1")[0]
	a.IP(t, "link", "set", "eth0", "down")
	a.IP(t, "link", "set", "eth0", "name", "wan0", "up")
	a.Reach(t, b) // through the tunnel, which is not gone
	a.Underlay.Name = "wan0"
	kerneltest.Check(t, a.Close())
	a.Start()
	l.Introduce()
	kerneltest.Exchange(t, a, b)
	if after := a.IP(t, "-o", "link", "show", "flannel.1")[0]; after != before {
		t.Errorf("the device was %s\nnow %s", before, after)
	}
	if s := a.Status(); s.Peers[0].Path != "direct" || len(s.Problems) != 0 {
		t.Errorf("status: %+v", s)
	}
}
