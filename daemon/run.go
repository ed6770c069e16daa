package main

import (
	"context"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/health"
	"github.com/weftnet/weft/daemon/lockfile"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/daemon/version"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd"
	"github.com/weftnet/weft/subnet/etcd/embedded"
)

// cmdDaemon runs the daemon until ctx ends.
func cmdDaemon(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := options.Parse(args, os.Environ())
	switch {
	case errors.Is(err, flag.ErrHelp):
		options.Usage(stdout)
		return 0
	case err != nil:
		return fail(stderr, exitConfig, err)
	case o.Version:
		return cmdVersion(ctx, nil, stdout, stderr)
	}
	log := newLogger(o, stderr)
	for _, w := range o.Warnings {
		log.Warn(w)
	}
	if err := runDaemon(ctx, o, log); err != nil {
		log.Error("weftd ends", "error", err)
		return 1
	}
	return 0
}

func newLogger(o *options.Options, w io.Writer) *slog.Logger {
	ho := &slog.HandlerOptions{Level: o.LogLevel}
	if o.LogFormat == options.LogJSON {
		return slog.New(slog.NewJSONHandler(w, ho))
	}
	return slog.New(slog.NewTextHandler(w, ho))
}

// runDaemon brings up, in this order, what a node consists of, and takes it
// down in the reverse order when ctx ends or a part of it fails. It returns
// nil only because ctx ended.
func runDaemon(ctx context.Context, o *options.Options, log *slog.Logger) (err error) {
	log.Info("weftd starts", "version", version.String())

	// The socket comes first: it is also what keeps a second daemon out.
	socket, err := control.Listen(ctx, o.ControlSocket)
	if err != nil {
		return err
	}
	state, err := lockState(o.StateDir)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	defer func() { err = errors.Join(err, state.Close()) }()
	self, err := identify(o.StateDir)
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	board := newBoard(o, self)

	group, ctx := errgroup.WithContext(ctx)
	defer func() { err = errors.Join(err, group.Wait()) }()
	// The servers end when all else has ended: with the control socket goes the
	// lock that keeps a next daemon, and `weftd cleanup`, waiting.
	serving, endServing := context.WithCancel(context.WithoutCancel(ctx))
	defer endServing()
	n := &node{
		o: o, log: log, self: self, board: board,
		notifier: health.NewNotifier(log),
	}
	group.Go(func() error { return control.Serve(serving, socket, n, log) })
	if o.HealthzPort != 0 {
		l, err := health.Listen(ctx, netip.AddrPortFrom(o.HealthzIP, uint16(o.HealthzPort)))
		if err != nil {
			return err
		}
		group.Go(func() error { return health.Serve(serving, l, board.notReady, log) })
	}

	if o.Embedded != nil {
		member, err := startEmbedded(ctx, o.Embedded, log)
		if err != nil {
			return err
		}
		defer member.Close()
		if len(o.Etcd.Endpoints) == 0 {
			o.Etcd.Endpoints = member.Endpoints()
			board.setEndpoints(o.Etcd.Endpoints)
		}
		group.Go(func() error { n.watchEmbedded(ctx, member); return nil })
	}
	n.registry, err = etcd.New(etcd.Config{
		Endpoints: o.Etcd.Endpoints,
		Prefix:    o.Etcd.Prefix,
		CertFile:  o.Etcd.CertFile,
		KeyFile:   o.Etcd.KeyFile,
		CAFile:    o.Etcd.CAFile,
		Username:  o.Etcd.Username,
		Password:  string(o.Etcd.Password),
		Log:       log,
	})
	if err != nil {
		return err
	}
	defer n.registry.Close()

	return n.run(ctx)
}

// lockState makes the state directory, and keeps it from other daemons: two
// with one identity would take the lease from each other for ever.
func lockState(dir string) (*lockfile.Lock, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the state directory: %w; choose another with --state-dir", err)
	}
	lock, err := lockfile.Take(filepath.Join(dir, "lock"))
	if held := (*lockfile.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("another weftd%s uses the state directory %s; stop it, or give this one a --state-dir of its own", held.Holder(), dir)
	}
	if err != nil {
		return nil, fmt.Errorf("take the lock of the state directory: %w", err)
	}
	return lock, nil
}

// identify reads who this node is and was, or makes it up at the first start.
func identify(stateDir string) (identity, error) {
	state, err := subnet.LoadState(stateDir)
	if err != nil {
		return identity{}, err
	}
	hostname, err := os.Hostname()
	if err != nil {
		hostname = "unknown"
	}
	return identity{
		State: state,
		Node:  subnet.Node{ID: state.NodeID, Instance: rand.Text(), Hostname: hostname},
	}, nil
}

// identity is who this node is, and what it remembers of its last run.
type identity struct {
	State *subnet.State
	Node  subnet.Node
}

func startEmbedded(ctx context.Context, e *options.Embedded, log *slog.Logger) (*embedded.Member, error) {
	member, err := embedded.Start(ctx, embedded.Config{
		DataDir:      e.DataDir,
		ListenClient: e.Listen,
		CertFile:     e.CertFile,
		KeyFile:      e.KeyFile,
		CAFile:       e.CAFile,
		Insecure:     e.Insecure,
		Log:          log,
	})
	if err != nil {
		return nil, err
	}
	log.Info("embedded etcd runs", "endpoints", member.Endpoints(), "data", e.DataDir)
	return member, nil
}

// watchEmbedded notes that the member has ended by itself, on a full disk for
// instance. Packets need no etcd, so the daemon goes on.
func (n *node) watchEmbedded(ctx context.Context, m *embedded.Member) {
	select {
	case <-ctx.Done():
		return
	case <-m.Done():
	}
	if err := m.Err(); err != nil {
		n.log.Error("the etcd inside this daemon has ended; packets go on, but leases last a day: mend it and restart weftd", "error", err)
		n.board.setEmbeddedProblem(err)
	}
}
