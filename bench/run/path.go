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
// the container of the first host reach that of the second: it starts what is
// needed on the hosts, adds it to the path's processes, and attaches the
// containers. All that another overlay needs is an entry here.
type pathKind struct {
	name  string
	needs program // that must be installed; "" is none
	join  func(context.Context, *Options, *path) error

	carried place // where packets are carried, if that is weftd's choice
}

// program is a daemon that a path runs.
type program string

const (
	weftd    program = "weftd"
	flanneld program = "flanneld"
)

var pathKinds = []pathKind{
	{name: "direct", join: joinDirectly},
	{name: "host-gw", needs: weftd, join: joinByWeftd("host-gw")},
	{name: "vxlan", needs: weftd, join: joinByWeftd("vxlan")},
	{name: "udp", needs: weftd, join: joinByWeftd("udp"), carried: kernelToo},
	{name: "udp-user", needs: weftd, join: joinByWeftd("udp", "--udp-disable=assist"), carried: userSpace},
	{name: "udp-classic", needs: weftd, join: joinByWeftd("udp", "--udp-engine=classic"), carried: userSpace},
	{name: "flanneld-udp", needs: flanneld, join: joinByFlanneld("udp")},
	{name: "flanneld-vxlan", needs: flanneld, join: joinByFlanneld("vxlan")},
}

// PathNames lists what can be measured.
func PathNames() (names []string) {
	for _, k := range pathKinds {
		names = append(names, k.name)
	}
	return names
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
// stand side by side, so that they can be measured in turns.
type path struct {
	name     string
	cluster  *lab.Cluster
	mtu      int        // of the containers
	daemons  []*process // that carry packets or have the kernel do so, one on each host
	helpers  []*process // what else runs
	underlay *underlay

	weftds  []*lab.Weftd // of daemons
	carried place
	assist  string // assistInForce, or why it is not; "" if carried is
}

// process is a program of the path.
type process struct {
	*lab.Process
	host string
}

// hosts that are joined. A further one has etcd, so that the daemons that are
// measured are daemons only.
const hosts = 2

// containerNetwork is the cluster network of every path.
var containerNetwork = netip.MustParsePrefix("10.5.0.0/16")

// buildPath builds a path on an underlay of a profile and waits until packets get
// through. The path is not nil if there is something to close.
func buildPath(ctx context.Context, o *Options, name string, in profile) (p *path, err error) {
	kind := kindOf(name)
	spec := lab.Spec{Name: labName(o, name), Hosts: hosts, MTU: in.mtu}
	if kind.needs != "" {
		spec.Hosts++
	}
	cluster, err := lab.NewCluster(spec)
	if err != nil {
		return nil, fmt.Errorf("build path %s: %w", name, err)
	}
	p = &path{name: name, cluster: cluster, carried: kind.carried}
	p.underlay, err = newUnderlay(cluster)
	if err == nil {
		err = p.underlay.tryAll(o.Profiles, in)
	}
	if err == nil {
		err = kind.join(ctx, o, p)
	}
	if err == nil {
		err = traffic.WaitReachable(ctx, p.from().Namespace, p.to().IPv4)
	}
	if err == nil {
		err = p.findAssist(ctx)
	}
	if err == nil && in.whole() {
		err = p.waitSuperpackets(ctx)
	}
	if err != nil {
		return p, fmt.Errorf("build path %s: %w", name, err)
	}
	return p, nil
}

// labName is without hyphens: the lab takes namespaces that start with its own
// name and a hyphen for its own.
func labName(o *Options, path string) string {
	return o.Name + "-" + strings.ReplaceAll(path, "-", "")
}

func (p *path) from() *lab.Container { return p.cluster.Hosts[0].Container }
func (p *path) to() *lab.Container   { return p.cluster.Hosts[1].Container }

// ends are the hosts that are joined.
func (p *path) ends() []*lab.Host { return p.cluster.Hosts[:hosts] }

// check returns an error if a process of the path has ended.
func (p *path) check() error {
	for _, d := range append(p.daemons[:len(p.daemons):len(p.daemons)], p.helpers...) {
		select {
		case <-d.Done():
			return fmt.Errorf("%s of path %s in %s ended (%v); the end of %s:\n%s", d.Name, p.name, d.host, d.Err(), d.Log, d.LogTail(10))
		default:
		}
	}
	return nil
}

// close removes the lab. Logs of a path that broke stay.
func (p *path) close() (logs string, err error) {
	if p.check() != nil {
		return p.cluster.Dir, p.cluster.Close(true)
	}
	return "", p.cluster.Close(false)
}

// joinDirectly routes between the hosts without an overlay: what the devices
// and the generator can do at most.
func joinDirectly(_ context.Context, _ *Options, p *path) error {
	p.mtu = p.cluster.MTU
	gateway := func(h *lab.Host) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, byte(h.Number), 1}), 24)
	}
	for _, h := range p.ends() {
		err := h.AttachContainer(lab.SubnetEnv{Network: containerNetwork, Subnet: gateway(h), MTU: p.mtu})
		if err != nil {
			return err
		}
		peer := p.cluster.Hosts[hosts-h.Number]
		if err := h.AddRoute(gateway(peer).Masked(), peer.IPv4); err != nil {
			return err
		}
	}
	return nil
}
