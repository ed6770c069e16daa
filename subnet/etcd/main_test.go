package etcd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/goleak"
	"go.uber.org/zap"

	"github.com/weftnet/weft/subnet/etcd/embedded"
	"github.com/weftnet/weft/subnet/subnettest"
)

// shared is the etcd of all tests that do no harm to it; each uses its own
// prefix. It is started when it is first needed: the processes of a fuzz test
// do not need it, and have no time for it.
var shared sharedMember

type sharedMember struct {
	once   sync.Once
	dir    string
	member *embedded.Member
	err    error
}

func (s *sharedMember) start() {
	if s.dir, s.err = os.MkdirTemp("", "weft"); s.err == nil {
		s.member, s.err = embedded.Start(context.Background(), embedded.Config{
			DataDir:      s.dir,
			ListenClient: []string{"http://127.0.0.1:0"},
		})
	}
}

// Endpoints are those of embedded.Member.
func (s *sharedMember) Endpoints() []string {
	s.once.Do(s.start)
	if s.err != nil {
		panic(s.err) // no test can do without
	}
	return s.member.Endpoints()
}

func (s *sharedMember) close() error {
	if s.member == nil {
		return nil
	}
	return errors.Join(s.member.Close(), os.RemoveAll(s.dir))
}

func TestMain(m *testing.M) { os.Exit(run(m)) }

func run(m *testing.M) int {
	code := m.Run()
	if err := shared.close(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	return code
}

var prefixes atomic.Int64

// newPrefix returns a prefix that no other test uses.
func newPrefix() string { return fmt.Sprintf("/test/%d", prefixes.Add(1)) }

// open returns a registry that is closed with the test. It waits for an answer
// as long as a busy machine may take.
func open(t testing.TB, cfg Config) *Registry {
	t.Helper()
	if cfg.Endpoints == nil {
		cfg.Endpoints = shared.Endpoints()
	}
	if cfg.Prefix == "" {
		cfg.Prefix = newPrefix()
	}
	r, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.timing.request = patience
	r.link.cfg.DialTimeout = patience
	t.Cleanup(func() { r.Close() })
	return r
}

// dial returns a client of etcd's own, for what others do to the store.
func dial(t testing.TB, cfg clientv3.Config) *clientv3.Client {
	t.Helper()
	if cfg.Endpoints == nil {
		cfg.Endpoints = shared.Endpoints()
	}
	cfg.Logger = zap.NewNop()
	c, err := clientv3.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// harness returns the controls of the contract suite for a registry.
func harness(t *testing.T, r *Registry, c *clientv3.Client) subnettest.Harness {
	must := func(t *testing.T, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	get := func(t *testing.T, key string) *clientv3.GetResponse {
		t.Helper()
		resp, err := c.Get(context.Background(), path.Join(r.prefix, key))
		must(t, err)
		return resp
	}
	return subnettest.Harness{
		Registry: r,
		Prefix:   r.prefix,
		ShortTTL: 2 * time.Second, // the least: one and a half times the election time-out
		Put: func(t *testing.T, key, value string, ttl time.Duration) int64 {
			t.Helper()
			var opts []clientv3.OpOption
			if ttl > 0 {
				lease, err := c.Grant(context.Background(), int64(ttl/time.Second))
				must(t, err)
				opts = append(opts, clientv3.WithLease(lease.ID))
			}
			resp, err := c.Put(context.Background(), path.Join(r.prefix, key), value, opts...)
			must(t, err)
			return resp.Header.Revision
		},
		Delete: func(t *testing.T, key string) {
			t.Helper()
			_, err := c.Delete(context.Background(), path.Join(r.prefix, key))
			must(t, err)
		},
		Get: func(t *testing.T, key string) (string, bool, bool) {
			t.Helper()
			resp := get(t, key)
			if len(resp.Kvs) == 0 {
				return "", false, false
			}
			return string(resp.Kvs[0].Value), resp.Kvs[0].Lease != 0, true
		},
		Expire: func(t *testing.T, key string) {
			t.Helper()
			resp := get(t, key)
			_, err := c.Revoke(context.Background(), clientv3.LeaseID(resp.Kvs[0].Lease))
			must(t, err)
		},
		Compact: func(t *testing.T) {
			t.Helper()
			resp := get(t, "config")
			_, err := c.Compact(context.Background(), resp.Header.Revision, clientv3.WithCompactPhysical())
			must(t, err)
		},
	}
}

func TestContract(t *testing.T) {
	subnettest.RunRegistry(t, func(t *testing.T) subnettest.Harness {
		return harness(t, open(t, Config{}), dial(t, clientv3.Config{}))
	})
}
