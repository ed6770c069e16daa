package netconf

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"

	"github.com/containernetworking/cni/pkg/types"
)

// Delegate is the configuration of the plugin that this one calls: a JSON
// object, of which weft knows the keys below and passes on all.
type Delegate struct {
	Type string // the plugin's name
	Name string // of the network
	MTU  int    // of the interface; 0 if it does not say
	IPAM IPAM

	// Bridge is the device that a delegate of type bridge uses; otherwise "".
	Bridge string

	fields object
}

// IPAM is what weft must know of a delegate's ipam.
type IPAM struct {
	Type    string `json:"type"`
	DataDir string `json:"dataDir"` // of host-local; empty is its default
}

// ParseDelegate reads a configuration that was kept from ADD.
func ParseDelegate(data []byte) (Delegate, error) {
	var fields object
	if err := json.Unmarshal(data, &fields); err != nil {
		return Delegate{}, fmt.Errorf("read the kept configuration: %w", err)
	}
	return newDelegate(fields)
}

func newDelegate(fields object) (Delegate, error) {
	known := struct {
		Type string `json:"type"`
		Name string `json:"name"`
		MTU  int    `json:"mtu"`
		IPAM IPAM   `json:"ipam"`

		Bridge string `json:"bridge"`
	}{}
	if err := json.Unmarshal(encode(fields), &known); err != nil {
		return Delegate{}, types.NewError(types.ErrInvalidNetworkConfig, fmt.Sprintf("read the delegate's configuration: %v", err), "correct delegate and ipam in the network's configuration")
	}
	if known.Type == "" {
		return Delegate{}, invalid("the delegate's configuration names no plugin", "its type must be a plugin in CNI_PATH")
	}
	d := Delegate{Type: known.Type, Name: known.Name, MTU: known.MTU, IPAM: known.IPAM, fields: fields}
	if d.Type == "bridge" {
		d.Bridge = cmp.Or(known.Bridge, "cni0") // the plugin's default
	}
	return d, nil
}

// Bytes is the configuration in JSON, the same for the same content.
func (d Delegate) Bytes() []byte { return encode(d.fields) }

// WithResult is the configuration with a result of ADD for CHECK and DEL, and
// with the CNI version that the result is in. Without a result it is d.
func (d Delegate) WithResult(cniVersion string, prevResult json.RawMessage) Delegate {
	if !isSet(prevResult) {
		return d
	}
	d.fields = maps.Clone(d.fields)
	d.fields["cniVersion"] = encode(cniVersion)
	d.fields["prevResult"] = prevResult
	return d
}

// WithAttachments is the configuration with the list that GC hands over.
func (d Delegate) WithAttachments(valid []types.GCAttachment) Delegate {
	d.fields = maps.Clone(d.fields)
	if valid == nil {
		valid = []types.GCAttachment{} // an empty list, not null
	}
	// The second is the key's name in the first text of CNI 1.1, which libcni
	// sends too (containernetworking/cni issue 1101).
	d.fields["cni.dev/valid-attachments"] = encode(valid)
	d.fields["cni.dev/attachments"] = encode(valid)
	return d
}

// HostLocal is a configuration with which host-local is called by itself, to
// release an address of the network.
func (n *Network) HostLocal(dataDir string, subnet netip.Prefix) []byte {
	ipam := object{"type": encode("host-local"), "ranges": encode([][]addressRange{{{subnet}}})}
	if dataDir != "" {
		ipam["dataDir"] = encode(dataDir)
	}
	return encode(object{"cniVersion": encode(n.CNIVersion), "name": encode(n.Name), "ipam": encode(ipam)})
}
