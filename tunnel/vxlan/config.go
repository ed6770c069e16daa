package vxlan

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// Defaults, as flannel's. Port is also what flannel's 0 stands for: the
// kernel's own default, from before RFC 7348 named 4789.
const (
	DefaultVNI  = 1
	DefaultPort = 8472
)

// Bytes that the tunnel adds to an inner packet: the inner Ethernet header, and
// outside it a VXLAN, a UDP and an IP header.
const (
	overheadIPv4 = 14 + 8 + 8 + 20
	overheadIPv6 = 14 + 8 + 8 + 40
)

// Least MTU of a device: what every IPv4 host can reassemble (RFC 791), and
// what every IPv6 link has (RFC 8200 section 5).
const (
	minMTU     = 576
	minMTUIPv6 = 1280
)

// maxDeviceName is IFNAMSIZ without the zero at the end.
const maxDeviceName = 15

// Config is all that New and NewVTEP need.
type Config struct {
	Underlay tunnel.Underlay
	Network  tunnel.Network
	Backend  json.RawMessage // the Backend object of the cluster's config; nil for defaults
	NodeID   string          // of this node's lease: the devices' MACs are made from it
	Log      *slog.Logger

	// Beside says that another device has a route for the whole network.
	Beside bool

	// Blackhole drops packets for this node's own subnet while no bridge has
	// it (--ip-blackhole-route). It concerns a Backend only.
	Blackhole bool
}

// settings are the fields of the Backend object that concern this backend. All
// are flannel's but TxChecksum.
type settings struct {
	VNI           int
	Port          int
	MTU           int // of the underlay, as flannel has it; the devices' is less
	GBP           bool
	Learning      bool
	DirectRouting bool
	TxChecksum    string // "on", "off", "auto" or "", which is auto

	txChecksum netstate.Switch // Leave is auto
}

// CheckSettings returns an error about the first field of a cluster's Backend
// object that this backend cannot use.
func CheckSettings(raw json.RawMessage, dualStack bool) error {
	_, err := parseSettings(raw, dualStack)
	return err
}

func parseSettings(raw json.RawMessage, dualStack bool) (settings, error) {
	s := settings{VNI: DefaultVNI}
	if len(raw) > 0 {
		if err := json.Unmarshal(raw, &s); err != nil {
			return s, fmt.Errorf("read Backend of the network config: %w", err)
		}
	}
	if s.Port == 0 {
		s.Port = DefaultPort
	}
	switch {
	case s.VNI < 0 || s.VNI >= 1<<24:
		return s, fmt.Errorf("Backend.VNI is %d: a VXLAN network identifier is from 0 to %d (flannel's default is %d)", s.VNI, 1<<24-1, DefaultVNI)
	case len(deviceName(dualStack, s.VNI)) > maxDeviceName:
		return s, fmt.Errorf("Backend.VNI is %d, but no device can have the name %s, which is longer than %d characters: choose a smaller VNI",
			s.VNI, deviceName(dualStack, s.VNI), maxDeviceName)
	case s.Port < 1 || s.Port > 65535:
		return s, fmt.Errorf("Backend.Port is %d: a UDP port is from 1 to 65535 (0 is %d, as with flannel)", s.Port, DefaultPort)
	case s.MTU < 0 || s.MTU > 65535:
		return s, fmt.Errorf("Backend.MTU is %d: it is the underlay's MTU in bytes, or 0 for the interface's own", s.MTU)
	}
	switch s.TxChecksum {
	case "", "auto":
	case "on":
		s.txChecksum = netstate.On
	case "off":
		s.txChecksum = netstate.Off
	default:
		return s, fmt.Errorf(`Backend.TxChecksum is %q: it is "on" or "off", or "auto" for what a test finds`, s.TxChecksum)
	}
	return s, nil
}

// deviceName is flannel's.
func deviceName(ipv6 bool, vni int) string {
	if ipv6 {
		return fmt.Sprintf("flannel-v6.%d", vni)
	}
	return fmt.Sprintf("flannel.%d", vni)
}

// deviceMTU is what fits into the underlay's MTU, or into the configured one if
// that is less.
func (c *Config) deviceMTU(configured, overhead int) (int, error) {
	outer := c.Underlay.MTU
	if configured != 0 && configured < outer {
		outer = configured
	}
	least := minMTU
	if c.Network.IPv6.IsValid() {
		least = minMTUIPv6
	}
	if mtu := outer - overhead; mtu >= least {
		return mtu, nil
	}
	return 0, fmt.Errorf("an MTU of %d on %s leaves %d bytes inside the tunnel, and %d are needed: raise Backend.MTU or the interface's MTU, or use another interface",
		outer, c.Underlay.Name, outer-overhead, least)
}

// validate checks what the daemon hands over.
func (c *Config) validate() error {
	u := &c.Underlay
	switch {
	case c.NodeID == "":
		return errors.New("this node has no ID to make a MAC from")
	case !c.Network.IPv4.IsValid():
		return errors.New("the network has no IPv4 prefix")
	case u.IPv4.IsValid() && !u.IPv4.Is4():
		return fmt.Errorf("underlay address %v is not IPv4", u.IPv4)
	case u.IPv6.IsValid() && (!u.IPv6.Is6() || u.IPv6.Is4In6()):
		return fmt.Errorf("underlay address %v is not IPv6", u.IPv6)
	}
	for _, a := range []netip.Addr{u.IPv4, u.IPv6, u.PublicIPv4, u.PublicIPv6} {
		// The kernel would route encapsulated packets into the tunnel again.
		if a.IsValid() && c.Network.Contains(a) {
			return fmt.Errorf("the address %v of %s lies inside the network that the tunnel makes: choose another Network or another interface", a, u.Name)
		}
	}
	return nil
}
