// Package embedded runs an etcd member in the process: a cluster of one, for
// those who do not want to run etcd themselves.
package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/weftnet/weft/subnet/etcd/internal/zaplog"
)

// Config says how to run a member.
type Config struct {
	DataDir string
	Name    string // of the member; "" means "weft"

	// URLs to listen on, http or https, each with an IP address (or
	// localhost) and a port. Empty means port 2379 for clients, without TLS,
	// and a free port for peers, on 127.0.0.1. Elsewhere than on loopback, TLS
	// with a CAFile or Insecure is required.
	ListenClient []string
	ListenPeer   []string

	// PEM files for the https URLs. With a CAFile, clients need a certificate
	// signed by it. Certificate and key are read again for each connection.
	CertFile, KeyFile, CAFile string

	// Insecure lets the member listen where anybody may write to it.
	Insecure bool

	Log *slog.Logger // nil means none
}

const (
	// startTimeout bounds Start: replaying a large log on a slow disk takes
	// some seconds.
	startTimeout = time.Minute
	// closeTimeout bounds Close of a member whose goroutines are stuck.
	closeTimeout = 15 * time.Second

	// quota bounds the database, in bytes. A lease is below 1 KiB with its
	// history of an hour; etcd refuses every write once this is reached.
	quota = 2 << 30

	// socketFile, in the data directory, is where etcd serves HTTP.
	socketFile = "http.sock"
	// maxSocketPath is sizeof(sun_path) of unix(7) less the final zero.
	maxSocketPath = 107
)

// quietMessages are those of every healthy start and end.
var quietMessages = []string{
	"simple token is not cryptographically signed",
	// Of every end; a failure also comes by embed's channel.
	"setting up serving from embedded etcd failed.",
	// Of the unix socket.
	"scheme is http or unix while key and cert files are present; ignoring key and cert files",
	"scheme is http or unix while --client-cert-auth is enabled; ignoring client cert auth for this URL",
}

// Member is a running etcd member.
type Member struct {
	etcd      *embed.Etcd
	endpoints []string
	lock      *os.File
	fatal     *fatal

	closing   chan struct{}
	closeOnce sync.Once
	done      chan struct{} // closed when the member has ended, after err is set
	err       error
}

// Start runs a member and returns when it serves. Data and identity are kept
// in DataDir from one run to the next, also if the run ends by SIGKILL.
//
// If Start fails for damaged data, what etcd had begun cannot be undone and
// keeps its ports: the process should end.
func Start(ctx context.Context, cfg Config) (*Member, error) {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	ecfg, err := cfg.etcd()
	if err != nil {
		return nil, err
	}
	lock, err := lockDir(cfg.DataDir)
	if err != nil {
		return nil, err
	}
	m := &Member{lock: lock, fatal: newFatal(), closing: make(chan struct{}), done: make(chan struct{})}
	logger := zaplog.Server(cfg.Log, quietMessages, zap.WithFatalHook(m.fatal), zap.WithPanicHook(m.fatal))
	ecfg.ZapLoggerBuilder = embed.NewZapLoggerBuilder(logger)
	ecfg.GRPCAdditionalServerOptions = []grpc.ServerOption{grpc.ChainStreamInterceptor(m.endOnClose)}

	if err := m.start(ctx, ecfg); err != nil {
		lock.Close()
		return nil, err
	}
	for _, u := range ecfg.ListenClientUrls {
		m.endpoints = append(m.endpoints, reachable(u, m.etcd.Clients))
	}
	go m.run()
	return m, nil
}

// etcd translates the configuration.
func (c Config) etcd() (*embed.Config, error) {
	if c.DataDir == "" {
		return nil, errors.New("no data directory given for the embedded etcd")
	}
	if (c.CertFile == "") != (c.KeyFile == "") {
		return nil, errors.New("the embedded etcd needs its certificate and its key together")
	}
	for _, f := range []string{c.CertFile, c.KeyFile, c.CAFile} {
		if f == "" {
			continue
		}
		if _, err := os.ReadFile(f); err != nil {
			return nil, fmt.Errorf("read a TLS file of the embedded etcd: %w", err)
		}
	}
	client, err := c.parseListen(c.ListenClient, defaultClientURL)
	if err != nil {
		return nil, err
	}
	peer, err := c.parseListen(c.ListenPeer, c.defaultPeerURL())
	if err != nil {
		return nil, err
	}

	dir, err := filepath.Abs(c.DataDir)
	if err != nil {
		return nil, fmt.Errorf("data directory of the embedded etcd: %w", err)
	}

	socket := filepath.Join(dir, socketFile)
	if len(socket) > maxSocketPath {
		return nil, fmt.Errorf("data directory %s of the embedded etcd: choose one with a path shorter by %d bytes, since a unix socket goes into it", dir, len(socket)-maxSocketPath)
	}

	e := embed.NewConfig()
	e.Dir = dir
	e.Name = "weft"
	if c.Name != "" {
		e.Name = c.Name
	}
	e.ListenClientUrls, e.AdvertiseClientUrls = client, client
	e.ListenPeerUrls, e.AdvertisePeerUrls = peer, peer
	// etcd also serves HTTP: version, health, metrics, debug variables. On a
	// socket in the data directory they are for root only, and gRPC, which
	// has the port alone then, need not run inside Go's HTTP server.
	e.ListenClientHttpUrls = []url.URL{{Scheme: "unix", Path: socket}}
	e.InitialCluster = e.InitialClusterFromName(e.Name)
	// The token goes into the cluster's ID when the data directory is new,
	// and is not looked at later. A random one lets clients see that a wiped
	// directory is another cluster.
	e.InitialClusterToken = rand.Text()

	e.ClientTLSInfo = transport.TLSInfo{
		CertFile:       c.CertFile,
		KeyFile:        c.KeyFile,
		TrustedCAFile:  c.CAFile,
		ClientCertAuth: c.CAFile != "",
	}
	e.PeerTLSInfo = e.ClientTLSInfo

	e.QuotaBackendBytes = quota
	e.AutoCompactionMode = embed.CompactorModePeriodic
	e.AutoCompactionRetention = "1h"
	e.EnableGRPCGateway = false
	e.EnablePprof = false
	e.LogLevel = "warn"
	return e, nil
}

// start starts etcd and waits until it serves.
func (m *Member) start(ctx context.Context, cfg *embed.Config) error {
	type result struct {
		etcd *embed.Etcd
		err  error
	}
	// In a goroutine of its own, which a fatal error may end or leave hanging.
	started := make(chan result, 1)
	go func() {
		defer func() {
			// etcd 3.7 dereferences nil where a log holds nothing valid.
			if p := recover(); p != nil {
				started <- result{nil, fmt.Errorf("etcd panicked: %v", p)}
			}
		}()
		e, err := embed.StartEtcd(cfg)
		started <- result{e, err}
	}()
	late := time.NewTimer(startTimeout)
	defer late.Stop()

	select {
	case r := <-started:
		if r.err != nil {
			return explain(cfg, r.err)
		}
		m.etcd = r.etcd
	case <-m.fatal.done:
		return explain(cfg, m.fatal.err)
	case <-late.C:
		return explain(cfg, fmt.Errorf("not started within %v", startTimeout))
	}

	select {
	case <-m.etcd.Server.ReadyNotify():
		return nil
	case <-m.fatal.done:
		return explain(cfg, m.fatal.err)
	case err := <-m.etcd.Err():
		m.etcd.Close()
		return explain(cfg, err)
	case <-late.C:
		m.etcd.Close()
		return explain(cfg, fmt.Errorf("not ready within %v", startTimeout))
	case <-ctx.Done():
		m.etcd.Close()
		return fmt.Errorf("start the embedded etcd: %w", context.Cause(ctx))
	}
}

// explain says what to do about the usual reasons not to start.
func explain(cfg *embed.Config, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("start the embedded etcd: %w: is an etcd or a second weftd running? choose another address with --etcd-embedded-listen", err)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return fmt.Errorf("start the embedded etcd: %w: no interface of this host has that address", err)
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EROFS):
		return fmt.Errorf("start the embedded etcd with data directory %s: %w", cfg.Dir, err)
	}
	return fmt.Errorf("start the embedded etcd with data directory %s: %w; if its files are damaged, "+
		"move the directory away and start anew: nodes that run take their leases again, the network config must be set again", cfg.Dir, err)
}

// Endpoints returns the URLs by which this host reaches the member.
func (m *Member) Endpoints() []string { return m.endpoints }

// run waits for the end of the member, and closes it.
func (m *Member) run() {
	defer close(m.done)
	select {
	case <-m.closing:
	case <-m.fatal.done:
		m.err = fmt.Errorf("the embedded etcd failed: %w", m.fatal.err)
	case err := <-m.etcd.Err():
		m.err = fmt.Errorf("the embedded etcd failed: %w", err)
	case <-m.etcd.Server.StopNotify():
		m.err = errors.New("the embedded etcd stopped by itself")
	}

	m.closeOnce.Do(func() { close(m.closing) }) // ends the streams
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		m.etcd.Close()
	}()
	select {
	case <-closed:
		// The lock is only given back when nothing writes any more.
		m.lock.Close()
	case <-time.After(closeTimeout):
		if m.err == nil {
			m.err = fmt.Errorf("the embedded etcd did not stop within %v", closeTimeout)
		}
	}
}

// endOnClose ends a stream when the member closes. etcd stops gracefully, which
// watches would make it do only after seven seconds.
func (m *Member) endOnClose(srv any, ss grpc.ServerStream, _ *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
	ctx, cancel := context.WithCancel(ss.Context())
	defer cancel()
	go func() {
		select {
		case <-m.closing:
			cancel()
		case <-ctx.Done():
		}
	}()
	err := handle(srv, endingStream{ss, ctx})
	select {
	case <-m.closing:
		// As when a connection ends: clients of any kind try again.
		return status.Error(codes.Unavailable, "etcd is stopping")
	default:
		return err
	}
}

// endingStream is a stream with a context of ours.
type endingStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (s endingStream) Context() context.Context { return s.ctx }

// Done is closed when the member has ended, by Close or by a failure.
func (m *Member) Done() <-chan struct{} { return m.done }

// Err tells why the member ended. It is nil while it runs, and after Close.
func (m *Member) Err() error {
	select {
	case <-m.done:
		return m.err
	default:
		return nil
	}
}

// Close stops the member and waits until it has ended.
func (m *Member) Close() error {
	m.closeOnce.Do(func() { close(m.closing) })
	<-m.done
	return m.err
}
