package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/weftnet/weft/daemon/firewall"
	"github.com/weftnet/weft/daemon/firewall/vtep"
	"github.com/weftnet/weft/daemon/health"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/underlay"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
	"github.com/weftnet/weft/subnet/etcd"
	"github.com/weftnet/weft/tunnel"
)

// node joins what knows nothing of each other: the lease manager, the backend,
// and the firewall. One goroutine, run, owns all of it; what others may see
// stands on the board.
type node struct {
	o        *options.Options
	log      *slog.Logger
	self     identity
	board    *board
	notifier *health.Notifier
	registry *etcd.Registry

	cfg      *subnet.Config
	network  tunnel.Network
	rawCfg   []byte
	under    tunnel.Underlay
	previous []subnet.Subnet // held in earlier runs
	manager  *subnet.Manager
	firewall *firewall.Firewall // nil where none can be used
	guard    vtep.Guard
	guarded  bool // there are rules to be kept
	tidied   bool // nothing is left of earlier runs

	backend tunnel.Backend // nil while none is started
	own     subnet.Lease   // what the backend was last told; zero: nothing is ours
	startAt time.Time      // no backend is started before
	retries int            // failures of backends lately
	// started says that packets were carried once: from then on nothing ends
	// the daemon but its context, and no subnet is exchanged for another.
	started atomic.Bool
	filed   bool // the subnet file is as it should be
	up      bool // it was so once, and systemd knows

	resumed *subnet.Memory // what this run began with, where etcd was away; else nil
	saved   subnet.Memory  // what was last saved for the next run
	saveErr error          // of that

	published subnet.Attrs // what the manager was last told to publish

	keptTold bool // by mayRenumber, of containers that keep the subnet
}

const (
	healthInterval = 500 * time.Millisecond // well below the watchdog's 2 s
	configInterval = 30 * time.Second
	maxRetryDelay  = 30 * time.Second
	lately         = time.Minute // longer than maxRetryDelay
)

// run takes the node from nothing to carrying packets, and keeps it there
// until ctx ends.
func (n *node) run(ctx context.Context) error {
	known, knownCfg := n.recall()
	if err := n.awaitConfig(ctx, known, knownCfg); err != nil {
		return nilIfDone(ctx, err)
	}
	if err := n.awaitUnderlay(ctx); err != nil {
		return nilIfDone(ctx, err)
	}
	if n.resumed != nil && n.movedSince(n.resumed) {
		n.log.Warn("this node's address is another than the last run's; waiting for etcd after all")
		n.resumed = nil
		n.board.setConfigNote("")
		if err := n.awaitConfig(ctx, nil, nil); err != nil {
			return nilIfDone(ctx, err)
		}
	}
	backend, err := n.newBackend()
	if err != nil {
		return err
	}

	n.previous = n.previousSubnets()
	n.published = n.attrs(backend)
	n.manager = subnet.NewManager(subnet.Options{
		Registry:    n.registry,
		Config:      n.cfg,
		Node:        n.publicNode(),
		Attrs:       n.published,
		Previous:    n.previous,
		Resume:      n.resumed,
		MayRenumber: n.mayRenumber,
		RenewMargin: n.o.LeaseRenewMargin,
		Log:         n.log,
	})
	n.board.setManager(n.manager)
	// The lease and the alive key outlive the backend at shutdown: as long as
	// packets are carried, others see that this node lives.
	managerCtx, stopManager := context.WithCancel(context.WithoutCancel(ctx))
	var parts sync.WaitGroup
	parts.Go(func() { n.manager.Run(managerCtx) })
	defer func() {
		stopManager()
		parts.Wait()
	}()
	defer n.closeBackend()
	defer n.notifier.Stopping()

	watchCtx, stopWatches := context.WithCancel(ctx)
	defer stopWatches()
	n.firewall = n.newFirewall()
	if n.firewall != nil {
		parts.Go(func() { n.firewall.Run(watchCtx, n.o.FirewallInterval) })
	}
	parts.Go(func() { n.notifier.Watchdog(watchCtx, n.board.health) })
	underlays := make(chan underlayChange)
	parts.Go(func() { n.watchUnderlay(watchCtx, underlays) })
	configs := make(chan []byte)
	parts.Go(func() { n.watchConfig(watchCtx, configs) })

	return n.loop(ctx, underlays, configs)
}

// loop waits for the next thing to happen and answers it. Every case leaves
// the node as it should be for what is known then, so that their order does
// not matter.
func (n *node) loop(ctx context.Context, underlays <-chan underlayChange, configs <-chan []byte) error {
	healthTick := time.NewTicker(healthInterval)
	defer healthTick.Stop()
	guardTick := time.NewTicker(n.o.FirewallInterval)
	defer guardTick.Stop()
	retry := time.NewTimer(0)
	retry.Stop()
	defer retry.Stop()

	for {
		var failed <-chan error // of the backend that runs now, if one does
		if n.backend != nil {
			failed = n.backend.Failed()
		}
		select {
		case <-ctx.Done():
			return nil
		case <-n.manager.Changed():
			view := n.manager.View()
			n.board.setLease(view)
			if n.resumed != nil && view.Connected {
				n.resumed = nil
				n.board.setConfigNote("")
			}
		case change := <-underlays:
			n.changeUnderlay(change)
		case err := <-failed:
			delay := n.postpone()
			if errors.Is(err, tunnel.ErrOutdone) {
				n.log.Info("starting the backend anew", "why", err, "again_in", delay)
			} else {
				n.log.Error("backend failed, starting it again", "error", err, "again_in", delay)
			}
			n.closeBackend()
			retry.Reset(delay)
		case raw := <-configs:
			n.compareConfig(raw)
		case <-healthTick.C:
			n.observe()
			n.remember()
			if n.backend != nil {
				n.announce(n.backend)
			}
			continue
		case <-guardTick.C:
			n.reconcileGuard()
			n.keepForwarding()
			if n.filed = n.filed && exists(n.o.SubnetFile); n.filed {
				continue
			}
		case <-retry.C:
		}
		if err := n.converge(ctx); err != nil {
			// At a first start the user is there to read the error; but other
			// nodes may need the etcd inside this daemon.
			if !n.started.Load() && n.o.Embedded == nil {
				return err
			}
			delay := n.postpone()
			n.log.Error("backend is not as it should be", "error", err, "again_in", delay)
			n.board.setBackendProblem(err)
			retry.Reset(delay)
		}
		n.report()
	}
}

// postpone puts off the next attempt with a backend: none for a first failure,
// longer and longer for those that follow.
func (n *node) postpone() (delay time.Duration) {
	if time.Since(n.startAt) > lately {
		n.retries = 0
	}
	if n.retries > 0 {
		delay = min(time.Second<<min(n.retries-1, 5), maxRetryDelay)
	}
	n.retries++
	n.startAt = time.Now().Add(delay)
	return delay
}

func (n *node) enableForwarding() error {
	return firewall.EnableForwarding(n.network.IPv4.IsValid(), n.network.IPv6.IsValid(), n.log)
}

// keepForwarding switches forwarding on again where another program, sysctl
// --system for instance, has switched it off.
func (n *node) keepForwarding() {
	if n.backend == nil {
		return
	}
	err := n.enableForwarding()
	if n.board.setForwardingProblem(err) && err != nil {
		n.log.Error("this host does not forward packets", "error", err)
	}
}

// observe notes how the parts are that do not tell by themselves.
func (n *node) observe() {
	n.board.setBackend(n.backend)
	if n.firewall != nil {
		n.board.setFirewall(firewallStatus(n.firewall.Status()))
	}
	n.report()
}

// changeUnderlay takes a new interface or address: the public IP in the lease
// changes with it, and the backend, whose sockets are bound to the old one, is
// replaced. While there is no interface the old backend stays: its containers
// still reach each other, and the address may come back.
func (n *node) changeUnderlay(c underlayChange) {
	if c.err != nil {
		n.log.Warn("underlay is gone, waiting for it", "error", c.err)
		n.board.setUnderlayProblem(c.err)
		return
	}
	n.board.setUnderlay(c.underlay)
	if c.underlay == n.under {
		return
	}
	n.log.Info("underlay changed", "interface", c.underlay.Name, "mtu", c.underlay.MTU, "ipv4", c.underlay.IPv4, "ipv6", c.underlay.IPv6)
	n.under, n.startAt = c.underlay, time.Time{}
	n.closeBackend()
	backend, err := n.newBackend()
	if err != nil {
		n.log.Error("the new underlay cannot be used", "error", err)
		return
	}
	n.announce(backend)
}

// announce has the lease say of a backend what is true now.
func (n *node) announce(b tunnel.Backend) {
	if now := n.attrs(b); !now.Equal(n.published) {
		n.manager.SetAttrs(now)
		n.published = now
	}
}

func (n *node) closeBackend() {
	if n.backend == nil {
		return
	}
	if err := n.backend.Close(); err != nil {
		n.log.Error("backend did not stop cleanly", "error", err)
	}
	n.backend, n.own = nil, subnet.Lease{}
	n.board.setBackend(nil)
}

// previousSubnets are what this node held before, best first.
func (n *node) previousSubnets() []subnet.Subnet {
	var previous []subnet.Subnet
	if s := n.self.State.Subnet; s.IPv4.IsValid() {
		previous = append(previous, s)
	}
	file, err := envfile.Read(n.o.SubnetFile)
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		n.log.Warn("the previous subnet file is of no use", "error", err)
	default:
		previous = append(previous, subnet.Subnet{IPv4: file.Subnet.Masked(), IPv6: file.IPv6Subnet.Masked()})
	}
	return previous
}

// mayRenumber tells whether another subnet may take the place of the previous
// one: only at a start, and only while no container lives on it.
func (n *node) mayRenumber() bool {
	if n.started.Load() {
		return false
	}
	for _, s := range n.previous {
		containers, err := underlay.ContainersOn(s)
		if err != nil {
			n.log.Warn("containers on the previous subnet cannot be counted; keeping the subnet", "error", err)
			return false
		}
		if count := len(containers.MTUs); count > 0 {
			if !n.keptTold { // asked again and again while the conflict lasts
				n.log.Warn("containers still use the previous subnet; keeping it", "subnet", s, "bridge", containers.Bridge, "containers", count)
				n.keptTold = true
			}
			return false
		}
	}
	return true
}

// nilIfDone drops an error that is only how a context's end shows.
func nilIfDone(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("start: %w", err)
}
