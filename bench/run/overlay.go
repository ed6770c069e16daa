package run

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// etcdHost is the host that has etcd, and etcdEndpoint where it listens there.
const (
	etcdHost     = hosts + 1
	etcdEndpoint = "http://192.0.2.3:2379"
)

// startEtcd starts a weftd that serves etcd and nothing else, for it looks for
// its network config where there is none, and writes the config of the path's
// daemons.
func startEtcd(ctx context.Context, o *Options, p *path, backend string) error {
	h := p.cluster.Hosts[etcdHost-1]
	// In here nobody else reaches etcd. Real clusters: `weftd etcd init`.
	w, err := h.StartWeftd(o.Weftd, "--etcd-embedded", "--etcd-embedded-listen="+etcdEndpoint, "--etcd-embedded-insecure",
		"--etcd-prefix=/weft-bench/none", "--firewall=nftables")
	if err != nil {
		return err
	}
	p.helpers = append(p.helpers, &process{Process: w.Process, host: h.Name})
	running, cancel := w.WhileRunning(ctx)
	defer cancel()
	config := fmt.Sprintf(`{"Network": "%s", "Backend": {"Type": "%s"}}`, containerNetwork, backend)
	if err := h.SetNetworkConfig(running, o.Weftd, etcdEndpoint, config); err != nil {
		return fmt.Errorf("%w; the end of %s:\n%s", err, w.Log, w.LogTail(10))
	}
	return nil
}

// joinByWeftd starts weftd on both hosts.
func joinByWeftd(backend string, flags ...string) func(context.Context, *Options, *path) error {
	// The lab must work where no iptables program is installed.
	flags = append(flags, "--etcd-endpoints="+etcdEndpoint, "--firewall=nftables")
	return func(ctx context.Context, o *Options, p *path) error {
		if err := startEtcd(ctx, o, p, backend); err != nil {
			return err
		}
		for _, h := range p.ends() {
			w, err := h.StartWeftd(o.Weftd, flags...)
			if err != nil {
				return err
			}
			p.daemons = append(p.daemons, &process{Process: w.Process, host: h.Name})
			p.weftds = append(p.weftds, w)
		}
		for _, w := range p.weftds {
			env, err := w.WaitReady(ctx)
			if err != nil {
				return err
			}
			if err := p.attach(w.Host, env); err != nil {
				return err
			}
		}
		return nil
	}
}

// joinByFlanneld starts flannel's daemon on both hosts.
func joinByFlanneld(backend string) func(context.Context, *Options, *path) error {
	return func(ctx context.Context, o *Options, p *path) error {
		if err := startEtcd(ctx, o, p, backend); err != nil {
			return err
		}
		subnetFile := func(h *lab.Host) string { return filepath.Join(h.Dir, "flannel.env") }
		for _, h := range p.ends() {
			// Without rules for iptables: the lab must work where no such
			// program is installed.
			f, err := h.Run("flanneld", o.Flanneld, "-etcd-endpoints="+etcdEndpoint, "-iface=eth0",
				"-subnet-file="+subnetFile(h), "-iptables-forward-rules=false")
			if err != nil {
				return err
			}
			p.daemons = append(p.daemons, &process{Process: f, host: h.Name})
		}
		for _, h := range p.ends() {
			env, err := waitSubnetFile(ctx, p, subnetFile(h))
			if err != nil {
				return err
			}
			if err := p.attach(h, env); err != nil {
				return err
			}
		}
		return nil
	}
}

// waitSubnetFile waits until a daemon has written its subnet file.
func waitSubnetFile(ctx context.Context, p *path, file string) (lab.SubnetEnv, error) {
	for {
		env, err := lab.ReadSubnetEnv(file)
		if err == nil {
			return env, nil
		}
		if err := p.check(); err != nil {
			return env, err
		}
		select {
		case <-ctx.Done():
			return env, errors.Join(context.Cause(ctx), err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// attach puts a container on a host.
func (p *path) attach(h *lab.Host, env lab.SubnetEnv) error {
	p.mtu = env.MTU
	return h.AttachContainer(env)
}
