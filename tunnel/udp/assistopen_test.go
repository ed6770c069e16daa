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
	socket := &memSocket{}
	o.echo.ports[0] = socket
	p.Subnet, p.Endpoint = testLease(2, setup{}).Subnet, outer(2, false)
	for i, step := range []struct {
		after time.Duration
		want  int // probes in all, before trials
	}{
		{70 * time.Second, 0}, // it has just sent
		{71 * time.Second, 1},
		{72 * time.Second, 1},
		{86 * time.Second, 2},
	} {
		if o.open(addr(tunnel1), p, start.Add(step.after)); len(socket.sent) != step.want {
			t.Errorf("trial %d: %d probes sent, want %d", i, len(socket.sent), step.want)
		}
	}
	if o.due(p, 15, start.Add(102*time.Second)) || !o.due(p, 16, start.Add(103*time.Second)) {
		t.Error("what the kernel had sent before a trial is forgotten")
	}
	o.forget(tunnel.NewTable(tunnel.Self{}, nil, nil))
	if len(o.sent) != 0 {
		t.Errorf("%d peers of former tables are remembered", len(o.sent))
	}
}

// answersOnly has a node's firewall let in what answers, and nothing else, as from
// now.
func answersOnly(t *testing.T, n *node) {
	t.Helper()
	iptables := labtest.Program(t, "iptables", "iptables")
	check(t, n.Do(func() error {
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
}

// A firewall that lets in answers only lets a peer's superpackets in, although
// what they answer was sent by the kernel.
func TestAssistAnswersOnly(t *testing.T) {
	a, b := newAssistedPair(t, setup{})
	answersOnly(t, a)
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

// So it lets in the answer to a trial, which the kernel has sent.
func TestTrialsAnswersOnly(t *testing.T) {
	t.Parallel()
	a, _ := newSuperPair(t, setup{})
	answersOnly(t, a)
	a.assisted.mu.Lock()
	defer a.assisted.mu.Unlock()
	trials, peers, later := a.assisted.trials, a.Table().Peers(), time.Now().Add(2*trialInterval)
	trials.look(later, a.ipv4, peers)
	trial := trials.peers[peers[0].State]
	if trial.asked != later {
		t.Fatalf("no trial was sent: %+v", trial)
	}
	waitFor(t, "the answer", func() bool {
		trials.hear(trial, peers[0], later)
		return trial.asked.IsZero()
	})
	if trial.misses > 0 || !trial.on {
		t.Errorf("%+v", trial)
	}
}
