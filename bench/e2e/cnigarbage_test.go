package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// Machines and runtimes crash: what is left is collected, and nothing else.
func TestCNIGarbage(t *testing.T) {
	n := newCNINode(t)
	n.sample("10-weft.conflist", n.path("subnet.env"))
	n.must("ADD", "lost", "")
	n.replacePod()
	n.must("ADD", "stale", "")
	n.replacePod()
	n.add() // stays, under a name of cnitool's making
	for _, name := range []string{"lost", "lost@eth0"} {
		if err := os.Remove(filepath.Join(n.path("var/cni/flannel"), name)); err != nil {
			t.Fatal(err)
		}
	}
	kept, err := filepath.Glob(filepath.Join(n.path("var/cni/flannel"), "cnitool-*@eth0"))
	if err != nil || len(kept) != 1 {
		t.Fatalf("cnitool's container is %q, error %v", kept, err)
	}
	id, _, _ := strings.Cut(filepath.Base(kept[0]), "@")
	for range 2 {
		n.must("GC", "", fmt.Sprintf(`, "cni.dev/valid-attachments": [{"containerID": %q, "ifname": "eth0"}]`, id))
		want := fmt.Sprintf("%s %s@eth0 %s", id, id, n.result.ipv4())
		if got := strings.Join(append(n.files("cni/flannel"), n.files("cni/networks/weft")...), " "); got != want {
			t.Errorf("after GC there is %s, want %s", got, want)
		}
	}
	if out, err := n.tool("check"); err != nil {
		t.Error("the container that stays:", err, out)
	}
	// Without a list, nothing is valid: cnitool deletes what it knows too.
	if out, err := n.tool("gc"); err != nil {
		t.Error(err, out)
	}
	n.wantNothingLeft()
}

// GC of a network frees what its list leaves out and nothing else: neither of a
// container's other interfaces, nor of another network that keeps its
// configurations in the same folder.
func TestCNIGarbageOfTwoNetworks(t *testing.T) {
	n := newCNINode(t)
	n.subnet("10.5.2.1/24")
	if err := os.Rename(n.path("subnet.env"), n.path("other.env")); err != nil {
		t.Fatal(err)
	}
	n.subnet("10.5.1.1/24")
	other := fmt.Sprintf(`, "name": "other", "subnetFile": %q, "delegate": {"bridge": "cni1"}`, n.path("other.env"))
	for _, a := range []struct{ fields, ifName string }{{"", "eth0"}, {other, "eth1"}, {"", "eth2"}} {
		if out, err := n.plugin("ADD", "c1", n.conf(a.fields), "CNI_IFNAME="+a.ifName); err != nil {
			t.Fatal(err, out)
		}
	}
	for _, step := range []struct {
		gc          string // network's fields
		valid       string // interfaces
		weft, other []string
		kept        []string
	}{
		{"", "eth0 eth2", []string{"10.5.1.2", "10.5.1.3"}, []string{"10.5.2.2"}, []string{"c1", "c1@eth0", "c1@eth1", "c1@eth2"}},
		{other, "eth1", []string{"10.5.1.2", "10.5.1.3"}, []string{"10.5.2.2"}, []string{"c1", "c1@eth0", "c1@eth1", "c1@eth2"}},
		{"", "eth2", []string{"10.5.1.3"}, []string{"10.5.2.2"}, []string{"c1@eth1", "c1@eth2"}},
		{other, "", []string{"10.5.1.3"}, nil, []string{"c1@eth2"}},
	} {
		var list []string
		for _, ifName := range strings.Fields(step.valid) {
			list = append(list, fmt.Sprintf(`{"containerID": "c1", "ifname": %q}`, ifName))
		}
		n.must("GC", "", step.gc+`, "cni.dev/valid-attachments": [`+strings.Join(list, ",")+`]`)
		weft, others, kept := n.files("cni/networks/weft"), n.files("cni/networks/other"), n.files("cni/flannel")
		if !reflect.DeepEqual(weft, step.weft) || !reflect.DeepEqual(others, step.other) || !reflect.DeepEqual(kept, step.kept) {
			t.Errorf("GC of %q but %q: addresses %s and %s, kept %s; want %+v", step.gc, step.valid, weft, others, kept, step)
		}
	}
}
