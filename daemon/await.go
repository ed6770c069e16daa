package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/weftnet/weft/daemon/underlay"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
)

const (
	firstWait = time.Second
	longWait  = 5 * time.Second
)

// awaitConfig waits until etcd answers and holds a network config that can be
// used, or resumes from known, if that is not nil. Each reason for waiting is
// logged once.
func (n *node) awaitConfig(ctx context.Context, known *subnet.Memory, knownCfg *subnet.Config) error {
	return n.await(ctx, "the network config", n.board.setConfigProblem, func() error {
		callCtx, cancel := ctx, context.CancelFunc(func() {})
		if known != nil {
			callCtx, cancel = context.WithTimeout(ctx, answerWithin)
		}
		defer cancel()
		raw, err := n.registry.Config(callCtx)
		switch {
		case errors.Is(err, subnet.ErrNoConfig):
			return fmt.Errorf("%w; write one with `weftd config set`", err)
		case err != nil && known != nil && ctx.Err() == nil:
			n.resume(known, knownCfg, err)
			return nil
		case err != nil:
			return err
		}
		cfg, err := usableConfig(raw)
		if err != nil {
			return fmt.Errorf("network config in etcd: %w", err)
		}
		n.setConfig(cfg, raw)
		return nil
	})
}

func (n *node) setConfig(cfg *subnet.Config, raw []byte) {
	n.cfg, n.rawCfg = cfg, raw
	n.network = tunnel.Network{IPv4: cfg.Network, IPv6: cfg.IPv6Network}
	n.board.setNetwork(n.network)
}

// usableConfig parses a network config that this version of weft can run.
func usableConfig(raw []byte) (*subnet.Config, error) {
	cfg, err := subnet.ParseConfig(raw)
	if err != nil {
		return nil, err
	}
	return cfg, checkBackend(cfg)
}

// awaitUnderlay waits until there is an interface to send packets through.
func (n *node) awaitUnderlay(ctx context.Context) error {
	return n.await(ctx, "the underlay interface", n.board.setUnderlayProblem, func() error {
		u, candidates, err := underlay.Select(n.underlayOptions())
		if err != nil {
			return err
		}
		for _, c := range candidates {
			n.log.Info("underlay candidate", "interface", c.Name, "chosen", c.Chosen, "why", c.Why)
		}
		n.under = u
		n.board.setUnderlay(u)
		return nil
	})
}

// await calls try until it succeeds or ctx ends, and tells the board and the
// log why it waits.
func (n *node) await(ctx context.Context, what string, problem func(error), try func() error) error {
	told := ""
	for wait := firstWait; ; wait = min(2*wait, longWait) {
		err := try()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		problem(err)
		if err == nil {
			if told != "" {
				n.log.Info("found " + what)
			}
			return nil
		}
		if err.Error() != told {
			told = err.Error()
			n.log.Warn("waiting for "+what, "error", err)
		}
		n.report()
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}

// An underlayChange is a new underlay, or why there is none.
type underlayChange struct {
	underlay tunnel.Underlay
	err      error
}

func (n *node) watchUnderlay(ctx context.Context, changes chan<- underlayChange) {
	for ctx.Err() == nil {
		err := underlay.Watch(ctx, n.underlayOptions(), func(u tunnel.Underlay, err error) {
			select {
			case changes <- underlayChange{u, err}:
			case <-ctx.Done():
			}
		})
		if ctx.Err() != nil {
			return
		}
		n.log.Error("changes of the underlay are not noticed for a while", "error", err, "again_in", maxRetryDelay)
		select {
		case <-ctx.Done():
		case <-time.After(maxRetryDelay):
		}
	}
}

// watchConfig reports the network config now and then, nil where there is none,
// so that a change of it does not go unnoticed.
func (n *node) watchConfig(ctx context.Context, configs chan<- []byte) {
	tick := time.NewTicker(configInterval)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		raw, err := n.registry.Config(ctx)
		if err != nil && !errors.Is(err, subnet.ErrNoConfig) {
			continue // the lease manager tells when etcd is away
		}
		select {
		case configs <- raw:
		case <-ctx.Done():
			return
		}
	}
}

// compareConfig warns of a network config that differs from the one in force.
// As with flannel, it is taken at the next start: addresses of running
// containers cannot change.
func (n *node) compareConfig(raw []byte) {
	note := ""
	if raw == nil {
		note = "the network config is gone from etcd, and no node can start; write it again with `weftd config set`"
	} else if !bytes.Equal(raw, n.rawCfg) {
		note = "the network config in etcd has changed; restart weftd to use it"
		if _, err := usableConfig(raw); err != nil {
			note = fmt.Sprintf("the network config in etcd has changed, and no node can start with it; write another with `weftd config set`: %v", err)
		}
	}
	if n.board.setConfigNote(note) && note != "" {
		n.log.Warn(note)
	}
}
