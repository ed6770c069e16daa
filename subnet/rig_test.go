package subnet_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/subnettest"
)

// inBubble runs a test whose time passes only when all goroutines wait, so
// that hours take no time and every wait is exact.
func inBubble(t *testing.T, test func(t *testing.T, r *rig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := &rig{t: t, store: subnettest.NewStore(), config: `{"Network":"10.5.0.0/16"}`}
		defer r.stopAll()
		test(t, r)
	})
}

// rig is a store and the nodes on it.
type rig struct {
	t      *testing.T
	store  *subnettest.Store
	config string
	nodes  []*node
}

// node is a manager at work.
type node struct {
	*subnet.Manager
	rig    *rig
	name   string
	client *subnettest.Client
	log    *logBook
	cancel context.CancelFunc
	ended  chan struct{}
}

// host is what distinguishes one node from another.
type host struct {
	id, ip string
	run    string // instance, if not the first
}

func (h host) attrs() subnet.Attrs {
	return subnet.Attrs{PublicIP: netip.MustParseAddr(h.ip), BackendType: "udp", BackendData: []byte(`{"weft":1}`)}
}

var (
	alice = host{id: "alice", ip: "192.0.2.1"}
	bob   = host{id: "bob", ip: "192.0.2.2"}
	carol = host{id: "carol", ip: "192.0.2.3"}
)

// start runs a manager for h; change, if not nil, alters its options.
func (r *rig) start(h host, change func(*subnet.Options)) *node {
	r.t.Helper()
	cfg, err := subnet.ParseConfig([]byte(r.config))
	if err != nil {
		r.t.Fatal(err)
	}
	n := &node{rig: r, name: h.id, client: r.store.Client(), log: &logBook{}, ended: make(chan struct{})}
	o := subnet.Options{
		Registry: n.client,
		Config:   cfg,
		Node:     subnet.Node{ID: h.id, Instance: h.id + h.ip + h.run, Hostname: h.id + "-host", PublicIP: h.ip},
		Attrs:    h.attrs(),
		Log:      slog.New(n.log),
	}
	if change != nil {
		change(&o)
	}
	n.Manager = subnet.NewManager(o)
	var ctx context.Context
	ctx, n.cancel = context.WithCancel(context.Background())
	go func() {
		defer close(n.ended)
		if err := n.Run(ctx); err != context.Canceled {
			r.t.Errorf("%s: Run returned %v", n.name, err)
		}
	}()
	r.nodes = append(r.nodes, n)
	return n
}

// held is start, and a wait until a subnet is held.
func (r *rig) held(h host, change func(*subnet.Options)) *node {
	r.t.Helper()
	n := r.start(h, change)
	n.until("a subnet is held", func(v subnet.View) bool { return v.Held })
	return n
}

// stop ends a node as it should end.
func (n *node) stop() {
	n.cancel()
	<-n.ended
}

// kill ends a node as SIGKILL does: it can tell the registry nothing more.
func (n *node) kill() {
	n.client.Down()
	n.stop()
}

func (r *rig) stopAll() {
	for _, n := range r.nodes {
		n.stop()
	}
}

// until waits for a state, at most an hour of the bubble's time.
func (n *node) until(what string, ok func(subnet.View) bool) subnet.View {
	n.rig.t.Helper()
	for deadline := time.Now().Add(time.Hour); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		synctest.Wait()
		if v := n.View(); ok(v) {
			return v
		}
	}
	n.rig.t.Fatalf("%s: never came that %s: %s\nlog:\n%s", n.name, what, show(n.View()), n.log)
	return subnet.View{}
}

// stays checks a state now and for a while.
func (n *node) stays(d time.Duration, what string, ok func(subnet.View) bool) {
	n.rig.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(d / 50) {
		synctest.Wait()
		if v := n.View(); !ok(v) {
			n.rig.t.Fatalf("%s: no more is it that %s: %s\nlog:\n%s", n.name, what, show(v), n.log)
		}
	}
}

func show(v subnet.View) string {
	return fmt.Sprintf("held %t own %s problem %q peers %v connected %t", v.Held, v.Own.Subnet, v.Problem, peers(v), v.Connected)
}

// peers names the subnets of a view's peers.
func peers(v subnet.View) []string {
	var keys []string
	for _, p := range v.Peers {
		keys = append(keys, p.Subnet.Key())
	}
	return keys
}

func hasPeers(keys ...string) func(subnet.View) bool {
	return func(v subnet.View) bool { return fmt.Sprint(peers(v)) == fmt.Sprint(keys) }
}

func holds(key string) func(subnet.View) bool {
	return func(v subnet.View) bool { return v.Held && v.Own.Subnet.Key() == key && v.Problem == "" }
}

func parse(t *testing.T, key string) subnet.Subnet {
	t.Helper()
	s, err := subnet.ParseKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// previous makes options of a node that held subnets before.
func previous(t *testing.T, keys ...string) func(*subnet.Options) {
	return func(o *subnet.Options) {
		for _, k := range keys {
			o.Previous = append(o.Previous, parse(t, k))
		}
	}
}

// flannel writes a lease as flannel does: blindly.
func (r *rig) flannel(key, ip string) {
	r.store.Put("subnets/"+key, `{"PublicIP":"`+ip+`","PublicIPv6":null}`, 24*time.Hour)
}

// weft writes the lease of a weft node that does not run here.
func (r *rig) weft(key string, h host) {
	a := h.attrs()
	a.NodeID = h.id
	value, err := json.Marshal(a)
	if err != nil {
		r.t.Fatal(err)
	}
	r.store.Put("subnets/"+key, string(value), 24*time.Hour)
}

// alive writes the alive key of a node that does not run here.
func (r *rig) alive(h host) {
	r.store.Put("weft/alive/"+h.id, fmt.Sprintf(`{"ID":%q,"Hostname":"%s-host","PublicIP":%q}`, h.id, h.id, h.ip), 0)
}

// attrsAt returns the value of a lease's key.
func (r *rig) attrsAt(key string) (a subnet.Attrs, leased bool) {
	r.t.Helper()
	value, leased, ok := r.store.Get("subnets/" + key)
	if !ok {
		r.t.Fatalf("there is no lease %s", key)
	}
	if err := json.Unmarshal([]byte(value), &a); err != nil {
		r.t.Fatal(err)
	}
	return a, leased
}

// logBook is a slog.Handler that keeps what is logged at Info and above.
type logBook struct {
	mu    sync.Mutex
	lines []string
}

func (l *logBook) Enabled(_ context.Context, level slog.Level) bool { return level >= slog.LevelInfo }
func (l *logBook) WithAttrs([]slog.Attr) slog.Handler               { return l }
func (l *logBook) WithGroup(string) slog.Handler                    { return l }

func (l *logBook) Handle(_ context.Context, r slog.Record) error {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", r.Level, r.Message)
	r.Attrs(func(a slog.Attr) bool {
		fmt.Fprintf(&b, " %s=%v", a.Key, a.Value)
		return true
	})
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, b.String())
	return nil
}

func (l *logBook) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

// count is the number of lines that hold text.
func (l *logBook) count(text string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := 0
	for _, line := range l.lines {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// wantLines checks how many lines hold text.
func (l *logBook) want(t *testing.T, n int, text string) {
	t.Helper()
	if got := l.count(text); got != n {
		t.Errorf("%d lines say %q, want %d:\n%s", got, text, n, l)
	}
}
