package plugin

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

const version110 = `"cniVersion":"1.1.0",`

func TestAddCheckDel(t *testing.T) {
	n := newNode(t)
	n.must("ADD", "")
	if out := n.stdout.String(); !strings.Contains(out, `"address": "10.5.1.2/24"`) || !strings.Contains(out, `"cniVersion": "1.1.0"`) {
		t.Errorf("the result is %s", out)
	}
	conf := n.bridgeConf(version110, "")
	want(t, "ADD", n.calls(), []string{"bridge ADD c1/eth0 " + conf})
	want(t, "kept", n.files("scratch"), "c1 c1@eth0")

	result := `"prevResult":` + addResult
	n.must("CHECK", result)
	want(t, "CHECK", n.calls(), []string{"bridge CHECK c1/eth0 " + n.bridgeConf(version110, ","+result)})

	n.must("DEL", result)
	want(t, "DEL", n.calls(), []string{"bridge DEL c1/eth0 " + n.bridgeConf(version110, ","+result)})
	want(t, "kept after DEL", n.files("scratch"), "")
	n.must("DEL", "") // repeated
}

// The result is in the version that the runtime asked for, which flannel's
// README leaves out.
func TestAddWithoutVersion(t *testing.T) {
	n := newNode(t)
	n.plugins.Result(`{"ip4": {"ip": "10.5.1.2/24"}}`)
	n.must("ADD", `"cniVersion": ""`)
	if out := n.stdout.String(); !strings.Contains(out, `"ip": "10.5.1.2/24"`) {
		t.Errorf("the result is %s", out)
	}
	want(t, "ADD", n.calls(), []string{"bridge ADD c1/eth0 " + n.bridgeConf("", "")})
}

// Whatever has changed since ADD, DEL calls the delegate as ADD did.
func TestDelWithWhatAddHad(t *testing.T) {
	n := newNode(t)
	n.must("ADD", `"delegate": {"bridge": "old0"}`)
	n.calls()
	n.write("subnet.env", strings.ReplaceAll(subnetEnv, "10.5.1.1/24", "10.5.2.1/24"))
	n.plugins.Fail("bridge", "DEL", `{"code": 5, "msg": "cannot", "details": "x"}`)
	wantError(t, n.call("DEL", `"delegate": {"name": "invalid"}`), 5, "bridge DEL: cannot")
	want(t, "kept after a failure", n.files("scratch"), "c1 c1@eth0")
	n.plugins.Fail("bridge", "DEL", "")
	n.calls()
	n.remove("subnet.env")
	n.netns = ""
	n.must("DEL", `"delegate": "invalid"`)
	want(t, "DEL", n.calls(), []string{"bridge DEL c1/eth0 " + n.bridgeConf(`"bridge":"old0",`+version110, "")})
	want(t, "kept after DEL", n.files("scratch"), "")
}

// What one interface of a container is attached by is of no use for another.
func TestSecondInterface(t *testing.T) {
	n := newNode(t)
	const old = `"delegate": {"bridge": "old0"}`
	n.must("ADD", old)
	n.write("scratch/c2", `{"name":"mynet","type":"bridge","bridge":"flannel's"}`)
	n.calls()
	for _, container := range []string{"c1", "c2"} {
		if err := n.callFor(container, "eth1", "ADD", ""); err != nil {
			t.Fatal(err)
		}
	}
	conf := n.bridgeConf(version110, "")
	want(t, "ADD", n.calls(), []string{"bridge ADD c1/eth1 " + conf, "bridge ADD c2/eth1 " + conf})
	wantError(t, n.callFor("c1", "eth2", "CHECK", ""), types.ErrUnknownContainer)
	for _, ifName := range []string{"eth1", "eth1", "eth2"} {
		if err := n.callFor("c1", ifName, "DEL", ""); err != nil {
			t.Fatal(err)
		}
		want(t, "DEL", n.calls(), []string{"bridge DEL c1/" + ifName + " " + conf})
	}
	want(t, "kept", n.files("scratch"), "c1 c1@eth0 c2 c2@eth1")
}

func TestDelWithoutState(t *testing.T) {
	n := newNode(t)
	// An address may be left: the delegate is called as for ADD.
	n.must("DEL", "")
	want(t, "DEL", n.calls(), []string{"bridge DEL c1/eth0 " + n.bridgeConf(version110, "")})
	// A file that a crash has cut short is as good as none.
	n.write("scratch/c1", `{"type":"bri`)
	n.plugins.Fail("bridge", "DEL", `{"code": 5, "msg": "cannot"}`)
	n.must("DEL", "")
	want(t, "kept", n.files("scratch"), "")
	if err := n.stderr.String(); !strings.Contains(err, "bridge DEL: cannot") {
		t.Errorf("stderr is %q", err)
	}
	n.calls()
	n.must("DEL", `"delegate": {"name": "invalid"}`)
	n.remove("subnet.env")
	n.must("DEL", "")
	want(t, "nothing to call it with", n.calls(), []string(nil))
}

func TestDelAfterFlannelsPlugin(t *testing.T) {
	n := newNode(t)
	const conf = `{"cniVersion":"0.3.1","hairpinMode":true,"name":"mynet","type":"bridge"}`
	n.write("scratch/c1", conf)
	n.must("DEL", "")
	want(t, "DEL", n.calls(), []string{"bridge DEL c1/eth0 " + conf})
	want(t, "kept after DEL", n.files("scratch"), "")
}

func TestAddFails(t *testing.T) {
	n := newNode(t)
	n.plugins.Fail("bridge", "ADD", `{"code": 999, "msg": "no IP addresses available in range set: x"}`)
	wantError(t, n.call("ADD", ""), types.ErrTryAgainLater, "bridge ADD: no IP", "subnet is full")
	conf := n.bridgeConf(version110, "")
	want(t, "a failed ADD is undone", n.calls(), []string{"bridge ADD c1/eth0 " + conf, "bridge DEL c1/eth0 " + conf})
	want(t, "kept", n.files("scratch"), "")

	n.plugins.Fail("bridge", "DEL", `{"code": 5, "msg": "cannot"}`)
	wantError(t, n.call("ADD", ""), types.ErrTryAgainLater, "bridge ADD: no IP")
	want(t, "kept for DEL", n.files("scratch"), "c1 c1@eth0")
	if err := n.stderr.String(); !strings.Contains(err, "undo the failed ADD: bridge DEL: cannot") {
		t.Errorf("stderr is %q", err)
	}
}

func TestAddRefuses(t *testing.T) {
	n := newNode(t)
	wantError(t, n.call("ADD", `"delegate": {"ipam": {}}`), types.ErrInvalidNetworkConfig, "delegate has ipam")
	wantError(t, n.call("ADD", `"dataDir": 1`), types.ErrDecodingFailure, "dataDir")
	wantError(t, n.call("ADD", `"delegate": {"type": "ipvlan"}`), types.ErrPluginNotAvailable, "ipvlan", n.plugins.Dir)
	wantError(t, n.call("ADD", `"ipam": {"type": "dhcp"}`), types.ErrPluginNotAvailable, "dhcp", n.plugins.Dir)
	wantError(t, n.callFor("c1", "lo", "ADD", ""), types.ErrInvalidEnvironmentVariables, "has an interface lo already")
	wantError(t, n.callFor("../c1", "eth0", "ADD", ""), types.ErrIOFailure)
	n.netns = "/run/netns/none"
	wantError(t, n.call("ADD", ""), types.ErrInvalidNetNS, "/run/netns/none")
	n.write("subnet.env", "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUB")
	wantError(t, n.call("ADD", ""), types.ErrTryAgainLater, "subnet.env: line 2", "restart weftd")
	n.remove("subnet.env")
	wantError(t, n.call("ADD", ""), types.ErrTryAgainLater, "no subnet file "+n.dir+"/subnet.env", "weftd status")
	want(t, "calls", n.calls(), []string(nil))
	want(t, "kept", n.files("scratch"), "")
}

// Plugins that are too old leave nothing that would be in the way of newer ones.
func TestAddWithOldPlugins(t *testing.T) {
	n := newNode(t)
	const old = `{"code": 1, "msg": "incompatible CNI versions", "details": "config is 1.1.0"}`
	n.plugins.Fail("bridge", "ADD", old)
	n.plugins.Fail("bridge", "DEL", old)
	wantError(t, n.call("ADD", ""), types.ErrIncompatibleCNIVersion, "bridge ADD: incompatible", "newer reference plugins")
	want(t, "kept", n.files("scratch"), "")
}

// A folder that cannot be made: a file stands there.
func TestAddCannotKeep(t *testing.T) {
	n := newNode(t)
	n.write("scratch", "")
	wantError(t, n.call("ADD", ""), types.ErrIOFailure, "dataDir")
	want(t, "calls", n.calls(), []string(nil))
}

// A machine lost power, and the runtime gives the container its ID again.
func TestAddAfterCrash(t *testing.T) {
	n := newNode(t)
	n.must("ADD", `"delegate": {"bridge": "old0"}`)
	n.calls()
	n.must("ADD", "")
	want(t, "calls", n.calls(), []string{
		"bridge DEL c1/eth0 " + n.bridgeConf(`"bridge":"old0",`+version110, ""),
		"bridge ADD c1/eth0 " + n.bridgeConf(version110, ""),
	})
	b, err := os.ReadFile(filepath.Join(n.dir, "scratch", "c1@eth0"))
	if err != nil {
		t.Fatal(err)
	}
	want(t, "kept", string(b), n.bridgeConf(version110, ""))
	if second, err := os.ReadFile(filepath.Join(n.dir, "scratch", "c1")); err != nil || string(second) != string(b) {
		t.Errorf("by its second name it is %s, error %v", second, err)
	}
	// An address that cannot be released is no reason to refuse.
	n.plugins.Fail("bridge", "DEL", `{"code": 5, "msg": "cannot"}`)
	n.must("ADD", "")
	if err := n.stderr.String(); !strings.Contains(err, "bridge DEL: cannot") {
		t.Errorf("stderr is %q", err)
	}
}

func TestCheckFails(t *testing.T) {
	n := newNode(t)
	result := `"prevResult":` + addResult
	wantError(t, n.call("CHECK", result), types.ErrUnknownContainer, "c1 was not attached by this plugin")
	n.must("ADD", "")
	n.calls()
	wantError(t, n.call("CHECK", ""), types.ErrInvalidNetworkConfig, "prevResult is missing")
	wantError(t, n.call("CHECK", `"prevResult": []`), types.ErrDecodingFailure, "prevResult")
	n.write("subnet.env", strings.ReplaceAll(subnetEnv, "1472", "1450"))
	wantError(t, n.call("CHECK", result), types.ErrInternal, "MTU 1472", "now 1450", "create it again")
	n.write("subnet.env", strings.ReplaceAll(subnetEnv, "10.5.1.1/24", "10.5.2.1/24"))
	wantError(t, n.call("CHECK", result), types.ErrInternal, "10.5.1.2", "now 10.5.2.0/24", "create it again")
	n.remove("subnet.env")
	wantError(t, n.call("CHECK", result), types.ErrTryAgainLater, "weftd status")
	want(t, "calls", n.calls(), []string(nil))
	n.write("subnet.env", strings.ReplaceAll(subnetEnv, "1472", "8972"))
	n.plugins.Fail("bridge", "CHECK", `{"code": 999, "msg": "veth is gone", "details": "x"}`)
	wantError(t, n.call("CHECK", result), types.ErrInternal, "bridge CHECK: veth is gone")
}
