package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// Whenever it is killed, the next start comes up clean, on the same subnet.
func TestKilledAtAnyMoment(t *testing.T) {
	c := start(t, spec{})
	c.reachAll()
	subnet := c.status(0).Lease.Subnet
	for _, after := range []time.Duration{0, 5, 20, 60, 150, 400, 1000} {
		if err := c.weftds[0].Kill(); err != nil {
			t.Fatal(err)
		}
		c.startWeftd(0)
		time.Sleep(after * time.Millisecond) // the moment of death, not a wait
	}
	c.waitReady(0)
	c.reachAll()
	if now := c.status(0).Lease.Subnet; now != subnet {
		t.Errorf("the subnet was %s and is %s", subnet, now)
	}
}

// A host that lost its state but has its address takes over its own lease.
func TestReinstalledHost(t *testing.T) {
	c := start(t, spec{})
	before := c.status(0)
	if err := c.weftds[0].Stop(); err != nil {
		t.Fatal(err)
	}
	c.forget(0)
	c.startWeftd(0)
	c.waitReady(0)
	c.reachAll()
	after := c.status(0)
	if after.Lease.Subnet != before.Lease.Subnet {
		t.Errorf("the subnet was %s and is %s", before.Lease.Subnet, after.Lease.Subnet)
	}
	if after.Node.ID == before.Node.ID {
		t.Error("the node ID outlived the state directory")
	}
}

// While the old owner may still live, 30 s after it was last heard of, its
// lease is not touched.
func TestReinstalledAfterACrash(t *testing.T) {
	c := start(t, spec{})
	before := c.status(0)
	if err := c.weftds[0].Kill(); err != nil {
		t.Fatal(err)
	}
	c.forget(0)
	c.startWeftd(0)
	c.notReady(0, "192.0.2.1")
	if labtest.Full(t, "waiting for the old owner's 30 s to pass; its key is deleted") {
		time.Sleep(30 * time.Second)
	} else {
		c.delete("/coreos.com/network/weft/alive/" + before.Node.ID)
	}
	c.waitReady(0)
	c.reachAll()
	if now := c.status(0).Lease.Subnet; now != before.Lease.Subnet {
		t.Errorf("the subnet was %s and is %s", before.Lease.Subnet, now)
	}
}

// A copied virtual machine has the node ID of the one it was copied from.
func TestClonedHost(t *testing.T) {
	c := build(t, spec{})
	c.startWeftd(0)
	c.attach(0, c.waitReady(0))
	state := c.status(0)
	clone := filepath.Join(c.hosts[1].Dir, "state")
	if err := os.CopyFS(clone, os.DirFS(c.weftds[0].StateDir)); err != nil {
		t.Fatal(err)
	}
	c.startWeftd(1)
	c.notReady(1, state.Node.ID, "192.0.2.1")
	if s := c.status(0); !s.Ready || s.Lease.Subnet != state.Lease.Subnet {
		t.Errorf("the original is disturbed: %+v", s)
	}

	// With an identity of its own the copy is a node like others.
	if err := c.weftds[1].Stop(); err != nil {
		t.Fatal(err)
	}
	c.forget(1)
	c.startWeftd(1)
	c.attach(1, c.waitReady(1))
	c.reachAll()
}

// forget removes what weftd on a host remembers.
func (c *cluster) forget(i int) {
	c.t.Helper()
	w := c.weftds[i]
	if err := os.RemoveAll(w.StateDir); err != nil {
		c.t.Fatal(err)
	}
	if err := os.Remove(w.SubnetFile); err != nil && !os.IsNotExist(err) {
		c.t.Fatal(err)
	}
}
