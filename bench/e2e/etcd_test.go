package e2e

import (
	"context"
	"net"
	"net/url"
	"os"
	"path/filepath"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/weftnet/weft/bench/lab"
)

// The test binary runs again as the cluster's etcd: a process of its own, that
// a case can stop, kill and start again on the same data.
const (
	etcdDirVariable = "WEFT_E2E_ETCD_DIR"
	etcdURLVariable = "WEFT_E2E_ETCD_URL"
)

// serveEtcd runs a one-member etcd until the process is ended.
func serveEtcd(dir, clientURL string) error {
	client, err := url.Parse(clientURL)
	if err != nil {
		return err
	}
	cfg := embed.NewConfig()
	cfg.Dir = dir
	cfg.LogLevel = "warn"
	cfg.ListenClientUrls = []url.URL{*client}
	cfg.AdvertiseClientUrls = cfg.ListenClientUrls
	cfg.UnsafeNoFsync = true // the machine is not going to lose power
	member, err := embed.StartEtcd(cfg)
	if err != nil {
		return err
	}
	return <-member.Err()
}

// startEtcd starts etcd, with the data it had when it last ran.
func (c *cluster) startEtcd() {
	c.t.Helper()
	self, err := os.Executable()
	if err != nil {
		c.t.Fatal(err)
	}
	c.etcd, err = c.etcdHost.RunEnv("etcd", []string{
		etcdDirVariable + "=" + filepath.Join(c.etcdHost.Dir, "etcd"),
		etcdURLVariable + "=" + c.endpoint,
	}, self)
	if err != nil {
		c.t.Fatal(err)
	}
}

// etcdClient returns a client that is closed when the test ends.
func (c *cluster) etcdClient() *clientv3.Client {
	c.t.Helper()
	client, err := clientv3.New(clientv3.Config{
		Endpoints: []string{c.endpoint},
		Logger:    zap.NewNop(),
		DialOptions: []grpc.DialOption{grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
			return c.etcdHost.Dial(ctx, net.Dialer{}, "tcp", addr)
		})},
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { client.Close() })
	return client
}

// put writes a key to etcd, delete removes one, and get reads one ("" if it is
// not there).
func (c *cluster) put(key, value string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if _, err := c.etcdClient().Put(ctx, key, value); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) delete(key string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	if _, err := c.etcdClient().Delete(ctx, key); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) get(key string) string {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), patience)
	defer cancel()
	r, err := c.etcdClient().Get(ctx, key)
	if err != nil {
		c.t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

// etcdURL is etcd's address on its host.
func etcdURL(h *lab.Host) string {
	addr := h.IPv4
	if !addr.IsValid() {
		addr = h.IPv6
	}
	return "http://" + net.JoinHostPort(addr.String(), "2379")
}
