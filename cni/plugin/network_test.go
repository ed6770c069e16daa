package plugin

import (
	"fmt"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// valid names c1's eth0 and c2's eth1.
const valid = `"cni.dev/valid-attachments":[{"containerID":"c1","ifname":"eth0"},{"containerID":"c2","ifname":"eth1"}]`

func TestGC(t *testing.T) {
	n := newNode(t)
	n.must("ADD", "")
	for _, a := range [][2]string{{"c1", "eth1"}, {"c2", "eth1"}, {"c3", "eth0"}} {
		if err := n.callFor(a[0], a[1], "ADD", ""); err != nil {
			t.Fatal(err)
		}
	}
	n.write("scratch/c4", `{"name":"mynet","type":"bridge"}`)         // flannel's, stale
	n.write("scratch/c5", `{"name":"othernet","type":"bridge"}`)      // of another network
	n.write("scratch/c6@eth0", `{"name":"othernet","type":"bridge"}`) // likewise
	n.write("scratch/c7", `{"name":"mynet"`)                          // cut short
	n.write("addresses/mynet/10.5.1.2", "c1\r\neth0")
	n.write("addresses/mynet/10.5.1.9", "c9\r\neth5")
	n.write("addresses/mynet/10.5.1.10", "c10")
	n.write("addresses/othernet/10.6.1.2", "c11\r\neth0")
	n.calls()
	for _, removed := range []bool{false, true} {
		if removed {
			n.remove("subnet.env")
		}
		n.must("GC", valid)
		calls := n.calls()
		released := func(container, ifName, subnet string) string {
			return fmt.Sprintf(`host-local DEL %s/%s {"cniVersion":"1.1.0","ipam":{"dataDir":"%s/addresses","ranges":[[{"subnet":"%s"}]],"type":"host-local"},"name":"mynet"}`,
				container, ifName, n.dir, subnet)
		}
		stale := []string{
			"bridge DEL c1/eth1 " + n.bridgeConf(version110, ""),
			"bridge DEL c3/eth0 " + n.bridgeConf(version110, ""),
			`bridge DEL c4/eth0 {"name":"mynet","type":"bridge"}`,
		}
		addresses := []string{released("c9", "eth5", "10.5.1.8/30"), released("c10", "eth0", "10.5.1.8/30")}
		list := valid[len(`"cni.dev/valid-attachments":`):]
		passed := []string{"bridge GC / " + n.bridgeConf(`"cni.dev/attachments":`+list+`,`+valid+`,`+version110, "")}
		if removed {
			stale = nil
			passed = []string{`bridge GC / {"cni.dev/attachments":` + list + `,` + valid + `,"cniVersion":"1.1.0","ipam":{"dataDir":"` + n.dir + `/addresses","type":"host-local"},"isGateway":true,"name":"mynet","type":"bridge"}`}
		}
		want(t, "GC", calls, append(append(stale, addresses...), passed...))
		want(t, "kept", n.files("scratch"), "c1 c1@eth0 c2 c2@eth1 c5 c6@eth0 c7")
	}
}

// GC goes on after an error, and tells of all.
func TestGCFails(t *testing.T) {
	n := newNode(t)
	n.must("ADD", "")
	n.write("addresses/mynet/10.5.1.9", "c9\r\neth5")
	n.plugins.Fail("bridge", "DEL", `{"code": 5, "msg": "first"}`)
	n.plugins.Fail("bridge", "GC", `{"code": 6, "msg": "second"}`)
	wantError(t, n.call("GC", ""), 5, "2 things could not be collected", "bridge DEL: first", "bridge GC: second")
	want(t, "kept for the next time", n.files("scratch"), "c1 c1@eth0")
	if calls := n.calls(); len(calls) != 4 {
		t.Errorf("called %q", calls)
	}
	wantError(t, n.call("GC", `"delegate": {"name": "x"}`), 5, "2 things could not be collected", "bridge DEL: first", "delegate has a name")
	n.plugins.Fail("bridge", "DEL", "")
	wantError(t, n.call("GC", `"delegate": {"name": "x"}`), types.ErrInvalidNetworkConfig, "delegate has a name")
	want(t, "kept", n.files("scratch"), "")
}

func TestGCWithOtherIPAM(t *testing.T) {
	n := newNode(t)
	n.write("addresses/mynet/10.5.1.9", "c9\r\neth5")
	n.must("GC", `"ipam": {"type": "dhcp"}`)
	if calls := n.calls(); len(calls) != 1 {
		t.Errorf("called %q, want bridge's GC alone", calls)
	}
}

func TestStatus(t *testing.T) {
	n := newNode(t)
	n.must("STATUS", "")
	want(t, "STATUS", n.calls(), []string{"bridge STATUS / " + n.bridgeConf(version110, "")})
	n.plugins.Versions("1.0.0")
	wantError(t, n.call("STATUS", ""), types.ErrPluginNotAvailable, "bridge does not speak CNI 1.1.0, but 0.4.0, 1.0.0", "newer reference plugins")
	n.plugins.Versions("1.1.0")

	wantError(t, n.call("STATUS", `"delegate": 5`), types.ErrInvalidNetworkConfig)
	wantError(t, n.call("STATUS", `"delegate": {"type": "ipvlan"}`), types.ErrPluginNotAvailable, "ipvlan")
	wantError(t, n.call("STATUS", `"ipam": {"type": "dhcp"}`), types.ErrPluginNotAvailable, "dhcp", "/opt/cni/bin")
	n.calls()
	n.plugins.Fail("bridge", "STATUS", `{"code": 999, "msg": "broken", "details": "x"}`)
	wantError(t, n.call("STATUS", ""), types.ErrPluginNotAvailable, "bridge STATUS: broken")
	n.plugins.Fail("bridge", "STATUS", `{"code": 51, "msg": "the uplink is down", "details": "x"}`)
	wantError(t, n.call("STATUS", ""), types.ErrLimitedConnectivity, "uplink")
	n.plugins.Fail("bridge", "STATUS", `{"code": 4, "msg": "unknown CNI_COMMAND: STATUS"}`)
	n.must("STATUS", "")

	// One address is free in a /29 with four containers, counting only its own.
	n.write("subnet.env", "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=10.5.1.1/29\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=true\n")
	for i := 2; i < 6; i++ {
		n.write(fmt.Sprintf("addresses/mynet/10.5.1.%d", i), fmt.Sprintf("c%d\r\neth0", i))
	}
	n.write("addresses/mynet/10.5.9.2", "c9\r\neth0")
	n.must("STATUS", "")
	n.write("addresses/mynet/10.5.1.6", "c6\r\neth0")
	wantError(t, n.call("STATUS", ""), types.ErrPluginNotAvailable, "all 5 addresses of 10.5.1.0/29", "SubnetLen")

	n.remove("subnet.env")
	wantError(t, n.call("STATUS", ""), types.ErrPluginNotAvailable, "no subnet file", "weftd status")
	n.write("scratch/c1@eth0", `{"name":"othernet","type":"bridge"}`)
	wantError(t, n.call("STATUS", ""), types.ErrPluginNotAvailable)
	n.write("scratch/c1@eth1", `{"name":"mynet","type":"bridge"}`)
	wantError(t, n.call("STATUS", ""), types.ErrLimitedConnectivity, "no subnet file", "weftd status")
}
