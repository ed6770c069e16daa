package fallback

import (
	"testing"
	"time"

	"github.com/weftnet/weft/bench/traffic"
	"github.com/weftnet/weft/tunnel/kernel/kerneltest"
)

// A peer that is sent packets by the kernel alone counts as one that is sent
// packets: it is probed as often, and left as fast.
func TestKernelsTrafficCounts(t *testing.T) {
	l := newLab(t, 2, false)
	a, b := l.Nodes[0], l.Nodes[1]
	awaitPath(t, a, b, "udp")
	awaitPath(t, b, a, "udp")
	backend := a.Backend.(*Backend)
	peer := backend.engine.Peers()[0]
	user, began := peer.State.Tx.Packets.Load(), time.Now()
	kerneltest.Echo(t, a, b, b.Container.IPv4, traffic.EchoOptions{Count: 100, Size: 64})
	if n := peer.State.Tx.Packets.Load() - user; n > 0 {
		t.Errorf("user space has sent %d packets", n)
	}
	if tx, _ := backend.engine.Traffic(peer); tx.Packets-peer.State.Tx.Packets.Load() < 100 {
		t.Errorf("the kernel has sent %d packets", tx.Packets-peer.State.Tx.Packets.Load())
	}
	kerneltest.Eventually(t, "the traffic to be seen", func() bool {
		backend.mu.Lock()
		defer backend.mu.Unlock()
		return backend.peers[0].path.trafficAt.After(began)
	})
}
