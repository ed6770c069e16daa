package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/weftnet/weft/subnet"
)

const (
	// answerWithin is how long a start waits for etcd where it could go on
	// without.
	answerWithin = 2 * time.Second
	// saveInterval is the least time between two writes of what is known, and
	// saveAnyway the most while etcd answers.
	saveInterval = 5 * time.Second
	saveAnyway   = time.Hour
)

// etcdSource tells one etcd, and one network in it, from another.
func (n *node) etcdSource() string {
	return strings.Join(n.o.Etcd.Endpoints, ",") + n.o.Etcd.Prefix
}

// recall returns what the last run knew of the cluster, and the config in it,
// if a start may go on from that should etcd be away. Otherwise it is nil.
func (n *node) recall() (*subnet.Memory, *subnet.Config) {
	m, err := subnet.LoadMemory(n.o.StateDir)
	if m == nil && err == nil {
		return nil, nil
	}
	var cfg *subnet.Config
	if err == nil {
		err = m.Usable(n.etcdSource(), time.Now())
	}
	if err == nil {
		cfg, err = usableConfig(m.Config)
	}
	switch {
	case err != nil:
	case !cfg.Fits(m.Own.Subnet):
		err = fmt.Errorf("subnet %s is not one of its network", m.Own.Subnet)
	case m.Own.Attrs.NodeID != n.self.Node.ID: // node.json was deleted
		err = fmt.Errorf("the lease is that of node %s", m.Own.Attrs.NodeID)
	}
	if err != nil {
		n.log.Info("what the last run knew of the cluster is of no use", "why", err)
		return nil, nil
	}
	return m, cfg
}

// resume goes on from what the last run knew, since etcd does not answer.
func (n *node) resume(m *subnet.Memory, cfg *subnet.Config, why error) {
	n.log.Warn("etcd cannot be used; going on with what the last run knew", "known_at", m.Saved, "error", why)
	n.resumed = m
	n.setConfig(cfg, m.Config)
	n.board.setConfigNote(fmt.Sprintf("etcd has not answered since weftd started; config, lease and peers are those of %s", m.Saved.Format(time.RFC3339)))
}

// movedSince tells whether this node has got another address since m was
// saved. Peers would not take its packets; and a copy of a machine, which has
// the state of the other one, must not take its subnet.
func (n *node) movedSince(m *subnet.Memory) bool {
	return n.under.PublicIPv4 != m.Own.Attrs.PublicIP || n.under.PublicIPv6 != m.Own.Attrs.PublicIPv6
}

// remember saves what is known of the cluster, if that has changed and etcd
// stands by it.
func (n *node) remember() {
	v := n.manager.View()
	unsure := v.Expires.IsZero() && !v.Own.Reservation // another hand wrote the lease
	if !v.Held || !v.Connected || unsure {
		return
	}
	last, now := &n.saved, time.Now()
	age := now.Sub(last.Saved)
	sameOwn := v.Own.Revision == last.Own.Revision && v.Own.Subnet == last.Own.Subnet && v.Expires.Equal(last.Expires)
	samePeers := slices.EqualFunc(v.Peers, last.Peers, func(a, b subnet.Lease) bool {
		return a.Subnet == b.Subnet && a.Revision == b.Revision
	})
	if sameOwn && (age < saveInterval || samePeers && age < saveAnyway) {
		return
	}
	n.saved = subnet.Memory{
		Source: n.etcdSource(), Saved: now, Config: n.rawCfg,
		Revision: v.Revision, Own: v.Own, Expires: v.Expires, Peers: v.Peers,
	}
	err := n.saved.Save(n.o.StateDir)
	if news := (err == nil) != (n.saveErr == nil); news && err != nil {
		n.log.Error("a restart while etcd is away will have to wait for it", "error", err)
	}
	n.saveErr = err
}
