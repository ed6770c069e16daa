package fallback

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/weftnet/weft/tunnel/udp"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// Config is all that New needs: what the udp backend does, and the rest.
type Config struct {
	udp.Config
	NodeID string // of this node's lease: the VXLAN devices' MACs are made from it
}

// settings are the fields of the Backend object that concern neither backend
// alone. The other fields at the top are udp's, MTU is of both.
type settings struct {
	Port        int // udp's
	SourcePorts int // udp's too
	Fallback    string
	VXLAN       json.RawMessage // fields of the vxlan backend
}

// Wanted tells whether a cluster's Backend object, of type udp, asks for a
// fallback, and returns an error if it is none that there is.
func Wanted(raw json.RawMessage) (bool, error) {
	s, err := parseSettings(raw)
	return s.Fallback != "", err
}

// CheckSettings returns an error about the first field of a cluster's Backend
// object that this backend cannot use.
func CheckSettings(raw json.RawMessage, dualStack bool) error {
	s, err := parseSettings(raw)
	if err != nil {
		return err
	}
	if err := udp.CheckSettings(raw, dualStack); err != nil {
		return err
	}
	if err := vxlan.CheckSettings(s.VXLAN, dualStack); err != nil {
		return fmt.Errorf("in Backend.VXLAN: %w", err)
	}
	return nil
}

func parseSettings(raw json.RawMessage) (settings, error) {
	var s settings
	if len(raw) == 0 {
		return s, nil
	}
	if err := json.Unmarshal(raw, &s); err != nil {
		return s, fmt.Errorf("read Backend of the network config: %w", err)
	}
	if s.Fallback != "" && s.Fallback != "vxlan" {
		return s, fmt.Errorf(`Backend.Fallback is %q: udp can fall back to "vxlan" only`, s.Fallback)
	}
	if s.Fallback == "" {
		if len(s.VXLAN) > 0 {
			return s, errors.New(`Backend.VXLAN goes with "Fallback": "vxlan", which is missing`)
		}
		return s, nil
	}
	var inner struct {
		Port          int
		MTU           json.RawMessage
		DirectRouting bool
	}
	if len(s.VXLAN) > 0 {
		if err := json.Unmarshal(s.VXLAN, &inner); err != nil {
			return s, fmt.Errorf("read Backend.VXLAN of the network config: %w", err)
		}
	}
	port, kernels := cmp.Or(s.Port, udp.DefaultPort), cmp.Or(inner.Port, vxlan.DefaultPort)
	switch {
	case inner.MTU != nil:
		return s, errors.New("Backend.VXLAN.MTU cannot be set: Backend.MTU is that of both paths")
	case inner.DirectRouting:
		return s, errors.New("Backend.VXLAN.DirectRouting cannot be set: a fallback's packets always go through the tunnel")
	case kernels >= port && kernels < port+max(s.SourcePorts, 1):
		return s, fmt.Errorf("UDP port %d is to be that of udp and that of VXLAN too: change Backend.Port or Backend.VXLAN.Port (or SourcePorts, which begin with Backend.Port)", kernels)
	}
	return s, nil
}
