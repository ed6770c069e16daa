package plugin

import (
	"net"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestGiveMAC(t *testing.T) {
	ns := labtest.Namespace(t, "mac")
	if err := lab.Veth(lab.End{In: ns, Device: "veth0"}, lab.End{In: ns, Device: "veth1"}, 1500); err != nil {
		t.Fatal(err)
	}
	if err := ns.Bridge("br0", 1500, "veth0"); err != nil {
		t.Fatal(err)
	}
	if err := ns.LinkDelete("veth0"); err != nil {
		t.Fatal(err)
	}
	if mac := bridgeMAC(t, ns); len(mac) > 0 {
		t.Fatalf("the bridge without ports has the address %s; what this guards against is gone", mac)
	}
	var macs []string
	for range 2 {
		if err := ns.Do(func() error { return giveMAC("br0") }); err != nil {
			t.Fatal(err)
		}
		macs = append(macs, bridgeMAC(t, ns).String())
	}
	if macs[0] == "" || macs[0] != macs[1] {
		t.Errorf("the bridge was given %q", macs)
	}
	for _, other := range []string{"none0", "lo", ""} {
		if err := ns.Do(func() error { return giveMAC(other) }); err != nil {
			t.Errorf("%q: %v", other, err)
		}
	}
}

func bridgeMAC(t *testing.T, ns *lab.Namespace) net.HardwareAddr {
	t.Helper()
	var mac net.HardwareAddr
	if err := ns.Do(func() error {
		i, err := net.InterfaceByName("br0")
		if err == nil {
			mac = i.HardwareAddr
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return mac
}
