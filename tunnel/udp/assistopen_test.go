package udp

import (
	"os/exec"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel"
)

// The socket sends where the kernel sends and it has not, and no more often than
// it must.
func TestOpener(t *testing.T) {
	p := &tunnel.Peer{State: new(tunnel.PeerState)}
	o := newOpener(DefaultPort, [2]udpPort{})
	start := time.Now()
	for i, step := range []struct {
		after          time.Duration
		kernel, socket uint64
		want           bool
	}{
		{0, 0, 0, false}, // nobody sends
		{1 * time.Second, 5, 0, true},
		{2 * time.Second, 9, 0, false}, // it has just sent
		{16 * time.Second, 12, 0, true},
		{30 * time.Second, 12, 0, false},
		{40 * time.Second, 12, 0, false}, // the kernel sends no more
		{41 * time.Second, 13, 1, false}, // the socket sends by itself
		{55 * time.Second, 14, 1, false},
		{56 * time.Second, 15, 1, true},
	} {
		p.State.Tx.Packets.Store(step.socket)
		if got := o.due(p, step.kernel, start.Add(step.after)); got != step.want {
			t.Errorf("step %d: due %v, want %v", i, got, step.want)
		}
	}
	other := &tunnel.Peer{State: new(tunnel.PeerState)}
	other.State.Tx.Packets.Store(7)
	if !o.due(other, 1, start) {
		t.Error("not due, though nobody knows when the socket sent last")
	}
	o.forget(tunnel.NewTable(tunnel.Self{}, nil, nil))
	if len(o.sent) != 0 {
		t.Errorf("%d peers of former tables are remembered", len(o.sent))
	}
}

// A firewall that lets in answers only lets a peer's superpackets in, although
// what they answer was sent by the kernel.
func TestAssistAnswersOnly(t *testing.T) {
	iptables := labtest.Program(t, "iptables", "iptables")
	a, b := newAssistedPair(t, setup{})
	check(t, a.Do(func() error {
		for _, rule := range [][]string{
			{"-A", "INPUT", "-i", "eth0", "-m", "conntrack", "--ctstate", "ESTABLISHED", "-j", "ACCEPT"},
			{"-A", "INPUT", "-i", "eth0", "-j", "DROP"},
		} {
			if out, err := exec.Command(iptables, append([]string{"-w"}, rule...)...).CombinedOutput(); err != nil {
				t.Fatalf("iptables %v: %v: %s", rule, err, out)
			}
		}
		return netlink.ConntrackTableFlush(netlink.ConntrackTable)
	}))
	done := make(chan struct{})
	go func() {
		defer close(done)
		transferTCP(t, b, a, false, transferSize)
	}()
	sent := byKernel(a).TxPackets
	waitFor(t, "the kernel to answer", func() bool { return byKernel(a).TxPackets > sent })
	a.assisted.keepOpen(time.Now().Add(2 * openInterval))
	<-done
}
