package udp

import (
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/subnet"
)

// Superpackets of a node that does not know yet that its peer's kernel takes none
// any more end at the peer's socket, and go on from there.
func TestSuperpacketsAtTheSocket(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, setup{})
	sent, user, kernel := byKernel(a), b.Table().Peers()[0].State.Rx.Bytes.Load(), byKernel(b).RxBytes
	func() {
		a.assisted.mu.Lock() // so that no trial tells it meanwhile
		defer a.assisted.mu.Unlock()
		ip(t, b.Namespace, "xfrm", "policy", "add", "src", "198.51.100.0/24", "dst", "203.0.113.0/24", "dir", "out",
			"tmpl", "src", "192.0.2.1", "dst", "203.0.113.1", "proto", "esp", "mode", "tunnel")
		b.assisted.lookAtIPsec(time.Now())
		transferTCP(t, a, b, false, bulkSize)
	}()
	if now := byKernel(a); now.TxBytes-sent.TxBytes < bulkSize || now.TxSuperpackets-sent.TxSuperpackets < bulkSize>>16 {
		t.Errorf("the kernel sent %+v, before %+v", now, sent)
	}
	user, kernel = b.Table().Peers()[0].State.Rx.Bytes.Load()-user, byKernel(b).RxBytes-kernel
	if user < bulkSize || kernel > 0 {
		t.Errorf("%d bytes were received by user space, %d by the kernel", user, kernel)
	}
	b.assisted.lookAtSuperpackets(time.Now())
	if c := capability(t, b, AssistGSO); c.On || c.Why != "needs assist" || b.Status().Peers[0].SuperpacketsByKernel {
		t.Errorf("the status says %+v", c)
	}
	meanwhile(t, func() { transferTCP(t, a, b, false, 4<<20) }, func() { awaitSuperpackets(t, a, false) })
	for reason, packets := range b.drops() {
		if reason != "tx_not_unicast" {
			t.Errorf("%d packets dropped as %s", packets, reason)
		}
	}
	ip(t, b.Namespace, "xfrm", "policy", "flush")
	b.assisted.mu.Lock()
	b.assisted.ipsecAt = time.Now().Add(-ipsecPause)
	b.assisted.mu.Unlock()
	awaitSuperpackets(t, b, true)
	awaitSuperpackets(t, a, true)
	goesByKernel(t, a, b)
}

// What superpackets arrive by is made anew where it was taken away, and where
// that cannot be, the status and the log say why.
func TestSuperpacketsHeal(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, setup{})
	check(t, b.LinkDelete("weft-gso"))
	meanwhile(t, func() { transferTCP(t, a, b, false, 4<<20) }, func() {
		within(t, time.Minute, "the device", func() bool {
			_, err := b.Output("ip", "link", "show", "weft-gso", "up")
			return err == nil
		})
	})
	awaitSuperpackets(t, a, true)
	goesByKernel(t, a, b)
	if n := b.log.count("what superpackets arrive by was made anew"); n != 1 || !strings.Contains(b.log.String(), "weft-gso is gone") {
		t.Errorf("%d lines in the log:\n%s", n, b.log)
	}
	// Who keeps taking it away is not fought each second.
	made := time.Now().Add(time.Hour) // which the node itself will not see
	b.assisted.mu.Lock()
	b.assisted.madeAt = made
	b.assisted.mu.Unlock()
	check(t, b.LinkDelete("weft-gso"))
	for _, after := range []time.Duration{healInterval - 1, healInterval} {
		b.assisted.heal(made.Add(after))
		if _, err := b.Output("ip", "link", "show", "weft-gso", "up"); err == nil != (after == healInterval) {
			t.Errorf("after %v the device is there: %v", after, err == nil)
		}
	}
	b.assisted.mu.Lock()
	b.assisted.madeAt = time.Time{}
	b.assisted.mu.Unlock()
	if !labtest.Full(t, "the loopback interface down") {
		return
	}
	check(t, b.LinkDown("lo"))
	within(t, time.Minute, "the status to say it", func() bool {
		c := capability(t, b, AssistGSO)
		return !c.On && strings.Contains(c.Why, "lo")
	})
	awaitSuperpackets(t, b, false)
	awaitSuperpackets(t, a, false)
	goesByUser(t, a, b)
	goesByUser(t, b, a)
	ip(t, b.Namespace, "link", "set", "lo", "up")
	awaitSuperpackets(t, b, true)
	awaitSuperpackets(t, a, true)
	goesByKernel(t, a, b)
	goesByKernel(t, b, a)
	if off, on := b.log.count("user space carries all superpackets for now"), b.log.count("the kernel carries superpackets again"); off != 1 || on != 1 {
		t.Errorf("log:\n%s", b.log)
	}
}

// An engine that is closed while trials are under way leaves nothing behind.
func TestSuperpacketsClose(t *testing.T) {
	ns := newUnderlay(t, setup{})[0]
	check(t, ns.Sysctl("net/ipv4/ip_forward", "1"))
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s := setup{assist: true, superpackets: true}
	var files int
	for round := range 2 {
		n := &node{Namespace: ns, log: new(logBuffer)}
		lease := testLease(1, s)
		check(t, ns.Do(func() (err error) {
			if n.Backend, err = New(testConfig(1, s, n.log)); err != nil {
				return err
			}
			return n.Backend.Start(t.Context(), lease)
		}))
		mute := testLease(2, s)
		mute.Attrs.BackendData = []byte(`{"weft":1,"assist":true}`)
		n.SetPeers([]subnet.Lease{mute})
		within(t, time.Minute, "a trial that is not answered", func() bool {
			n.looks()
			return trialsMissed(n) > 0
		})
		check(t, n.Close())
		if out, err := ns.Output("ip", "link", "show", "weft-gso"); err == nil {
			t.Errorf("the device is still there: %s", out)
		}
		if n := openFiles(t); round > 0 && n != files {
			t.Errorf("%d files open before, %d after", files, n)
		}
		files = openFiles(t)
	}
}
