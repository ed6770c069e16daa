package udp

import (
	"errors"
	"net"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/ipv4"
	"golang.org/x/sys/unix"
)

// holder holds up a worker, in the call by which it says that a peer has answered.
type holder struct {
	armed     atomic.Bool
	held, end chan struct{}
}

func newHolder() *holder { return &holder{held: make(chan struct{}), end: make(chan struct{})} }

func (h *holder) notify() {
	if h.armed.CompareAndSwap(true, false) {
		close(h.held)
		<-h.end
	}
}

// hold holds up a node's worker until release, or the end of the test.
func (h *holder) hold(t *testing.T, n *node) (release func()) {
	t.Helper()
	release = sync.OnceFunc(func() { close(h.end) })
	t.Cleanup(release)
	h.armed.Store(true)
	_, err := n.Probe(n.Table().Peers()[0])
	check(t, err)
	select {
	case <-h.held:
	case <-time.After(time.Minute):
		t.Fatal("no worker says that the peer has answered")
	}
	return release
}

// While its worker is held up, a flood fills the ring, and what finds no room is
// counted. Then the worker sends all that waits there, also if the kernel's programs
// are gone by then: of what was offered each packet was carried, or is known to be lost.
func TestRingIsFull(t *testing.T) {
	for name, gone := range map[string]bool{"the programs stay": false, "the programs are gone": true} {
		t.Run(name, func(t *testing.T) {
			h := newHolder()
			namespaces := newUnderlay(t, setup{})
			a := newNode(t, namespaces[0], 1, setup{assist: true, notify: h.notify})
			b := newNode(t, namespaces[1], 2, setup{assist: true})
			a.SetPeers(leases(b))
			b.SetPeers(leases(a))
			ping(t, a, b.ipv4)
			ping(t, b, a.ipv4)
			sink := listenUDP(t, b, b.ipv4)
			if n, ok := a.drops()["tx_flood_ring_full"]; ok {
				t.Errorf("%d packets found no room before there were any", n)
			}

			release := h.hold(t, a)
			sent := func() uint64 { return a.Status().Peers[0].TxPackets }
			before, kernel := sent(), byKernel(a).TxPackets
			// The kernel does a packet's whole way for who sends it, so a machine that is to
			// make a flood is spared that beyond the cable.
			middle := namespaces[3]
			ip(t, middle, "link", "set", "port1", "nomaster")
			offered, dropped := floodUntilFull(t, a, sink.LocalAddr())
			check(t, middle.Attach("br0", "port1"))
			kernel = byKernel(a).TxPackets - kernel
			if sent()-before != kernel {
				t.Errorf("a worker that is held up has sent %d packets", sent()-before-kernel)
			}
			waiting := offered - kernel - dropped
			t.Logf("of %d packets the kernel has sent %d, %d found no room and %d wait", offered, kernel, dropped, waiting)
			if waiting != 7710 { // of records of 128 bytes, with 8 of header: the most that 1 MiB holds
				t.Errorf("%d wait in the ring", waiting)
			}
			if gone {
				a.assisted.mu.Lock()
				a.assisted.giveUp(errors.New("given up"))
				a.assisted.mu.Unlock()
			}
			release()
			waitFor(t, "what waits to be sent", func() bool { return sent()-before >= offered-dropped })
			if n := a.drops()["tx_flood_ring_full"]; n != dropped || sent()-before != offered-dropped {
				t.Errorf("of %d packets %d are sent and %d lost, want %d", offered, sent()-before, n, dropped)
			}
			// All is as before, by whatever way, once node 2 has taken all of that.
			from, to := listenUDP(t, a, a.ipv4), listenUDP(t, b, b.ipv4)
			waitFor(t, "the flood to be over", func() bool { return !lost(t, from, to, 100) })
			check(t, a.Health())
		})
	}
}

// floodUntilFull sends datagrams of 64 bytes until the ring was full, and returns how
// many, and how many were lost.
func floodUntilFull(t *testing.T, from *node, to net.Addr) (offered, lost uint64) {
	t.Helper()
	conn, err := from.Dial(t.Context(), net.Dialer{LocalAddr: net.UDPAddrFromAddrPort(netip.AddrPortFrom(from.ipv4, 0))}, "udp4", to.String())
	check(t, err)
	defer conn.Close()
	for deadline := time.Now().Add(time.Minute); lost == 0; lost = from.drops()["tx_flood_ring_full"] {
		n, err := floodFor(50*time.Millisecond, conn)
		check(t, err)
		offered += n
		if time.Now().After(deadline) {
			t.Fatal("this machine is too slow or too busy for a flood: it never sent 4000 datagrams within 20 ms, nor filled the ring")
		}
	}
	return offered, lost
}

// floodFor sends datagrams of 64 bytes for a time, as fast as it can, and before all else
// that this machine has to do.
func floodFor(d time.Duration, conn net.Conn) (offered uint64, err error) {
	batch := ipv4.NewPacketConn(conn.(*net.UDPConn))
	messages := make([]ipv4.Message, 64)
	for i := range messages {
		messages[i].Buffers = [][]byte{make([]byte, 64)}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()                          // never unlocked: the thread ends with the goroutine
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20) // of the thread; not every container may
		for began := time.Now(); err == nil && time.Since(began) < d; {
			var n int
			n, err = batch.WriteBatch(messages, 0)
			offered += uint64(max(n, 0))
		}
	}()
	<-done
	return offered, err
}
