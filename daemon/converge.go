package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/weftnet/weft/daemon/underlay"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
)

// converge makes the backend, the firewall and the files agree with the lease
// and the peers as they are now.
func (n *node) converge(ctx context.Context) error {
	view := n.manager.View()
	if !view.Held {
		if n.backend != nil && n.own.Subnet.IPv4.IsValid() {
			if err := n.backend.SetOwn(subnet.Lease{}); err != nil {
				return err
			}
			n.own = subnet.Lease{}
			n.board.setBackendProblem(nil)
		}
		return nil
	}
	switch {
	case n.backend == nil && time.Now().Before(n.startAt):
		return nil // the retry timer runs
	case n.backend == nil:
		if err := n.startBackend(ctx, view); err != nil {
			return err
		}
	case view.Own.Subnet != n.own.Subnet || view.Own.Revision != n.own.Revision:
		if err := n.backend.SetOwn(view.Own); err != nil {
			return err
		}
	}
	moved := view.Own.Subnet != n.own.Subnet
	n.own = view.Own
	n.guardVTEP(n.backend, view)
	n.backend.SetPeers(view.Peers)
	n.tidy()
	n.board.setBackendProblem(nil)
	n.started.Store(true)
	if moved {
		n.publish(view.Own.Subnet)
	}
	if moved || !n.filed {
		n.writeSubnetFile(view.Own.Subnet)
	}
	return nil
}

// startBackend makes a backend for the underlay as it is and starts it.
func (n *node) startBackend(ctx context.Context, view subnet.View) error {
	// Once packets flow, nothing that overlaps is a reason to stop them.
	if !n.started.Load() {
		err := underlay.CheckOverlap(n.network, n.under, view.Own.Subnet, publicIPs(view.Peers))
		if former := (*underlay.FormerBridgeError)(nil); errors.As(err, &former) {
			n.log.Warn("containers on a former subnet are not reached", "error", err)
		} else if err != nil {
			return err
		}
	}
	if err := n.enableForwarding(); err != nil {
		return err
	}
	backend, err := n.newBackend()
	if err != nil {
		return err
	}
	n.announce(backend) // which may be other than at the last start
	n.guardVTEP(backend, view)
	if err := backend.Start(ctx, view.Own); err != nil {
		return err
	}
	n.backend, n.own = backend, subnet.Lease{}
	return nil
}

// publish tells the firewall which subnet this node has, and the next run.
func (n *node) publish(own subnet.Subnet) {
	if n.firewall != nil {
		if err := n.firewall.Apply(n.firewallConfig(own)); err != nil {
			n.log.Error("firewall rules are not in place", "error", err)
		}
	}
	if err := n.self.State.Save(own); err != nil {
		n.log.Error("the subnet is not remembered for the next start", "error", err)
	}
}

// writeSubnetFile tells those who start containers which subnet this node has.
// With that the node is up.
func (n *node) writeSubnetFile(own subnet.Subnet) {
	err := envfile.Write(n.o.SubnetFile, n.subnetFile(own))
	n.filed = err == nil
	if n.board.setFile(own, err) && err != nil {
		n.log.Error("subnet file is not written; trying again", "error", err)
	}
	if n.filed && !n.up {
		n.up = true
		n.log.Info("node is up", "subnet", own, "backend", n.cfg.BackendType, "mtu", n.backend.MTU(), "subnet_file", n.o.SubnetFile)
		n.observe() // what waited for this node may ask for its status at once
		n.notifier.Ready()
	}
}

// exists tells whether a file is there, as far as can be told.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, os.ErrNotExist)
}
