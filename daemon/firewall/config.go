package firewall

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"

	"github.com/weftnet/weft/daemon/firewall/rule"
)

// Config is the desired state of the node's firewall.
type Config struct {
	Network4, Network6 netip.Prefix // the cluster network; zero where the family is not enabled
	Subnet4, Subnet6   netip.Prefix // this node's lease, inside the network
	Tunnel4, Tunnel6   netip.Addr   // this node's tunnel address
	Devices            []string     // overlay devices; they need not exist yet
	Direct             []string     // underlay devices by which peers' packets come without a tunnel

	Masquerade  bool // --ip-masq
	RandomFully bool // unless --ip-masq-fully-random-disable
	Forward     bool // --iptables-forward-rules
	ClampMSS    bool
}

// deviceName is what may stand in a rule; the kernel allows more, but iptables
// would read some of it as syntax.
var deviceName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`)

func (c Config) validate() error {
	for _, f := range []struct {
		name            string
		network, subnet netip.Prefix
		tunnel          netip.Addr
		is4             bool
	}{
		{"IPv4", c.Network4, c.Subnet4, c.Tunnel4, true},
		{"IPv6", c.Network6, c.Subnet6, c.Tunnel6, false},
	} {
		if f.network == (netip.Prefix{}) {
			continue
		}
		if !f.network.IsValid() || f.network.Masked() != f.network || f.network.Addr().Is4() != f.is4 {
			return fmt.Errorf("%s network %s: want a masked %s prefix", f.name, f.network, f.name)
		}
		if !f.subnet.IsValid() || f.subnet.Masked() != f.subnet || f.subnet.Bits() < f.network.Bits() || !f.network.Contains(f.subnet.Addr()) {
			return fmt.Errorf("%s subnet %s: want a masked prefix inside %s", f.name, f.subnet, f.network)
		}
		if c.Masquerade && !f.subnet.Contains(f.tunnel) {
			return fmt.Errorf("%s tunnel address %s: want an address inside %s", f.name, f.tunnel, f.subnet)
		}
	}
	for _, d := range slices.Concat(c.Devices, c.Direct) {
		if !deviceName.MatchString(d) {
			return fmt.Errorf("device %q: want at most 15 letters, digits, '.', '_' and '-'", d)
		}
	}
	return nil
}

var (
	multicast4 = netip.MustParsePrefix("224.0.0.0/4")
	multicast6 = netip.MustParsePrefix("ff00::/8")
)

// rules turns the configuration into rules. A family that is not enabled gets
// the empty set, which removes what was there.
func (c Config) rules() rule.Sets {
	return rule.Sets{
		IPv4: c.family(c.Network4, c.Subnet4, c.Tunnel4, multicast4),
		IPv6: c.family(c.Network6, c.Subnet6, c.Tunnel6, multicast6),
	}
}

func (c Config) family(network, subnet netip.Prefix, tunnel netip.Addr, multicast netip.Prefix) rule.Set {
	var s rule.Set
	if !network.IsValid() {
		return s
	}
	if c.Masquerade {
		s.Postrouting = []rule.Rule{
			// On the local bridge others may have to translate: Docker does
			// for a container that calls its own published port.
			{Src: subnet, Dst: subnet, Action: rule.Return},
			// Inside the overlay a container is known by its own address. The
			// decision is final: Docker's masquerade of the bridge comes later.
			{Src: network, Dst: network, Action: rule.KeepSource},
			// From outside to a local container: the client's address stays,
			// unless another rule (Docker's, for 127.0.0.1) has to translate.
			{Dst: subnet, Action: rule.Return},
			{Src: network, Dst: multicast, Action: rule.KeepSource},
			// Link-local is deliberately no exception: 169.254.169.254 is
			// where clouds serve metadata, and it answers the host only.
			{Src: network, Action: rule.Masquerade, RandomFully: c.RandomFully},
			// From outside to a container elsewhere (a published port, a host
			// that uses its underlay address): a peer takes inner sources only
			// from our subnet, and only so do the replies come back this way.
			{Dst: network, Action: rule.SNAT, To: tunnel, RandomFully: c.RandomFully},
		}
	}
	for _, d := range c.Devices {
		if c.ClampMSS {
			s.Clamp = append(s.Clamp,
				rule.Rule{Out: d, Action: rule.ClampMSS},
				rule.Rule{In: d, Action: rule.ClampMSS})
		}
	}
	if c.Forward {
		for _, d := range c.Direct {
			// The backends look at the sources of what their tunnels bring; here
			// nobody does, and what comes from outside is not of this node.
			s.Raw = append(s.Raw, rule.Rule{In: d, Src: subnet, Action: rule.Return})
		}
		for _, d := range slices.Concat(c.Devices, c.Direct) {
			s.Raw = append(s.Raw, rule.Rule{In: d, Src: network, Dst: subnet, Action: rule.Accept})
			s.Overlay = append(s.Overlay,
				rule.Rule{Out: d, Src: network, Dst: network, Action: rule.Accept},
				rule.Rule{In: d, Src: network, Dst: network, Action: rule.Accept})
		}
		s.Forward = []rule.Rule{
			{Src: network, Action: rule.Accept},
			{Dst: network, Action: rule.Accept},
		}
	}
	return s
}
