package nft

import (
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Watcher tells when anything in nf_tables changes, which includes the rules
// of iptables-nft and excludes those of iptables-legacy.
type Watcher struct {
	conn    *netlink.Conn
	changes chan struct{}
	done    chan struct{}
}

// Watch starts watching the network namespace of the calling thread.
func Watch() (*Watcher, error) {
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	if err := conn.JoinGroup(unix.NFNLGRP_NFTABLES); err != nil {
		return nil, errors.Join(fmt.Errorf("join nf_tables events: %w", err), conn.Close())
	}
	w := &Watcher{conn: conn, changes: make(chan struct{}, 1), done: make(chan struct{})}
	go w.read()
	return w, nil
}

// Changes receives after one or more changes. It is closed when there is
// nothing more to come.
func (w *Watcher) Changes() <-chan struct{} { return w.changes }

// Close stops watching and waits for it.
func (w *Watcher) Close() error {
	err := w.conn.Close()
	<-w.done
	return err
}

func (w *Watcher) read() {
	defer close(w.done)
	defer close(w.changes)
	for {
		// What changed does not matter, nor how much of it got lost (ENOBUFS).
		if _, err := w.conn.Receive(); err != nil && !errors.Is(err, unix.ENOBUFS) {
			return
		}
		select {
		case w.changes <- struct{}{}:
		default:
		}
	}
}
