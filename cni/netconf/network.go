// Package netconf reads the configuration of a network of weft's CNI plugin,
// and makes the configuration of the plugin it delegates to out of it and of
// this node's subnet.
//
// The fields and their meaning are those of flannel's CNI plugin, as its
// README lists them:
//
//	{
//	  "cniVersion": "1.1.0", "name": "weft", "type": "weft-cni",
//	  "subnetFile": "/run/flannel/subnet.env", "dataDir": "/var/lib/cni/flannel",
//	  "delegate": {"bridge": "cni0", "isDefaultGateway": true, "hairpinMode": true},
//	  "ipam": {"dataDir": "/run/cni/networks", "routes": [{"dst": "0.0.0.0/0"}]}
//	}
package netconf

import (
	"encoding/json"
	"fmt"

	"github.com/containernetworking/cni/pkg/types"
)

// Where flannel's plugin has them by default.
const (
	defaultSubnetFile = "/run/flannel/subnet.env"
	defaultDataDir    = "/var/lib/cni/flannel"
)

// Network is the configuration of one network, as the runtime hands it over
// with every verb.
type Network struct {
	CNIVersion string `json:"cniVersion"` // empty stands for 0.1.0
	Name       string `json:"name"`
	SubnetFile string `json:"subnetFile"` // subnet.env
	DataDir    string `json:"dataDir"`    // of the scratch files

	// PrevResult comes with CHECK, and with DEL from CNI 0.4.0 on.
	PrevResult json.RawMessage `json:"prevResult"`
	// ValidAttachments comes with GC. No list is the same as an empty one,
	// as in libcni: nothing is attached.
	ValidAttachments []types.GCAttachment `json:"cni.dev/valid-attachments"`
	// Attachments is the same list by its name in the first text of CNI 1.1
	// (containernetworking/cni issue 1101), for runtimes that know no other.
	Attachments []types.GCAttachment `json:"cni.dev/attachments"`

	// Not looked into before they are needed: DEL must work with a
	// configuration that someone has broken since ADD.
	Delegate      json.RawMessage `json:"delegate"`
	IPAM          json.RawMessage `json:"ipam"`
	RuntimeConfig json.RawMessage `json:"runtimeConfig"`
}

// Parse reads a network configuration. The error is a types.Error of the code
// for what cannot be decoded.
func Parse(stdin []byte) (*Network, error) {
	var n Network
	if err := json.Unmarshal(stdin, &n); err != nil {
		return nil, types.NewError(types.ErrDecodingFailure,
			fmt.Sprintf("read the network configuration: %v", err), "correct the file in /etc/cni/net.d that names this plugin")
	}
	if n.SubnetFile == "" {
		n.SubnetFile = defaultSubnetFile
	}
	if n.DataDir == "" {
		n.DataDir = defaultDataDir
	}
	if n.ValidAttachments == nil {
		n.ValidAttachments = n.Attachments
	}
	return &n, nil
}

// Valid says whether GC names the attachment as one that still is. An empty
// interface name stands for any of the container's.
func (n *Network) Valid(containerID, ifName string) bool {
	for _, a := range n.ValidAttachments {
		if a.ContainerID == containerID && (a.IfName == ifName || ifName == "") {
			return true
		}
	}
	return false
}
