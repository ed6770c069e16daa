package lab_test

import (
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestFeatures(t *testing.T) {
	a, b := labtest.Namespace(t, "a"), labtest.Namespace(t, "b")
	if err := lab.Veth(lab.End{In: a, Device: "eth0"}, lab.End{In: b, Device: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	before, err := a.Features("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for name, on := range map[string]bool{"tx-udp_tnl-segmentation": true, "tx-udp_tnl-csum-segmentation": true, "rx-gro": false} {
		if got, known := before[name]; !known || got != on {
			t.Errorf("%s of a new veth: known %v, on %v", name, known, got)
		}
		if err := a.SetFeatures("eth0", map[string]bool{name: !on}); err != nil {
			t.Error(err)
		}
		before[name] = !on
	}
	after, err := a.Features("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for name, on := range after {
		if on != before[name] {
			t.Errorf("%s is now %v", name, on)
		}
	}
	if other, err := b.Features("eth0"); err != nil || !other["tx-udp_tnl-segmentation"] {
		t.Errorf("the other end: %v, %v", other, err)
	}

	for want, features := range map[string]map[string]bool{
		"knows only 0": {"no-such-feature": true},
		"as it was":    {"rx-vlan-filter": true}, // a veth has no such thing
	} {
		if err := a.SetFeatures("eth0", features); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("setting %v returns %v", features, err)
		}
	}
	if _, err := a.Features("eth9"); err == nil || !strings.Contains(err.Error(), "eth9") {
		t.Error("a device that is not there:", err)
	}
}
