package cni_test

import (
	"net/netip"
	"path/filepath"
	"testing"

	"github.com/containernetworking/cni/libcni"

	"github.com/weftnet/weft/cni/netconf"
	"github.com/weftnet/weft/subnet/envfile"
)

// Runtimes load the samples, and weft-cni makes a bridge's configuration of
// them. The end-to-end cases attach containers by them.
func TestSampleConflistsAreValid(t *testing.T) {
	files, err := filepath.Glob("*.conflist")
	if err != nil || len(files) == 0 {
		t.Fatalf("no samples found: %v", err)
	}
	env := envfile.File{Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.1.1/24"), MTU: 1472}
	for _, file := range files {
		list, err := libcni.ConfListFromFile(file)
		if err != nil {
			t.Error(err)
			continue
		}
		if list.Name != "weft" || list.CNIVersion != "1.1.0" || len(list.Plugins) < 2 || list.Plugins[0].Network.Type != "weft-cni" {
			t.Errorf("%s: %s of version %s, plugins %v", file, list.Name, list.CNIVersion, list.Plugins)
			continue
		}
		network, err := netconf.Parse(list.Plugins[0].Bytes)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if conf, err := network.Complete(env); err != nil || conf.Type != "bridge" || conf.MTU != 1472 {
			t.Errorf("%s: %s, error %v", file, conf.Bytes(), err)
		}
	}
}
