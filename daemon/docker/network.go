package docker

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/weftnet/weft/subnet/envfile"
)

// label marks the networks that weftd made.
const label = "io.github.weftnet.weft"

// Options of Docker's bridge driver.
const (
	optionMTU     = "com.docker.network.driver.mtu"
	optionMasq    = "com.docker.network.bridge.enable_ip_masquerade"
	optionTrusted = "com.docker.network.bridge.trusted_host_interfaces"
)

// trusted are the overlay devices of all backends. From Docker 28.2 on, what
// comes by them is spared Docker's drop of packets that are routed to
// containers; earlier versions pass over the option. It is the same whatever
// the backend, so that a network need not be made anew when that changes.
const trusted = "flannel0:flannel.1:flannel-v6.1"

// Network is a bridge network of Docker's that serves the leased subnet.
type Network struct {
	Name                 string
	Subnet, IPv6Subnet   netip.Prefix // masked; IPv6 is zero unless dual stack
	Gateway, IPv6Gateway netip.Addr
	MTU                  int  // bytes
	IPMasq               bool // Docker masquerades, since weftd does not
}

// NetworkFor returns the network for the subnet that f names.
func NetworkFor(name string, f envfile.File) Network {
	return Network{
		Name:   name,
		Subnet: f.Subnet.Masked(), Gateway: f.Subnet.Addr(),
		IPv6Subnet: f.IPv6Subnet.Masked(), IPv6Gateway: f.IPv6Subnet.Addr(),
		MTU:    f.MTU,
		IPMasq: !f.IPMasq,
	}
}

// String is the network on one line.
func (n Network) String() string {
	text := fmt.Sprintf("%s, gateway %s", n.Subnet, n.Gateway)
	if n.IPv6Subnet.IsValid() {
		text += fmt.Sprintf(", and %s, gateway %s", n.IPv6Subnet, n.IPv6Gateway)
	}
	return text + fmt.Sprintf(", MTU %d, Docker's masquerade %s", n.MTU, map[bool]string{true: "on", false: "off"}[n.IPMasq])
}

func (n Network) driverOptions() map[string]string {
	return map[string]string{
		optionMTU:     strconv.Itoa(n.MTU),
		optionMasq:    strconv.FormatBool(n.IPMasq),
		optionTrusted: trusted,
	}
}

func (n Network) ipam() []network.IPAMConfig {
	configs := []network.IPAMConfig{{Subnet: n.Subnet, Gateway: n.Gateway}}
	if n.IPv6Subnet.IsValid() {
		configs = append(configs, network.IPAMConfig{Subnet: n.IPv6Subnet, Gateway: n.IPv6Gateway})
	}
	return configs
}

func (n Network) request() client.NetworkCreateOptions {
	six := n.IPv6Subnet.IsValid()
	return client.NetworkCreateOptions{
		Driver:     "bridge",
		EnableIPv6: &six,
		IPAM:       &network.IPAM{Driver: "default", Config: n.ipam()},
		Options:    n.driverOptions(),
		Labels:     map[string]string{label: "network"},
	}
}

// differences says, line by line, where a network that exists is not as it
// should be.
func (n Network) differences(have network.Network) (differences []string) {
	if have.Driver != "bridge" || have.Internal {
		differences = append(differences, fmt.Sprintf("it has driver %s, internal %t", have.Driver, have.Internal))
	}
	want, got := n.ipam(), slices.Clone(have.IPAM.Config)
	slices.SortStableFunc(got, func(a, b network.IPAMConfig) int { return a.Subnet.Addr().Compare(b.Subnet.Addr()) })
	if !slices.EqualFunc(want, got, func(a, b network.IPAMConfig) bool {
		return a.Subnet == b.Subnet && a.Gateway == b.Gateway && !b.IPRange.IsValid()
	}) {
		differences = append(differences, fmt.Sprintf("its subnet is %s, instead of %s", subnets(got), subnets(want)))
	}
	options := n.driverOptions()
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if have.Options[key] != options[key] {
			differences = append(differences, fmt.Sprintf("its option %s is %q, not %q", key, have.Options[key], options[key]))
		}
	}
	return differences
}

// has returns the addresses that a container asked for as far as they are of
// this network; nil if none is.
func (n Network) has(asked *network.EndpointIPAMConfig) *network.EndpointIPAMConfig {
	if asked == nil {
		return nil
	}
	var kept network.EndpointIPAMConfig
	if n.Subnet.Contains(asked.IPv4Address) {
		kept.IPv4Address = asked.IPv4Address
	}
	if n.IPv6Subnet.Contains(asked.IPv6Address) {
		kept.IPv6Address = asked.IPv6Address
	}
	if !kept.IPv4Address.IsValid() && !kept.IPv6Address.IsValid() {
		return nil
	}
	return &kept
}

func subnets(configs []network.IPAMConfig) string {
	var all []string
	for _, c := range configs {
		all = append(all, fmt.Sprintf("%s with gateway %s", c.Subnet, c.Gateway))
	}
	return strings.Join(all, " and ")
}

// overlaps tells whether a network of Docker's has addresses of this one.
func (n Network) overlaps(have network.Network) bool {
	return slices.ContainsFunc(have.IPAM.Config, func(c network.IPAMConfig) bool {
		return c.Subnet.IsValid() && (c.Subnet.Overlaps(n.Subnet) || n.IPv6Subnet.IsValid() && c.Subnet.Overlaps(n.IPv6Subnet))
	})
}

// bridge is the name of the device of a network of Docker's.
func bridge(have network.Network) string {
	if name := have.Options["com.docker.network.bridge.name"]; name != "" {
		return name
	}
	return "br-" + have.ID[:min(12, len(have.ID))]
}
