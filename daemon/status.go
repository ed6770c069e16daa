package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/firewall"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/version"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

// board is what is known of the node: written by the node's goroutine, read by
// the control socket, /readyz and the watchdog.
type board struct {
	mu      sync.Mutex
	status  control.Status  // what does not change often; Backend is filled in when asked
	manager *subnet.Manager // nil before there is one
	view    subnet.View
	backend tunnel.Backend
	filed   subnet.Subnet // in the subnet file
	beat    time.Time     // when the node's goroutine last passed by; zero while it waits for a config or an underlay

	// Why the node is not ready, part by part; nil where a part is well.
	config, underlay, carrier, firewall, guard, forwarding, file, embedded error
}

// stalled is how long the node's goroutine may be busy with one thing before
// the watchdog is told.
const stalled = 30 * time.Second

func newBoard(o *options.Options, self identity) *board {
	return &board{
		status: control.Status{
			Version:  version.String(),
			Started:  time.Now(),
			PID:      os.Getpid(),
			Node:     control.Node{ID: self.Node.ID, Hostname: self.Node.Hostname},
			Etcd:     control.Etcd{Endpoints: append([]string{}, o.Etcd.Endpoints...), Embedded: o.Embedded != nil},
			Firewall: control.Firewall{Mode: "off"},
		},
		config: errors.New("starting"),
	}
}

func (b *board) set(change func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	change()
}

func (b *board) setConfigProblem(err error)   { b.set(func() { b.config = err }) }
func (b *board) setUnderlayProblem(err error) { b.set(func() { b.underlay = err }) }
func (b *board) setBackendProblem(err error)  { b.set(func() { b.carrier = err }) }
func (b *board) setLease(v subnet.View)       { b.set(func() { b.view = v }) }

func (b *board) setEmbeddedProblem(err error) { b.set(func() { b.embedded = err }) }

// setGuardProblem and setForwardingProblem tell also whether that is news.
func (b *board) setGuardProblem(err error) (news bool)      { return b.setProblem(&b.guard, err) }
func (b *board) setForwardingProblem(err error) (news bool) { return b.setProblem(&b.forwarding, err) }

// setFile notes that the subnet file has s, or why it has not, and tells whether
// a problem with it is news.
func (b *board) setFile(s subnet.Subnet, err error) (news bool) {
	if err == nil {
		b.set(func() { b.filed = s })
	}
	return b.setProblem(&b.file, err)
}

// setProblem tells whether a problem has begun or ended.
func (b *board) setProblem(p *error, err error) (news bool) {
	b.set(func() {
		news = (err == nil) != (*p == nil)
		*p = err
	})
	return news
}

// setConfigNote notes what is to be known about the config though the node
// works, and tells whether that is news.
func (b *board) setConfigNote(note string) (news bool) {
	b.set(func() {
		news = b.status.Network.Problem != note
		b.status.Network.Problem = note
	})
	return news
}

// setManager notes the manager, once there is one.
func (b *board) setManager(m *subnet.Manager) { b.set(func() { b.manager = m }) }

func (b *board) setNetwork(n tunnel.Network) {
	b.set(func() { b.status.Network.IPv4, b.status.Network.IPv6 = n.IPv4, n.IPv6 })
}

func (b *board) setUnderlay(u tunnel.Underlay) {
	b.set(func() {
		b.underlay = nil
		b.status.Underlay = control.Underlay{
			Interface: u.Name, MTU: u.MTU,
			IPv4: u.IPv4, IPv6: u.IPv6,
			PublicIPv4: u.PublicIPv4, PublicIPv6: u.PublicIPv6,
		}
	})
}

// setEndpoints notes where etcd is, once there is one inside this daemon.
func (b *board) setEndpoints(urls []string) { b.set(func() { b.status.Etcd.Endpoints = urls }) }

// setFirewall notes how the rules are kept, and why they are not.
func (b *board) setFirewall(f control.Firewall, err error) {
	b.set(func() { b.status.Firewall, b.firewall = f, err })
}

// setBackend notes the backend that runs, nil if none does, and that the
// node's goroutine has come by.
func (b *board) setBackend(backend tunnel.Backend) {
	b.set(func() { b.backend, b.beat = backend, time.Now() })
}

// health is the watchdog's question: is this daemon worth keeping alive?
func (b *board) health() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if d := time.Since(b.beat); !b.beat.IsZero() && d > stalled {
		return fmt.Errorf("the daemon has been stuck for %v", d.Round(time.Second))
	}
	if b.backend == nil {
		return nil
	}
	return b.backend.Health()
}

// notReady lists why containers cannot reach other nodes; empty when they can.
func (b *board) notReady() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.reasons()
}

func (b *board) reasons() []string {
	var reasons []string
	add := func(part string, err error) {
		if err != nil {
			reasons = append(reasons, part+err.Error())
		}
	}
	add("config: ", b.config)
	add("underlay: ", b.underlay)
	switch {
	case b.config != nil || b.underlay != nil:
		// What follows from these needs no mention.
	case !b.view.Held && b.view.Problem != "":
		reasons = append(reasons, "lease: "+b.view.Problem)
	case !b.view.Held:
		reasons = append(reasons, "lease: none yet")
	case b.carrier == nil && b.backend == nil:
		reasons = append(reasons, "backend: not started yet")
	}
	add("backend: ", b.carrier)
	if b.backend != nil {
		add("backend: ", b.backend.Health())
	}
	if b.view.Held { // before that there is nothing to make rules for
		add("firewall: ", b.firewall)
	}
	add("guard of the VXLAN port: ", b.guard)
	add("forwarding: ", b.forwarding)
	add("subnet file: ", b.file)
	return reasons
}

// snapshot is the answer to `weftd status`.
func (b *board) snapshot() control.Status {
	b.mu.Lock()
	defer b.mu.Unlock()
	s, v := b.status, b.view
	if b.manager != nil {
		v = b.manager.View() // the last contact changes without a signal
	}
	s.NotReady = b.reasons()
	s.Ready = len(s.NotReady) == 0
	if b.config != nil {
		s.Network.Problem = b.config.Error()
	}
	s.Lease = leaseStatus(v)
	s.Etcd.Connected, s.Etcd.LastContact = v.Connected, v.LastContact
	switch {
	case b.embedded != nil:
		s.Etcd.Error = "the etcd inside this daemon has ended: " + b.embedded.Error() + "; mend it and restart weftd"
	case v.RegistryErr != nil:
		s.Etcd.Error = v.RegistryErr.Error()
	}
	for _, e := range v.Bad {
		s.BadEntries = append(s.BadEntries, control.BadEntry{Key: e.Key, Revision: e.Revision, Error: e.Err.Error()})
	}
	if b.backend != nil {
		status := b.backend.Status()
		s.Backend = &status
	}
	return s
}

func leaseStatus(v subnet.View) control.Lease {
	return control.Lease{
		Subnet:      v.Own.Subnet.IPv4,
		SubnetV6:    v.Own.Subnet.IPv6,
		Revision:    v.Own.Revision,
		Expires:     v.Expires,
		Reservation: v.Own.Reservation,
		Held:        v.Held,
		Problem:     v.Problem,
	}
}

// firewallStatus is how the rules are kept, and as an error why they are not.
func firewallStatus(f firewall.Status) (control.Firewall, error) {
	status := control.Firewall{Mode: string(f.Mode), Why: f.Why, Answers: f.Answers, Problems: f.Notes}
	if f.Problem == "" {
		return status, nil
	}
	return status, errors.New(f.Problem)
}

// Status and RenewLease make the node a control.Daemon.

func (n *node) Status() control.Status {
	s := n.board.snapshot()
	s.Containers = containers(s)
	return s
}

// filing is how long the subnet file may take to follow a renewed lease.
const filing = 10 * time.Second

// RenewLease fails as long as the node has not come so far as to have a lease.
// It returns when the subnet file has the subnet, for that is what its caller
// reads next.
func (n *node) RenewLease(ctx context.Context, newSubnet bool) (control.Lease, error) {
	var manager *subnet.Manager
	n.board.set(func() { manager = n.board.manager })
	if manager == nil {
		return control.Lease{}, errors.New("this node has no lease to renew yet: see `weftd status`")
	}
	if err := manager.Renew(ctx, newSubnet); err != nil {
		return control.Lease{}, err
	}
	view := manager.View()
	late := time.After(filing)
	for poll := time.Tick(5 * time.Millisecond); ; {
		var filed subnet.Subnet
		n.board.set(func() { filed = n.board.filed })
		if filed == view.Own.Subnet {
			return leaseStatus(view), nil
		}
		select {
		case <-poll:
		case <-ctx.Done():
			return control.Lease{}, ctx.Err()
		case <-late:
			return control.Lease{}, fmt.Errorf("the lease is that of %s now, but the subnet file has %s: see `weftd status`", view.Own.Subnet, filed)
		}
	}
}

// report tells systemd how the node is, in one line.
func (n *node) report() {
	switch reasons := n.board.notReady(); {
	case len(reasons) > 0:
		n.notifier.Status("not ready: " + reasons[0])
	default:
		n.notifier.Status("ready")
	}
}
