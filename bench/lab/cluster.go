package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

// The networks of the lab. They are ranges set aside for documentation and
// benchmarks, so that nothing of a real network is shadowed.
var (
	UnderlayIPv4 = netip.MustParsePrefix("192.0.2.0/24")
	UnderlayIPv6 = netip.MustParsePrefix("2001:db8:57::/64")
)

// MaxHosts is how many hosts have room on the underlay.
const MaxHosts = 250

// switchNumber is the switch's place in the underlay networks.
const switchNumber = 254

// Spec says what a cluster looks like.
type Spec struct {
	// Name starts the names of all namespaces, and names the directory for
	// logs and state under the system's temporary directory.
	Name  string
	Hosts int
	MTU   int // of the underlay in bytes; 0 is 1500

	// IPv4 and IPv6 are the underlay's networks, for instance UnderlayIPv4.
	// Either may be the zero Prefix; with both zero it is UnderlayIPv4.
	IPv4, IPv6 netip.Prefix
}

// Cluster is a number of hosts on one underlay:
//
//	NAME-container1            NAME-container2
//	      eth0                       eth0
//	       │                          │
//	     veth0                      veth0
//	 ┌── cni0 ──┐               ┌── cni0 ──┐     made by AttachContainer
//	 │NAME-host1│               │NAME-host2│ …
//	 └── eth0 ──┘               └── eth0 ──┘     192.0.2.1, 192.0.2.2 …
//	       │                          │
//	     port1 ──── NAME-switch ──── port2       br0: 192.0.2.254
//
// Each host's default route leads to the switch, which serves as the world
// outside. A cluster's methods are not safe for concurrent use.
type Cluster struct {
	Spec
	Dir    string // logs and state, one folder for each host
	Switch *Namespace
	Hosts  []*Host

	run       *run
	processes []*Process // in the order they were started
}

// NewCluster builds a cluster. What an earlier run of the same name left
// behind is removed first; if one still runs, the error is ErrRunning.
func NewCluster(spec Spec) (*Cluster, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("making network namespaces needs root")
	}
	if spec.Hosts < 1 || spec.Hosts > MaxHosts {
		return nil, fmt.Errorf("%d hosts: from 1 to %d have room on the underlay", spec.Hosts, MaxHosts)
	}
	if spec.MTU == 0 {
		spec.MTU = 1500
	}
	if !spec.IPv4.IsValid() && !spec.IPv6.IsValid() {
		spec.IPv4 = UnderlayIPv4
	}
	r, err := openRun(spec.Name)
	if err != nil {
		return nil, err
	}
	c := &Cluster{Spec: spec, Dir: r.dir, run: r}
	if err := c.build(); err != nil {
		return nil, errors.Join(err, c.Close(false))
	}
	return c, nil
}

func (c *Cluster) build() (err error) {
	if c.Switch, err = NewNamespace(c.Name + "-switch"); err != nil {
		return err
	}
	if err := c.Switch.Bridge("br0", c.MTU); err != nil {
		return err
	}
	for _, network := range c.networks() {
		if err := c.Switch.AddAddr("br0", nthAddr(network, switchNumber)); err != nil {
			return err
		}
	}
	for n := 1; n <= c.Spec.Hosts; n++ {
		h, err := c.newHost(n)
		if err != nil {
			return err
		}
		c.Hosts = append(c.Hosts, h)
	}
	return nil
}

func (c *Cluster) newHost(n int) (*Host, error) {
	h := &Host{Number: n, Dir: filepath.Join(c.Dir, fmt.Sprintf("host%d", n)), cluster: c}
	if err := os.Mkdir(h.Dir, 0o755); err != nil {
		return nil, err
	}
	var err error
	if h.Namespace, err = NewNamespace(fmt.Sprintf("%s-host%d", c.Name, n)); err != nil {
		return nil, err
	}
	for _, network := range c.networks() {
		if addr := nthAddr(network, n).Addr(); addr.Is4() {
			h.IPv4 = addr
		} else {
			h.IPv6 = addr
		}
	}
	return h, h.PlugIn()
}

// networks lists the underlay's networks.
func (c *Cluster) networks() []netip.Prefix {
	var all []netip.Prefix
	for _, p := range []netip.Prefix{c.IPv4, c.IPv6} {
		if p.IsValid() {
			all = append(all, p)
		}
	}
	return all
}

// nthAddr is the network's address n, 0 to 255, with the network's length.
func nthAddr(network netip.Prefix, n int) netip.Prefix {
	b := network.Masked().Addr().AsSlice()
	b[len(b)-1] += byte(n)
	addr, _ := netip.AddrFromSlice(b)
	return netip.PrefixFrom(addr, network.Bits())
}

// Close ends every process of the cluster, last started first, and removes
// its namespaces and, without keepLogs, its directory.
func (c *Cluster) Close(keepLogs bool) error {
	var errs []error
	for i := len(c.processes) - 1; i >= 0; i-- {
		errs = append(errs, c.processes[i].Stop())
	}
	errs = append(errs, c.run.removeNamespaces()...)
	errs = append(errs, c.run.removeCgroups()...)
	return errors.Join(append(errs, c.run.close(keepLogs))...)
}

// Leave lets the cluster live on when this process ends. Sweep, or the next
// NewCluster of the same name, removes it.
func (c *Cluster) Leave() error { return c.run.close(true) }
