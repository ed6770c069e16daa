package vxlan

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weftnet/weft/tunnel/netstate"
)

// leaseData is the BackendData and BackendV6Data of a lease: one device each.
// flannel reads and writes the same, and ignores fields it does not know.
type leaseData struct {
	VNI     *int
	VtepMAC string
}

func announce(vni int, mac netstate.MAC) json.RawMessage {
	b, err := json.Marshal(leaseData{&vni, mac.String()})
	if err != nil {
		return nil // a number and a string
	}
	return b
}

// parseData reads what a peer announced for one address family.
func parseData(raw json.RawMessage, vni int) (netstate.MAC, error) {
	if len(raw) == 0 {
		return netstate.MAC{}, errNoData
	}
	var d leaseData
	if err := json.Unmarshal(raw, &d); err != nil {
		return netstate.MAC{}, fmt.Errorf("its backend data cannot be read: %w", err)
	}
	switch {
	case d.VtepMAC == "":
		return netstate.MAC{}, errNoData
	case d.VNI == nil:
		return netstate.MAC{}, errors.New("its backend data has no VNI")
	case *d.VNI != vni:
		return netstate.MAC{}, fmt.Errorf("its VNI is %d, this node's is %d", *d.VNI, vni)
	}
	mac, err := netstate.ParseMAC(d.VtepMAC)
	if err != nil {
		return netstate.MAC{}, fmt.Errorf("its VtepMAC: %w", err)
	}
	return mac, nil
}

var errNoData = errors.New("its lease names no VtepMAC")

// deriveMAC makes the MAC of one of a node's devices: the same at every start,
// another for every node and device.
func deriveMAC(nodeID, device string) netstate.MAC {
	sum := sha256.Sum256([]byte("weft vtep " + device + " " + nodeID))
	mac := netstate.MAC(sum[:6])
	const group, local = 0x01, 0x02 // IEEE 802: the I/G and U/L bits
	mac[0] = mac[0]&^group | local
	return mac
}
