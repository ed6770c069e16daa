// Package kernel is what the backends have in common whose packets the kernel
// carries: they only say what the kernel is to hold, and netstate keeps it so.
package kernel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Plan makes the state that the kernel is to hold out of this node's lease,
// which is the zero Lease while it has none, and the other nodes'. It lists
// the leases that cannot be served. It is called once at a time.
type Plan func(own subnet.Lease, peers []subnet.Lease) (netstate.State, []tunnel.SkippedPeer)

// Keeper is the life of such a backend; embedded in one, it is the greater part
// of tunnel.Backend. Packets need no daemon: Close leaves everything in the
// kernel, and Start takes over what it finds.
type Keeper struct {
	name string // of the backend, in errors
	plan Plan
	log  *slog.Logger

	calls sync.Mutex // held by whoever uses what follows
	own   subnet.Lease
	peers []subnet.Lease
	known bool   // peers were handed over since Start
	told  string // the last error of Apply that was logged

	mu      sync.Mutex           // guards what follows, which Health and Report read
	net     *netstate.Reconciler // nil before Start and after Close
	skipped []tunnel.SkippedPeer
}

// NewKeeper changes nothing on the host.
func NewKeeper(name string, plan Plan, log *slog.Logger) *Keeper {
	return &Keeper{name: name, plan: plan, log: log}
}

// Start implements tunnel.Backend. It removes nothing that an earlier run left
// for peers: that waits until SetPeers says which there are, so that no flow is
// disturbed.
func (k *Keeper) Start(ctx context.Context, own subnet.Lease) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the %s backend: %w", k.name, err)
		}
	}()
	if !own.Subnet.IPv4.IsValid() {
		return errors.New("the lease has no IPv4 subnet")
	}
	k.calls.Lock()
	defer k.calls.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	net, err := netstate.New(k.log)
	if err != nil {
		return err
	}
	k.own, k.peers, k.known, k.told = own, nil, false, ""
	if err := net.Apply(k.state()); err != nil {
		net.Close()
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.net = net
	return nil
}

// SetOwn implements tunnel.Backend.
func (k *Keeper) SetOwn(own subnet.Lease) error {
	k.calls.Lock()
	defer k.calls.Unlock()
	if k.net == nil {
		return k.errNotStarted()
	}
	k.own = own
	if err := k.net.Apply(k.state()); err != nil {
		return fmt.Errorf("set addresses and routes: %w", err)
	}
	return nil
}

// SetPeers implements tunnel.Backend. What the kernel refuses is logged, once,
// and tried again by the reconciler.
func (k *Keeper) SetPeers(peers []subnet.Lease) {
	k.calls.Lock()
	defer k.calls.Unlock()
	k.peers, k.known = peers, true
	k.apply()
}

// Reapply has the kernel hold what the plan says now. Unlike the methods of
// tunnel.Backend it may be called from any goroutine.
func (k *Keeper) Reapply() {
	k.calls.Lock()
	defer k.calls.Unlock()
	k.apply()
}

func (k *Keeper) apply() {
	if k.net == nil {
		return
	}
	told := ""
	if err := k.net.Apply(k.state()); err != nil {
		told = err.Error()
		if told != k.told {
			k.log.Error("not every peer is reached; this is tried again", "error", err)
		}
	}
	k.told = told
}

// state asks for the plan and logs whom it leaves out.
func (k *Keeper) state() netstate.State {
	s, skipped := k.plan(k.own, k.peers)
	s.Partial = !k.known
	tunnel.LogSkipped(k.log, k.skipped, skipped)
	k.mu.Lock()
	defer k.mu.Unlock()
	k.skipped = skipped
	return s
}

// Report returns the objects that are not in the kernel as they should be, by
// name, and the leases that the plan left out. Both are the caller's.
func (k *Keeper) Report() (problems map[string]netstate.Problem, skipped []tunnel.SkippedPeer) {
	k.mu.Lock()
	defer k.mu.Unlock()
	problems = make(map[string]netstate.Problem)
	if k.net != nil {
		for _, p := range k.net.Status() {
			problems[p.Object] = p
		}
	}
	return problems, slices.Clone(k.skipped)
}

// Failed implements tunnel.Backend. Nothing comes: what the kernel loses is put
// back.
func (k *Keeper) Failed() <-chan error { return nil }

// Health implements tunnel.Backend. The kernel carries the packets: nothing
// would be better if this daemon were started again.
func (k *Keeper) Health() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.net == nil {
		return k.errNotStarted()
	}
	return nil
}

func (k *Keeper) errNotStarted() error { return fmt.Errorf("the %s backend is not started", k.name) }

// Close implements tunnel.Backend. Devices, routes and all else stay.
func (k *Keeper) Close() error {
	k.calls.Lock()
	defer k.calls.Unlock()
	k.mu.Lock()
	net := k.net
	k.net = nil
	k.mu.Unlock()
	if net == nil {
		return nil
	}
	return net.Close()
}

// LastRoutes are for what no better route covers. Subnets that nobody leases do
// not leak to the default route; with blackhole, and while no bridge has it,
// nor does this node's own subnet own (--ip-blackhole-route).
func LastRoutes(n tunnel.Network, own subnet.Subnet, blackhole bool) (routes []netstate.Route) {
	for _, p := range []netip.Prefix{n.IPv4, n.IPv6} {
		if p.IsValid() {
			routes = append(routes, netstate.Route{Dst: p, Type: netstate.Unreachable, Metric: netstate.LastMetric})
		}
	}
	for _, p := range []netip.Prefix{own.IPv4, own.IPv6} {
		if p.IsValid() && blackhole {
			routes = append(routes, netstate.Route{Dst: p, Type: netstate.Blackhole, Metric: netstate.LastMetric})
		}
	}
	return routes
}

// maxTexts is how many problems are named. A link that is gone makes thousands.
const maxTexts = 20

// Texts puts problems in words, sorted; the last ones are only counted if they
// are many.
func Texts(problems map[string]netstate.Problem) (texts []string) {
	for object, p := range problems {
		texts = append(texts, object+": "+p.Err.Error())
	}
	slices.Sort(texts)
	if more := len(texts) - maxTexts; more > 0 {
		texts = append(texts[:maxTexts], fmt.Sprintf("and %d more", more))
	}
	return texts
}
