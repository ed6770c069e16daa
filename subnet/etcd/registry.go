// Package etcd is the subnet.Registry on etcd v3 (3.4 or newer), with
// flannel's keys and values. Under the prefix stand
//
//	config                  the network config, JSON
//	subnets/10.5.34.0-24    a lease (subnet.Attrs, JSON)
//	weft/alive/<node ID>    a live daemon (subnet.Node, JSON)
//
// A user of etcd's own authentication needs to read and write the range of
// <prefix>/.
package etcd

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/weftnet/weft/subnet"
)

// DefaultPrefix is flannel's.
const DefaultPrefix = "/coreos.com/network"

// Config says where etcd is and how to get in.
type Config struct {
	// Endpoints are URLs (http or https, all the same), or host:port, which
	// means https if there are TLS files and http otherwise.
	Endpoints []string
	Prefix    string // "" means DefaultPrefix

	// TLS files, PEM, read again for every connection. Without a CAFile the
	// system's authorities count. CertFile and KeyFile go together.
	CertFile, KeyFile, CAFile string

	Username, Password string

	Log *slog.Logger // nil means none
}

// Registry is a subnet.Registry on etcd v3.
type Registry struct {
	prefix string
	timing timing
	link   *link
	fresh  chan freshLease // kept for the next write

	// For the words of errors.
	endpoints   []string
	secure      bool // https
	certificate bool // there is one to show
	username    string

	// cluster is the ID of the cluster that the last snapshot came from.
	cluster atomic.Uint64
}

var _ subnet.Registry = (*Registry)(nil)

// timing holds the durations that tests shorten.
type timing struct {
	request     time.Duration // for one request's answer
	watchOpen   time.Duration // for a watch to stand
	watchQuiet  time.Duration // without a response, before progress is asked for
	watchAnswer time.Duration // for the answer to that
	replace     time.Duration // of nothing but failures, before a fresh client
}

var defaultTiming = timing{
	request:     5 * time.Second,
	watchOpen:   10 * time.Second,
	watchQuiet:  10 * time.Second,
	watchAnswer: 5 * time.Second,
	replace:     20 * time.Second,
}

// New checks cfg and returns a registry. It does not wait for etcd: the first
// call connects.
func New(cfg Config) (*Registry, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	if cfg.Prefix == "" {
		cfg.Prefix = DefaultPrefix
	}
	tlsFiles := tlsFiles{Cert: cfg.CertFile, Key: cfg.KeyFile, CA: cfg.CAFile}
	if err := tlsFiles.check(); err != nil {
		return nil, err
	}
	endpoints, secure, err := parseEndpoints(cfg.Endpoints, !tlsFiles.empty())
	if err != nil {
		return nil, err
	}
	if cfg.Username == "" && cfg.Password != "" {
		return nil, errors.New("an etcd password is given without a user name: set --etcd-username")
	}
	if cfg.Username != "" && cfg.Password == "" {
		return nil, errors.New("an etcd user name is given without a password: set --etcd-password")
	}
	r := &Registry{
		prefix:      path.Clean(cfg.Prefix),
		timing:      defaultTiming,
		link:        newLink(clientConfig(cfg, endpoints, secure, tlsFiles)),
		fresh:       make(chan freshLease, 1),
		endpoints:   endpoints,
		secure:      secure,
		certificate: cfg.CertFile != "",
		username:    cfg.Username,
	}
	return r, nil
}

// Close ends every call under way and closes the connections.
func (r *Registry) Close() error { return r.link.close() }

func (r *Registry) configKey() string               { return r.prefix + "/config" }
func (r *Registry) leasePrefix() string             { return r.prefix + "/subnets/" }
func (r *Registry) leaseKey(s subnet.Subnet) string { return r.leasePrefix() + s.Key() }
func (r *Registry) alivePrefix() string             { return r.prefix + "/weft/alive/" }

// call makes one request to etcd, with its time-out, and explains the error.
func (r *Registry) call(ctx context.Context, what string, fn func(context.Context, *clientv3.Client) error) error {
	c, err := r.link.client(ctx)
	if err == nil {
		cctx, cancel := context.WithTimeout(ctx, r.timing.request)
		err = fn(cctx, c)
		cancel()
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%s: %w", what, context.Cause(ctx))
		}
	}
	r.link.note(c, err, r.timing.replace)
	return r.explain(what, err)
}

// Config implements subnet.Registry.
func (r *Registry) Config(ctx context.Context) ([]byte, error) {
	const what = "read the network config"
	var value []byte
	err := r.call(ctx, what, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Get(ctx, r.configKey())
		if err == nil && len(resp.Kvs) > 0 {
			value = resp.Kvs[0].Value
		}
		return err
	})
	if err == nil && value == nil {
		return nil, fmt.Errorf("%s at %s: %w", what, r.configKey(), subnet.ErrNoConfig)
	}
	return value, err
}

// SetConfig replaces the network config old, nil where there is none, by
// value. If the stored config is not old, nothing is written and the error is
// subnet.ErrChanged.
func (r *Registry) SetConfig(ctx context.Context, old, value []byte) error {
	const what = "write the network config"
	same := clientv3.Compare(clientv3.CreateRevision(r.configKey()), "=", 0)
	if old != nil {
		same = clientv3.Compare(clientv3.Value(r.configKey()), "=", string(old))
	}
	var written bool
	err := r.call(ctx, what, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Txn(ctx).If(same).Then(clientv3.OpPut(r.configKey(), string(value))).Commit()
		if err == nil {
			written = resp.Succeeded
		}
		return err
	})
	if err == nil && !written {
		return fmt.Errorf("%s at %s: %w", what, r.configKey(), subnet.ErrChanged)
	}
	return err
}

// Snapshot implements subnet.Registry. Both ranges are read in one
// transaction, so at one revision; the response of 10,000 leases is 3 MB.
func (r *Registry) Snapshot(ctx context.Context) (*subnet.Snapshot, error) {
	var resp *clientv3.TxnResponse
	err := r.call(ctx, "list the leases", func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.Txn(ctx).Then(
			clientv3.OpGet(r.leasePrefix(), clientv3.WithPrefix()),
			clientv3.OpGet(r.alivePrefix(), clientv3.WithPrefix()),
		).Commit()
		return err
	})
	if err != nil {
		return nil, err
	}
	r.cluster.Store(resp.Header.ClusterId)

	leases := resp.Responses[0].GetResponseRange().Kvs
	alive := resp.Responses[1].GetResponseRange().Kvs
	s := &subnet.Snapshot{
		Revision: resp.Header.Revision,
		Leases:   make([]subnet.Lease, 0, len(leases)),
		Alive:    make(map[string]subnet.Node, len(alive)),
	}
	for _, kv := range leases {
		l, err := r.parseLease(kv)
		if err != nil {
			s.Bad = append(s.Bad, subnet.BadEntry{Key: string(kv.Key), Revision: kv.ModRevision, Err: err})
			continue
		}
		s.Leases = append(s.Leases, l)
	}
	for _, kv := range alive {
		n, err := r.parseNode(kv)
		if err != nil {
			s.Bad = append(s.Bad, subnet.BadEntry{Key: string(kv.Key), Revision: kv.ModRevision, Err: err})
			continue
		}
		s.Alive[n.ID] = n
	}
	return s, nil
}
