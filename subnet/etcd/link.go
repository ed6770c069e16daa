package etcd

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/etcd/internal/zaplog"
)

var errClosed = errors.New("the registry is closed")

// minFailures is how many failures in a row it takes, besides their time, for
// a fresh client.
const minFailures = 4

// link holds the client in use. It makes the first one when it is needed, for
// making one asks for a token where there is a user, and a fresh one when the
// old one has only failed for a while: a client can be stuck where a new one
// is not (flannel issue 2171).
type link struct {
	cfg clientv3.Config

	// making is held by the one call that makes a client; the others wait for
	// it as long as their contexts let them.
	making chan struct{}

	mu      sync.Mutex
	current *clientv3.Client
	closed  bool
	fails   int       // in a row, on current
	since   time.Time // of the first of them
}

func newLink(cfg clientv3.Config) *link {
	return &link{cfg: cfg, making: make(chan struct{}, 1)}
}

// clientConfig returns how every client is made.
func clientConfig(cfg Config, endpoints []string, secure bool, files tlsFiles) clientv3.Config {
	creds := insecure.NewCredentials()
	if secure {
		creds = reloadingTLS{files}
	}
	opts := []grpc.DialOption{
		// It comes after the credentials that clientv3 sets, and wins.
		grpc.WithTransportCredentials(creds),
		// gRPC's own maximum is two minutes: too long once etcd is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 200 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 3 * time.Second},
			MinConnectTimeout: 3 * time.Second,
		}),
		// clientv3 lets every call wait for a connection until its time is
		// out, and then only the time-out is known. Calls that fail at once
		// say why.
		grpc.WithChainUnaryInterceptor(func(ctx context.Context, method string, req, reply any, cc *grpc.ClientConn, invoke grpc.UnaryInvoker, opts ...grpc.CallOption) error {
			return invoke(ctx, method, req, reply, cc, append(opts, grpc.WaitForReady(false))...)
		}),
	}
	return clientv3.Config{
		Endpoints:   endpoints,
		Username:    cfg.Username,
		Password:    cfg.Password,
		DialTimeout: defaultTiming.request, // for the first token
		// etcd refuses pings more often than every 5 s. A broken connection
		// is noticed after both times at the latest.
		DialKeepAliveTime:    10 * time.Second,
		DialKeepAliveTimeout: 4 * time.Second,
		// Reads are tried again while an endpoint is changed for another.
		MaxUnaryRetries:    10,
		BackoffWaitBetween: 50 * time.Millisecond,
		DialOptions:        opts,
		Logger:             zaplog.Client(cfg.Log),
	}
}

// client returns the client in use, or makes one.
func (l *link) client(ctx context.Context) (*clientv3.Client, error) {
	select {
	case l.making <- struct{}{}:
		defer func() { <-l.making }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l.mu.Lock()
	c, closed := l.current, l.closed
	l.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	if c != nil {
		return c, nil
	}

	// The config's context is the client's for good, so the caller's may end
	// it only until the client is made.
	life, cancel := context.WithCancel(context.Background())
	stop := context.AfterFunc(ctx, cancel)
	cfg := l.cfg
	cfg.Context = life
	c, err := clientv3.New(cfg)
	if !stop() && err == nil {
		c.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		cancel()
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		c.Close()
		return nil, errClosed
	}
	l.current = c
	return c, nil
}

// note records how a call on c ended and drops c if it only failed for the
// time of replace.
func (l *link) note(c *clientv3.Client, err error, replace time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if c == nil || c != l.current {
		return
	}
	if answered(err) {
		l.fails = 0
		return
	}
	if l.fails == 0 {
		l.since = time.Now()
	}
	l.fails++
	if l.fails >= minFailures && time.Since(l.since) >= replace {
		l.current, l.fails = nil, 0
		c.Close()
	}
}

// answered tells that err, if any, is an answer of etcd.
func answered(err error) bool {
	if err == nil || errors.Is(err, errLost) || errors.Is(err, subnet.ErrCompacted) {
		return true
	}
	var e rpctypes.EtcdError
	return errors.As(rpctypes.Error(err), &e)
}

func (l *link) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	if l.current != nil {
		l.current.Close()
		l.current = nil
	}
	return nil
}
