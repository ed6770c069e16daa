package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/daemon/health"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
	"github.com/weftnet/weft/subnet/subnettest"
	"github.com/weftnet/weft/tunnel"
)

// fakeBackend is a tunnel.Backend that carries nothing.
type fakeBackend struct {
	refuse atomic.Bool // SetOwn fails
	assist atomic.Bool // what it announces
	failed chan error
}

func (*fakeBackend) MTU() int                                  { return 1472 }
func (*fakeBackend) Start(context.Context, subnet.Lease) error { return nil }
func (*fakeBackend) SetPeers([]subnet.Lease)                   {}
func (*fakeBackend) Status() tunnel.Status                     { return tunnel.Status{} }
func (*fakeBackend) Health() error                             { return nil }
func (b *fakeBackend) Failed() <-chan error                    { return b.failed }
func (*fakeBackend) Close() error                              { return nil }

func (b *fakeBackend) Data() (string, json.RawMessage, json.RawMessage) {
	if b.assist.Load() {
		return "udp", json.RawMessage(`{"weft":1,"assist":true}`), nil
	}
	return "udp", tunnel.Announcement(), nil
}

func (b *fakeBackend) SetOwn(subnet.Lease) error {
	if b.refuse.Load() {
		return errors.New("the kernel refuses")
	}
	return nil
}

// withNode runs a test in a bubble of time with a node whose backend is
// started. Its loop runs until the test ends.
func withNode(t *testing.T, test func(t *testing.T, n *node, b *fakeBackend)) {
	t.Helper()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		state, err := subnet.LoadState(dir)
		if err != nil {
			t.Fatal(err)
		}
		rawCfg := []byte(`{"Network":"10.5.0.0/16"}`)
		cfg, err := subnet.ParseConfig(rawCfg)
		if err != nil {
			t.Fatal(err)
		}
		b := &fakeBackend{failed: make(chan error, 1)}
		log := slog.New(slog.DiscardHandler)
		self := identity{State: state, Node: subnet.Node{ID: state.NodeID, Instance: "one", PublicIP: "192.0.2.1"}}
		o := &options.Options{StateDir: dir, SubnetFile: filepath.Join(dir, "subnet.env"), FirewallInterval: 5 * time.Second}
		n := &node{
			o: o, log: log, self: self, board: newBoard(o, self), notifier: health.NewNotifier(log),
			cfg: cfg, rawCfg: rawCfg, network: tunnel.Network{IPv4: cfg.Network}, backend: b,
			under: tunnel.Underlay{PublicIPv4: netip.MustParseAddr("192.0.2.1")},
		}
		n.published = n.attrs(b)
		n.manager = subnet.NewManager(subnet.Options{
			Registry: subnettest.NewStore().Client(), Config: cfg, Node: self.Node, Attrs: n.published,
		})
		n.started.Store(true)
		n.board.setConfigProblem(nil)
		ctx, cancel := context.WithCancel(t.Context())
		managed, looped := make(chan error, 1), make(chan error, 1)
		go func() { managed <- n.manager.Run(ctx) }()
		go func() { looped <- n.loop(ctx, nil, nil) }()
		defer func() {
			cancel()
			<-managed
			if err := <-looped; err != nil {
				t.Errorf("loop returned %v", err)
			}
		}()
		test(t, n, b)
	})
}

// wantReady checks readiness after a while: "" for ready, or else a part of the
// reason.
func wantReady(t *testing.T, n *node, after time.Duration, reason string) {
	t.Helper()
	time.Sleep(after)
	synctest.Wait()
	reasons := strings.Join(n.board.notReady(), "; ")
	if (reason == "") != (reasons == "") || !strings.Contains(reasons, reason) {
		t.Errorf("not ready for %q, want %q", reasons, reason)
	}
}

func TestReadyAfterRefusedLease(t *testing.T) {
	withNode(t, func(t *testing.T, n *node, b *fakeBackend) {
		wantReady(t, n, time.Minute, "")
		b.refuse.Store(true)
		if err := n.manager.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		wantReady(t, n, time.Minute, "backend: the kernel refuses")
		b.refuse.Store(false)
		wantReady(t, n, time.Minute, "")
		if own := n.manager.View().Own.Subnet; n.self.State.Subnet != own {
			t.Errorf("the state says %v, want %v", n.self.State.Subnet, own)
		}
	})
}

// What a backend announces may change while it runs.
func TestAnnouncementChanges(t *testing.T) {
	withNode(t, func(t *testing.T, n *node, b *fakeBackend) {
		wantReady(t, n, time.Minute, "")
		for _, on := range []bool{true, false} {
			before := n.manager.View().Own.Revision
			b.assist.Store(on)
			wantReady(t, n, time.Second, "")
			own := n.manager.View().Own
			if says := tunnel.ReadAnnounced(own.Attrs.BackendData); says.Assist != on || own.Revision == before {
				t.Errorf("the lease says %s in revision %d, which was %d", own.Attrs.BackendData, own.Revision, before)
			}
			wantReady(t, n, time.Minute, "")
			if again := n.manager.View().Own.Revision; again != own.Revision {
				t.Error("the lease is written though nothing changed")
			}
		}
	})
}

func TestSubnetFileIsTriedAgain(t *testing.T) {
	withNode(t, func(t *testing.T, n *node, _ *fakeBackend) {
		wantReady(t, n, time.Minute, "")
		// A directory in its place cannot be replaced by a file.
		if err := errors.Join(os.Remove(n.o.SubnetFile), os.MkdirAll(filepath.Join(n.o.SubnetFile, "x"), 0o755)); err != nil {
			t.Fatal(err)
		}
		if err := n.manager.Renew(t.Context(), true); err != nil {
			t.Fatal(err)
		}
		wantReady(t, n, time.Minute, "subnet file: ")
		if err := os.RemoveAll(n.o.SubnetFile); err != nil {
			t.Fatal(err)
		}
		wantReady(t, n, time.Minute, "")
		text, err := os.ReadFile(n.o.SubnetFile)
		if want := "FLANNEL_SUBNET=" + n.manager.View().Own.Subnet.Gateway4().String(); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("subnet file %q (%v), want %s", text, err, want)
		}
	})
}

// TestRenewedLeaseIsInSubnetFile: `weftd lease renew --new-subnet` is followed by
// reading that file.
func TestRenewedLeaseIsInSubnetFile(t *testing.T) {
	withNode(t, func(t *testing.T, n *node, _ *fakeBackend) {
		wantReady(t, n, time.Minute, "")
		n.board.setManager(n.manager)
		lease, err := n.RenewLease(t.Context(), true)
		if err != nil {
			t.Fatal(err)
		}
		file, err := envfile.Read(n.o.SubnetFile)
		if err != nil || file.Subnet.Masked() != lease.Subnet {
			t.Errorf("subnet file has %v (%v), want %v", file.Subnet, err, lease.Subnet)
		}
	})
}

func TestConfigNote(t *testing.T) {
	const was = `{"Network": "10.5.0.0/16"}`
	for _, tc := range []struct{ now, note string }{
		{was, ""},
		{`{"Network": "10.6.0.0/16"}`, "restart weftd"},
		{`{"Network": "10.6.0.0/40"}`, "no node can start with it"},
		{`{"Network": "10.5.0.0/16", "Backend": {"Type": "alloc"}}`, "no node can start with it"},
		{"", "gone"},
	} {
		n := &node{log: slog.New(slog.DiscardHandler), rawCfg: []byte(was), board: newBoard(&options.Options{}, identity{})}
		n.board.setConfigProblem(nil)
		var raw []byte
		if tc.now != "" {
			raw = []byte(tc.now)
		}
		n.compareConfig(raw)
		if note := n.board.snapshot().Network.Problem; (note == "") != (tc.note == "") || !strings.Contains(note, tc.note) {
			t.Errorf("%q: note %q, want %q", tc.now, note, tc.note)
		}
	}
}

// TestBackendThatFailsAtOnce slows down: each failure is a line in the log and
// a gap in the traffic.
func TestBackendThatFailsAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := &node{}
		begin := time.Now()
		var waited []time.Duration
		for range 8 {
			d := n.postpone()
			waited = append(waited, d/time.Second)
			time.Sleep(d)
		}
		for i, want := range []time.Duration{0, 1, 2, 4, 8, 16, 30, 30} {
			if waited[i] != want {
				t.Fatalf("delays %d s, want 0, 1, 2, 4, 8, 16, 30, 30 (took %v)", waited, time.Since(begin))
			}
		}
		time.Sleep(lately + time.Second)
		if d := n.postpone(); d != 0 {
			t.Errorf("a failure long after the last is answered after %v, want at once", d)
		}
	})
}

// TestHealthOfWaitingNode is what the watchdog hears first where etcd came late.
func TestHealthOfWaitingNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBoard(&options.Options{}, identity{})
		time.Sleep(time.Hour)
		if err := b.health(); err != nil {
			t.Errorf("a node that waits is taken for dead: %v", err)
		}
		b.setBackend(nil)
		time.Sleep(stalled + time.Second)
		if err := b.health(); err == nil {
			t.Error("a stuck node is taken for healthy")
		}
	})
}
