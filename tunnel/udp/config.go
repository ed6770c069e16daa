package udp

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/weftnet/weft/tunnel"
)

// DefaultPort and DefaultDevice are flannel's.
const (
	DefaultPort   = 8285
	DefaultDevice = "flannel0"
)

// Bytes that the tunnel adds to an inner packet: an IP and a UDP header.
const (
	overheadIPv4 = 20 + 8
	overheadIPv6 = 40 + 8
)

// Least MTU of the tunnel device: what every IPv4 host can reassemble (RFC
// 791), and what every IPv6 link has (RFC 8200 section 5).
const (
	minMTU     = 576
	minMTUIPv6 = 1280
)

// Config is all that New needs.
type Config struct {
	Underlay tunnel.Underlay
	Network  tunnel.Network
	Backend  json.RawMessage // the Backend object of the cluster's config; nil for defaults
	Device   string          // name of the TUN; "" is DefaultDevice
	Log      *slog.Logger

	// Blackhole drops packets for this node's own subnet while no bridge has
	// it, rather than sending them into the tunnel (--ip-blackhole-route).
	Blackhole bool

	// Fits, if not 0, is the most that the device's MTU may be, in bytes,
	// because of another path that packets may take.
	Fits int

	// Workers is how many threads carry packets, each with a queue of the
	// TUN and sockets of its own; 0 is a number that suits the CPUs.
	Workers int

	// Notify is called by the data path's threads when a peer has answered a
	// probe or refused a datagram. It must not block. It may be nil.
	Notify func()

	// Disable lists capabilities that are not used even where the kernel has
	// them, for tests and for kernels known to be faulty.
	Disable []Feature
}

// settings are the fields of the Backend object that concern this backend.
type settings struct {
	Port        int // UDP, of every node
	MTU         int // of the device; 0: what fits
	SourcePorts int // how many, Port the first of them
}

// CheckSettings returns an error about the first field of a cluster's Backend
// object that this backend cannot use.
func CheckSettings(raw json.RawMessage, dualStack bool) error {
	_, err := parseSettings(raw, dualStack)
	return err
}

// parseSettings reads the Backend object.
func parseSettings(raw json.RawMessage, dualStack bool) (settings, error) {
	s := settings{Port: DefaultPort, SourcePorts: 1}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &s); err != nil {
			return s, fmt.Errorf("read Backend of the network config: %w", err)
		}
	}
	least := minMTU
	if dualStack {
		least = minMTUIPv6
	}
	switch {
	case s.Port < 1 || s.Port > 65535:
		return s, fmt.Errorf("Backend.Port is %d: a UDP port is from 1 to 65535 (flannel's default is %d)", s.Port, DefaultPort)
	case s.MTU != 0 && (s.MTU < least || s.MTU > maxPacket):
		return s, fmt.Errorf("Backend.MTU is %d: it may be from %d to %d, or 0 for the underlay's MTU less the tunnel's overhead", s.MTU, least, maxPacket)
	case s.SourcePorts < 1 || s.SourcePorts > maxSourcePorts:
		return s, fmt.Errorf("Backend.SourcePorts is %d: it may be from 1, which is the default, to %d", s.SourcePorts, maxSourcePorts)
	case s.Port+s.SourcePorts-1 > 65535:
		return s, fmt.Errorf("Backend.SourcePorts is %d: beginning with Backend.Port, %d, there are only %d ports", s.SourcePorts, s.Port, 65536-s.Port)
	}
	return s, nil
}

// deviceMTU is the MTU of the TUN: what fits into the underlay's, or less if
// configured so.
func (c *Config) deviceMTU(configured int) (int, error) {
	overhead := overheadIPv4
	if !c.Underlay.IPv4.IsValid() {
		overhead = overheadIPv6
	}
	fits := min(c.Underlay.MTU-overhead, maxPacket)
	if c.Fits != 0 {
		fits = min(fits, c.Fits)
	}
	least := minMTU
	if c.Network.IPv6.IsValid() {
		least = minMTUIPv6
	}
	if fits < least {
		return 0, fmt.Errorf("the MTU of %s is %d, which leaves %d bytes inside the tunnel, and %d are needed: raise the MTU or use another interface", c.Underlay.Name, c.Underlay.MTU, fits, least)
	}
	if configured > fits {
		c.Log.Warn("the configured MTU does not fit this node's underlay, using what fits",
			"configured", configured, "mtu", fits, "underlay", c.Underlay.Name, "underlay_mtu", c.Underlay.MTU)
	}
	if configured != 0 && configured < fits {
		return configured, nil
	}
	return fits, nil
}

// validate checks what the daemon hands over.
func (c *Config) validate() error {
	u := &c.Underlay
	switch {
	case !u.IPv4.IsValid() && !u.IPv6.IsValid():
		return fmt.Errorf("underlay %s has no address to carry the tunnel", u.Name)
	case u.IPv4.IsValid() && !u.IPv4.Is4():
		return fmt.Errorf("underlay address %v is not IPv4", u.IPv4)
	case u.IPv6.IsValid() && (!u.IPv6.Is6() || u.IPv6.Is4In6()):
		return fmt.Errorf("underlay address %v is not IPv6", u.IPv6)
	case !c.Network.IPv4.IsValid():
		return errors.New("the network has no IPv4 prefix")
	}
	for _, a := range []netip.Addr{u.IPv4, u.IPv6, u.PublicIPv4, u.PublicIPv6} {
		// The kernel would route encapsulated packets into the tunnel again.
		if a.IsValid() && c.Network.Contains(a) {
			return fmt.Errorf("the address %v of %s lies inside the network that the tunnel makes: choose another Network or another interface", a, u.Name)
		}
	}
	return nil
}
