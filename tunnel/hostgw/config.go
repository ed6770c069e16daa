package hostgw

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/weftnet/weft/tunnel"
)

// Config is all that New needs. The Backend object of the cluster's config has
// no fields for this backend.
type Config struct {
	Underlay tunnel.Underlay
	Network  tunnel.Network
	Log      *slog.Logger

	// Blackhole drops packets for this node's own subnet while no bridge has
	// it (--ip-blackhole-route).
	Blackhole bool
}

// side is what packets of one address family go through.
type side struct {
	ipv6    bool
	network netip.Prefix
}

// sides lists the families of the network that the underlay has too, and why
// others are missing. Peers send to the public address, and it must be on the
// interface itself: what stands between translates or filters by addresses it
// knows, and containers' are not among them.
func (c *Config) sides() (sides []side, missing []error, err error) {
	if !c.Network.IPv4.IsValid() {
		return nil, nil, errors.New("the network has no IPv4 prefix")
	}
	for _, f := range []struct {
		side
		local, public netip.Addr
	}{
		{side{false, c.Network.IPv4}, c.Underlay.IPv4, c.Underlay.PublicIPv4},
		{side{true, c.Network.IPv6}, c.Underlay.IPv6, c.Underlay.PublicIPv6},
	} {
		switch {
		case !f.network.IsValid():
		case !f.local.IsValid() || !f.public.IsValid():
			missing = append(missing, fmt.Errorf("%s has no address to carry %v: give it one, or use the udp backend, which carries either family over the other",
				c.Underlay.Name, f.network))
		case f.local != f.public:
			return nil, nil, fmt.Errorf("the public IP %v is not the address of %s, %v: host-gw routes directly and cannot pass address translation; use udp or vxlan",
				f.public, c.Underlay.Name, f.local)
		case c.Network.Contains(f.local):
			return nil, nil, fmt.Errorf("the address %v of %s lies inside the network of the containers: choose another Network or another interface", f.local, c.Underlay.Name)
		default:
			sides = append(sides, f.side)
		}
	}
	if len(sides) == 0 {
		return nil, nil, missing[0]
	}
	return sides, missing, nil
}
