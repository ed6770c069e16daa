package docker

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestBridgesOfTheHost(t *testing.T) {
	ns := labtest.Namespace(t, "docker")
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(ns.Bridge("docker0", 1500))
	must(ns.AddAddr("docker0", netip.MustParsePrefix("172.17.0.1/16")))
	must(ns.Bridge("cni0", 1500))
	must(ns.AddAddr("cni0", netip.MustParsePrefix("fd00:5:0:22::9/64")))
	must(ns.AddAddr("lo", netip.MustParsePrefix("10.5.34.0/32"))) // as the tunnel address: no bridge
	check := func(wantWith []string, wantOn bool) {
		t.Helper()
		must(ns.Do(func() error {
			with, err := bridgesWith(NetworkFor("weft", dual))
			if err != nil || !slices.Equal(with, wantWith) {
				t.Errorf("bridges %q, %v; want %q", with, err, wantWith)
			}
			on, err := OptionsFor(dual).OnDocker0()
			if err != nil || on != wantOn {
				t.Errorf("docker0 has the address: %v, %v; want %v", on, err, wantOn)
			}
			return nil
		}))
	}
	check([]string{"cni0"}, false)
	must(ns.LinkDelete("cni0"))
	check(nil, false)
	must(ns.AddAddr("docker0", netip.MustParsePrefix("10.5.34.1/24")))
	check([]string{"docker0"}, true)
}
