package plugin

import (
	"bytes"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// other is the same node for another call at the same time.
func (n *node) other() *node {
	o := *n
	o.stdout, o.stderr = bytes.Buffer{}, bytes.Buffer{}
	return &o
}

// A container that is being attached is in no list of valid attachments yet.
func TestGCDuringAdd(t *testing.T) {
	n := newNode(t)
	const none = `"cni.dev/valid-attachments":[]`
	await := n.plugins.Hold("bridge", "ADD")
	added := make(chan error)
	go func() { added <- n.other().call("ADD", "") }()
	letGo := await()
	n.write("addresses/mynet/10.5.1.2", "c1\r\neth0")
	wantError(t, n.call("GC", none), types.ErrTryAgainLater, "an ADD or another GC is under way", "call it again")
	// Neither from another network that keeps its configurations there too.
	wantError(t, n.call("GC", none+`,"name":"othernet"`), types.ErrTryAgainLater)
	letGo()
	if err := <-added; err != nil {
		t.Fatal(err)
	}
	want(t, "calls", n.calls(), []string{"bridge ADD c1/eth0 " + n.bridgeConf(version110, "")})
	want(t, "kept", n.files("scratch"), "c1 c1@eth0")

	n.must("GC", valid)
	want(t, "kept, being valid", n.files("scratch"), "c1 c1@eth0")
	n.must("GC", none)
	want(t, "kept, being stale", n.files("scratch"), "")
}

// Two GCs at once have nothing to tell each other.
func TestGCDuringGC(t *testing.T) {
	n := newNode(t)
	await := n.plugins.Hold("bridge", "GC")
	done := make(chan error)
	go func() { done <- n.other().call("GC", valid) }()
	letGo := await()
	wantError(t, n.call("GC", valid), types.ErrTryAgainLater)
	letGo()
	if err := <-done; err != nil {
		t.Error(err)
	}
	n.must("ADD", "") // nothing is locked any more
}
