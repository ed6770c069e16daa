package main

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
)

// An engine that has no fallback is not taken where the cluster wants one.
func TestClassicHasNoFallback(t *testing.T) {
	n := &node{
		o:   &options.Options{UDPEngine: options.UDPEngineClassic},
		cfg: &subnet.Config{BackendType: typeUDP, Backend: json.RawMessage(`{"Type":"udp","Fallback":"vxlan"}`)},
	}
	if b, err := n.newBackend(); err == nil || b != nil || !strings.Contains(err.Error(), "classic has no fallback") {
		t.Errorf("%v, %v", b, err)
	}
}
