package udp

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

// Feature is a capability of the kernel that makes the engine faster. The
// engine works without any of them.
type Feature string

const (
	VnetHdr    Feature = "vnet_hdr"    // the TUN precedes packets by a virtio_net_hdr: needed by the next three
	TSO        Feature = "tso"         // the TUN hands over TCP superpackets
	USO        Feature = "uso"         // the TUN hands over UDP superpackets (Linux 6.2)
	TUNGRO     Feature = "tun_gro"     // the TUN takes TCP superpackets
	TUNGROUDP  Feature = "tun_gro_udp" // the TUN takes UDP superpackets (Linux 6.2)
	UDPSegment Feature = "udp_segment" // the socket cuts one send into datagrams (Linux 4.18)
	UDPGRO     Feature = "udp_gro"     // the socket joins datagrams into one receive (Linux 5.0)
	Assist     Feature = "assist"      // the kernel carries what is no superpacket (package assist, Linux 6.6)
	AssistGSO  Feature = "assist_gso"  // the kernel carries TCP superpackets to peers that they reach whole

	// AssistFloods: the kernel leaves UDP flows of very many packets to user space.
	AssistFloods Feature = "assist_floods"
)

// Features lists all of them in the order in which they are shown.
var Features = []Feature{VnetHdr, TSO, USO, TUNGRO, TUNGROUDP, UDPSegment, UDPGRO, Assist, AssistGSO, AssistFloods}

// capabilities are the features found at start. After that they do not change:
// what fails later for one peer or one packet is worked around there.
type capabilities struct {
	disabled []Feature
	on       map[Feature]bool
	why      map[Feature]string
}

func newCapabilities(disable []Feature) (*capabilities, error) {
	for _, f := range disable {
		if !slices.Contains(Features, f) {
			return nil, fmt.Errorf("unknown feature %q: there are %s", f, joinFeatures(Features))
		}
	}
	return &capabilities{disabled: disable, on: make(map[Feature]bool), why: make(map[Feature]string)}, nil
}

// probe switches a feature on if try succeeds, else notes why it stays off.
// Where it is disabled, try is not called.
func (c *capabilities) probe(f Feature, try func() error) {
	if slices.Contains(c.disabled, f) {
		c.why[f] = "disabled"
		return
	}
	if err := try(); err != nil {
		c.why[f] = err.Error()
		return
	}
	c.on[f] = true
}

// needs is for try: it fails where another feature is off.
func (c *capabilities) needs(f Feature) error {
	if !c.on[f] {
		return fmt.Errorf("needs %s", f)
	}
	return nil
}

// status lists all features; the slice is new.
func (c *capabilities) status() []tunnel.Capability {
	list := make([]tunnel.Capability, 0, len(Features))
	for _, f := range Features {
		list = append(list, tunnel.Capability{Name: string(f), On: c.on[f], Why: c.why[f]})
	}
	return list
}

// missing names the features that are off, with the reasons.
func (c *capabilities) missing() string {
	var off []string
	for _, f := range Features {
		if !c.on[f] {
			off = append(off, fmt.Sprintf("%s (%s)", f, c.why[f]))
		}
	}
	return strings.Join(off, ", ")
}

func joinFeatures(list []Feature) string {
	names := make([]string, len(list))
	for i, f := range list {
		names[i] = string(f)
	}
	return strings.Join(names, ", ")
}

// probeTUN asks the TUN for offloads, one by one: each ioctl sets all of them,
// and the kernel refuses the whole set over one that it does not know.
func (c *capabilities) probeTUN(d *tunDevice) {
	c.probe(VnetHdr, func() error { return d.vnetHdrErr })
	set := 0
	add := func(flags int) error {
		if err := c.needs(VnetHdr); err != nil {
			return err
		}
		if err := unix.IoctlSetInt(d.queues[0], unix.TUNSETOFFLOAD, set|flags); err != nil {
			return fmt.Errorf("TUNSETOFFLOAD %#x: %w", flags, err)
		}
		set |= flags
		return nil
	}
	c.probe(TSO, func() error {
		if err := add(unix.TUN_F_CSUM); err != nil {
			return err
		}
		if err := add(unix.TUN_F_TSO4); err != nil {
			return err
		}
		// TSO of IPv6, and of segments with CWR set, are extras.
		_ = add(unix.TUN_F_TSO6)
		_ = add(unix.TUN_F_TSO_ECN)
		return nil
	})
	c.probe(USO, func() error {
		if set&unix.TUN_F_CSUM == 0 {
			if err := add(unix.TUN_F_CSUM); err != nil {
				return err
			}
		}
		// The kernel takes them together only.
		return add(unix.TUN_F_USO4 | unix.TUN_F_USO6)
	})
}
