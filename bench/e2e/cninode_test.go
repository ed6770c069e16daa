package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// cniNode is a host by itself: what CNI plugins do there is the same without
// weftd, whose subnet.env is written by hand.
type cniNode struct{ *cniHost }

func newCNINode(t *testing.T) cniNode {
	t.Helper()
	n := cniNode{newCNIHost(t, labtest.Namespace(t, "node"))}
	n.pod = labtest.Namespace(t, "pod")
	n.subnet("10.5.1.1/24")
	return n
}

func (n cniNode) subnet(subnet string) {
	n.t.Helper()
	text := "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=" + subnet + "\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n"
	if err := os.WriteFile(n.path("subnet.env"), []byte(text), 0o644); err != nil {
		n.t.Fatal(err)
	}
}

// conf is the configuration of one plugin, with further fields.
func (n cniNode) conf(fields string) string {
	return fmt.Sprintf(`{"cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "subnetFile": %q%s}`, n.path("subnet.env"), fields)
}

func (n cniNode) must(verb, container, fields string) {
	n.t.Helper()
	if out, err := n.plugin(verb, container, n.conf(fields)); err != nil {
		n.t.Fatalf("%v: %s", err, out)
	}
}

// fails expects an error of a code whose text has all parts.
func (n cniNode) fails(verb, container, fields string, code int, parts ...string) {
	n.t.Helper()
	out, err := n.plugin(verb, container, n.conf(fields))
	var e struct {
		Code         int
		Msg, Details string
	}
	if jsonErr := json.Unmarshal([]byte(out), &e); err == nil || jsonErr != nil {
		n.t.Errorf("%s: error %v and %v, %s", verb, err, jsonErr, out)
		return
	}
	if e.Code != code {
		n.t.Errorf("%s: code %d, want %d: %s", verb, e.Code, code, out)
	}
	for _, part := range parts {
		if !strings.Contains(e.Msg+e.Details, part) {
			n.t.Errorf("%s: %q is not in %s", verb, part, out)
		}
	}
}

// replacePod gives the host another container; the former one's interfaces go
// with it, as when it is killed. The kernel takes its time over those of a
// namespace that is gone, seconds on a busy machine; nobody waits for that here.
func (n cniNode) replacePod() {
	n.t.Helper()
	if err := errors.Join(n.pod.LinkDelete("eth0"), n.pod.Delete()); err != nil {
		n.t.Fatal(err)
	}
	n.pod = labtest.Namespace(n.t, "pod")
}

// Conflists of flannel run unchanged, in every version of CNI.
func TestCNIConflistsOfFlannel(t *testing.T) {
	n := newCNINode(t)
	for _, version := range []string{"0.3.1", "0.4.0", "1.0.0", "1.1.0"} {
		n.conflist(fmt.Sprintf(`{"name": "weft", "cniVersion": %q, "plugins": [
			{"type": "flannel", "subnetFile": %q, "delegate": {"hairpinMode": true, "isDefaultGateway": true}},
			{"type": "portmap", "capabilities": {"portMappings": true}}]}`, version, n.path("subnet.env")))
		n.add()
		if got := n.result.CNIVersion; got != version {
			t.Errorf("the result is of version %q, want %s", got, version)
		}
		if version != "0.3.1" { // which has no CHECK
			if out, err := n.tool("check"); err != nil {
				t.Error(version, err, out)
			}
		}
		if _, err := n.tool("status"); err != nil { // called with 1.1.0 only
			t.Error(version, err)
		}
		n.del()
		n.del()
		n.wantNothingLeft()
	}
}

// files lists a folder of /var/lib, leaving out what host-local needs for
// itself.
func (n cniNode) files(dir string) (names []string) {
	n.t.Helper()
	entries, err := os.ReadDir(filepath.Join(n.path("var"), dir))
	if err != nil {
		n.t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "last_reserved_ip.") {
			names = append(names, e.Name())
		}
	}
	return names
}

// The lease changes while a container is attached: that one is told of by
// CHECK, and detached with what it was attached with.
func TestCNISubnetChanges(t *testing.T) {
	n := newCNINode(t)
	out, err := n.plugin("ADD", "old", n.conf(""))
	if err != nil {
		t.Fatal(err)
	}
	old := n.pod
	n.must("CHECK", "old", `, "prevResult": `+out)
	n.subnet("10.5.2.1/24")
	n.fails("CHECK", "old", `, "prevResult": `+out, 999, "10.5.1.2 is not in this node's subnet, which is now 10.5.2.0/24")

	n.pod = labtest.Namespace(t, "new")
	n.fails("ADD", "new", "", 999, `"cni0" already has an IP address different from 10.5.2.1/24`, "former lease", "ip link delete")
	n.wantPod("new", false)
	n.must("DEL", "new", "")

	n.pod = old
	n.must("DEL", "old", "")
	n.wantPod("old", false)
	n.wantNothingLeft()
	if err := n.ns.LinkDelete("cni0"); err != nil {
		t.Fatal(err)
	}
	n.must("ADD", "old", "")
	n.wantPod("old", true)
	n.pod = nil // without a namespace
	if err := os.Remove(n.path("subnet.env")); err != nil {
		t.Fatal(err)
	}
	n.must("DEL", "old", "")
	n.pod = &lab.Namespace{Name: "weft-none"}
	n.must("DEL", "old", "")
	if names := append(n.files("cni/flannel"), n.files("cni/networks/weft")...); len(names) > 0 {
		t.Errorf("after DEL there is still %s", names)
	}
}

// The delegate may be another plugin than bridge. DEL calls the one that ADD
// has called.
func TestCNIOtherDelegate(t *testing.T) {
	n := newCNINode(t)
	const ptp = `, "delegate": {"type": "ptp"}`
	out, err := n.plugin("ADD", "c1", n.conf(ptp))
	if err != nil {
		t.Fatal(err, out)
	}
	if got := deviceMTU(t, n.pod, "eth0"); got != 1472 {
		t.Errorf("eth0 has the MTU %d", got)
	}
	for _, i := range interfaces(t, n.ns) {
		if i.Name == "cni0" {
			t.Error("ptp made a bridge")
		}
	}
	n.must("CHECK", "c1", ptp+`, "prevResult": `+out)
	n.must("STATUS", "", ptp)
	n.must("GC", "", ptp+`, "cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]`)
	n.wantPod("c1", true)
	n.must("DEL", "c1", "")
	n.wantPod("c1", false)
	n.wantNothingLeft()
}

// Containers come and go at the same time: each has an address of its own.
func TestCNIManyAtOnce(t *testing.T) {
	n := newCNINode(t)
	const many = 8
	var results [many]string
	var errs [many]error
	do := func(verb string) {
		t.Helper()
		var all sync.WaitGroup
		for i := range many {
			all.Go(func() {
				results[i], errs[i] = n.plugin(verb, fmt.Sprintf("c%d", i), n.conf(""), fmt.Sprintf("CNI_IFNAME=eth%d", i))
			})
		}
		all.Wait()
		for i, err := range errs {
			if err != nil {
				t.Fatal(err, results[i])
			}
		}
	}
	do("ADD")
	addresses := map[string]bool{}
	for _, a := range n.files("cni/networks/weft") {
		addresses[a] = true
	}
	for i, out := range results {
		var r cniResult
		if err := json.Unmarshal([]byte(out), &r); err != nil || !addresses[r.ipv4().String()] {
			t.Errorf("container %d has %s, which is not among %v, error %v", i, r.ipv4(), addresses, err)
		}
		delete(addresses, r.ipv4().String())
	}
	do("DEL")
	n.wantNothingLeft()
}

// Each error has CNI's code, says what to do, and leaves nothing behind.
func TestCNIErrors(t *testing.T) {
	n := newCNINode(t)
	n.fails("ADD", "c1", `, "delegate": {"ipam": {}}`, 7, "delegate has ipam", "beside it")
	n.fails("ADD", "c1", `, "delegate": {"type": "ipvlan"}`, 50, "ipvlan", "CNI_PATH="+n.path("bin"), "/opt/cni/bin")
	n.fails("STATUS", "", `, "delegate": {"type": "ipvlan"}`, 50, "ipvlan")
	n.fails("ADD", "c1", `, "ipam": {"type": "dhcp"}`, 50, "plugin dhcp", "/opt/cni/bin")
	n.fails("STATUS", "", `, "ipam": {"type": "dhcp"}`, 50, "plugin dhcp", "/opt/cni/bin")
	n.fails("ADD", "c1", `, "delegate": {"bridge": "lo"}`, 999, `"lo" already exists but is not a bridge`, "another bridge")
	if err := n.ns.Bridge("foreign0", 1500); err != nil {
		t.Fatal(err)
	}
	if err := n.ns.AddAddr("foreign0", netip.MustParsePrefix("203.0.113.1/24")); err != nil {
		t.Fatal(err)
	}
	n.fails("ADD", "c1", `, "delegate": {"bridge": "foreign0"}`, 999, `"foreign0" already has an IP address different from 10.5.1.1/24`, "delegate.bridge")
	pod := n.pod
	n.pod = &lab.Namespace{Name: "weft-none"}
	n.fails("ADD", "c1", "", 8, "/run/netns/weft-none")
	n.pod = pod
	n.wantPod("c1", false)
	n.wantNothingLeft()

	// A /30 has room for one container, which here a leaked address takes. Bridge
	// has made a veth when it finds out, and leaves a bridge without an address.
	n.subnet("10.5.1.1/30")
	leaked := n.path("var/cni/networks/weft/10.5.1.2")
	if err := os.WriteFile(leaked, []byte("gone\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	n.fails("ADD", "c1", "", 11, "no IP addresses available", "SubnetLen", "leaked addresses")
	n.must("GC", "", "")
	n.wantPod("c1", false)
	n.wantNothingLeft()
	n.must("STATUS", "", "")
	n.must("ADD", "c1", "")
	n.fails("ADD", "c1", "", 4, "container c1 has an interface eth0 already")
	n.wantPod("c1", true)
	n.fails("STATUS", "", "", 50, "all 1 addresses of 10.5.1.0/30 are taken", "SubnetLen")
	first := n.pod
	n.pod = labtest.Namespace(t, "second")
	n.fails("ADD", "c2", "", 11, "no IP addresses available", "SubnetLen")
	n.wantPod("c2", false)
	n.pod = first
	n.must("DEL", "c1", "")
	n.wantNothingLeft()

	if err := os.WriteFile(n.path("subnet.env"), []byte("FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUB"), 0o644); err != nil {
		t.Fatal(err)
	}
	n.fails("ADD", "c1", "", 11, "line 2", "restart weftd")
	if err := os.Remove(n.path("subnet.env")); err != nil {
		t.Fatal(err)
	}
	n.fails("ADD", "c1", "", 11, "there is no subnet file", "weftd status")
	n.fails("STATUS", "", "", 50, "there is no subnet file", "weftd status")
	n.must("DEL", "c1", "")
	n.wantNothingLeft()
}

// wantPod says whether the host's container must have an eth0.
func (n cniNode) wantPod(container string, attached bool) {
	n.t.Helper()
	has := false
	for _, i := range interfaces(n.t, n.pod) {
		has = has || i.Name == "eth0"
	}
	if has != attached {
		n.t.Errorf("container %s has an eth0: %v, want %v", container, has, attached)
	}
}
