package run

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/traffic"
)

// A pathKind is a way to join two hosts. join has everything done that makes
// the container of the first host reach that of the second.
type pathKind struct {
	name  string
	weftd bool // runs weftd
	join  func(context.Context, *Options, *path) error
}

var pathKinds = []pathKind{
	{name: "direct", join: joinDirectly},
	{name: "vxlan", join: joinByVXLAN},
	{name: "udp", weftd: true, join: joinByWeftd()},
	{name: "udp-classic", weftd: true, join: joinByWeftd("--udp-engine=classic")},
}

// PathNames lists what can be measured.
func PathNames() (names []string) {
	for _, k := range pathKinds {
		names = append(names, k.name)
	}
	return names
}

func (o *Options) needsWeftd() bool {
	for _, name := range o.Paths {
		if kindOf(name).weftd {
			return true
		}
	}
	return false
}

func kindOf(name string) (kind pathKind) {
	for _, k := range pathKinds {
		if k.name == name {
			kind = k
		}
	}
	return kind
}

// path is a lab of its own, with two hosts and a container on each. All paths
// stand side by side for the whole run, so that they can be measured in turns.
type path struct {
	name    string
	cluster *lab.Cluster
	mtu     int // of the containers
	weftds  []*lab.Weftd
}

const hosts = 2

// containerNetwork is the cluster network of every path.
var containerNetwork = netip.MustParsePrefix("10.5.0.0/16")

// underlayMTU is in bytes.
const underlayMTU = 1500

// buildPath builds a path and waits until packets get through.
func buildPath(ctx context.Context, o *Options, name string) (p *path, err error) {
	// Without hyphens: the lab takes namespaces that start with its own name
	// and a hyphen for its own.
	cluster, err := lab.NewCluster(lab.Spec{Name: o.Name + "-" + strings.ReplaceAll(name, "-", ""), Hosts: hosts, MTU: underlayMTU})
	if err != nil {
		return nil, fmt.Errorf("build path %s: %w", name, err)
	}
	p = &path{name: name, cluster: cluster}
	err = kindOf(name).join(ctx, o, p)
	if err == nil {
		err = traffic.WaitReachable(ctx, p.from().Namespace, p.to().IPv4)
	}
	if err != nil {
		return p, fmt.Errorf("build path %s: %w", name, err)
	}
	return p, nil
}

func (p *path) from() *lab.Container { return p.cluster.Hosts[0].Container }
func (p *path) to() *lab.Container   { return p.cluster.Hosts[1].Container }

// check returns an error if a daemon of the path has ended.
func (p *path) check() error {
	for _, w := range p.weftds {
		select {
		case <-w.Done():
			return fmt.Errorf("weftd of path %s in %s ended (%v); the end of %s:\n%s", p.name, w.Host.Name, w.Err(), w.Log, w.LogTail(10))
		default:
		}
	}
	return nil
}

// attach puts a container on each host, in 10.5.n.0/24.
func (p *path) attach(mtu int) error {
	p.mtu = mtu
	for _, h := range p.cluster.Hosts {
		err := h.AttachContainer(lab.SubnetEnv{Network: containerNetwork, Subnet: gateway(h), MTU: mtu})
		if err != nil {
			return err
		}
	}
	return nil
}

// gateway is the address of a host's bridge, where no weftd chooses it.
func gateway(h *lab.Host) netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(h.Number), 1}), 24)
}

// joinDirectly routes between the hosts without an overlay: what the devices
// and the generator can do at most.
func joinDirectly(_ context.Context, _ *Options, p *path) error {
	if err := p.attach(underlayMTU); err != nil {
		return err
	}
	for _, h := range p.cluster.Hosts {
		peer := p.cluster.Hosts[hosts-h.Number]
		if err := h.AddRoute(gateway(peer).Masked(), peer.IPv4); err != nil {
			return err
		}
	}
	return nil
}

const (
	etcdEndpoint  = "http://192.0.2.1:2379" // inside weftd on host 1
	networkConfig = `{"Network": "10.5.0.0/16", "Backend": {"Type": "udp"}}`
)

// joinByWeftd starts weftd on each host, with an etcd in the first one.
func joinByWeftd(flags ...string) func(context.Context, *Options, *path) error {
	// The lab must work where no iptables program is installed.
	flags = append(flags, "--firewall=nftables")
	return func(ctx context.Context, o *Options, p *path) error {
		for _, h := range p.cluster.Hosts {
			// In here nobody else reaches etcd. Real clusters: `weftd etcd init`.
			etcd := []string{"--etcd-embedded", "--etcd-embedded-listen=" + etcdEndpoint, "--etcd-embedded-insecure"}
			if h.Number > 1 {
				etcd = []string{"--etcd-endpoints=" + etcdEndpoint}
			}
			w, err := h.StartWeftd(o.Weftd, append(etcd, flags...)...)
			if err != nil {
				return err
			}
			p.weftds = append(p.weftds, w)
			if h.Number > 1 {
				continue
			}
			running, cancel := w.WhileRunning(ctx)
			err = h.SetNetworkConfig(running, o.Weftd, etcdEndpoint, networkConfig)
			cancel()
			if err != nil {
				return fmt.Errorf("%w; the end of %s:\n%s", err, w.Log, w.LogTail(10))
			}
		}
		for _, w := range p.weftds {
			env, err := w.WaitReady(ctx)
			if err != nil {
				return err
			}
			if err := w.Host.AttachContainer(env); err != nil {
				return err
			}
			p.mtu = env.MTU
		}
		return nil
	}
}
