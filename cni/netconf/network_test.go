package netconf

import (
	"bytes"
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

func TestParse(t *testing.T) {
	n, err := Parse([]byte(`{"name": "mynet"}`))
	if err != nil || n.SubnetFile != "/run/flannel/subnet.env" || n.DataDir != "/var/lib/cni/flannel" {
		t.Errorf("defaults: %+v, error %v", n, err)
	}
	n, err = Parse([]byte(`{"cniVersion": "1.1.0", "name": "mynet", "subnetFile": "/a", "dataDir": "/b", "delegate": "broken",
		"cni.dev/valid-attachments": [{"containerID": "c1", "ifname": "eth0"}]}`))
	if err != nil || n.SubnetFile != "/a" || n.DataDir != "/b" || n.CNIVersion != "1.1.0" {
		t.Errorf("%+v, error %v", n, err)
	}
	for _, test := range []struct {
		container, ifName string
		valid             bool
	}{{"c1", "eth0", true}, {"c1", "", true}, {"c1", "eth1", false}, {"c2", "eth0", false}, {"c2", "", false}} {
		if got := n.Valid(test.container, test.ifName); got != test.valid {
			t.Errorf("Valid(%q, %q) = %v", test.container, test.ifName, got)
		}
	}
	n, err = Parse([]byte(`{"name": "mynet", "cni.dev/attachments": [{"containerID": "c1", "ifname": "eth0"}]}`))
	if err != nil || !n.Valid("c1", "eth0") || n.Valid("c2", "eth0") {
		t.Errorf("by the former name: %+v, error %v", n, err)
	}
	for _, bad := range []string{``, `[]`, `{"dataDir": 1}`, `{"name": {}}`, `{"cni.dev/valid-attachments": "none"}`} {
		_, err := Parse([]byte(bad))
		if e, ok := err.(*types.Error); !ok || e.Code != types.ErrDecodingFailure || e.Details == "" {
			t.Errorf("%s: error %v, want code 6 and advice", bad, err)
		}
	}
}

func TestDelegateWithout(t *testing.T) {
	d, err := ParseDelegate([]byte(`{"cniVersion":"0.3.1","ipam":{"type":"host-local"},"mtu":1472,"name":"mynet","type":"bridge"}`))
	if err != nil || d.Type != "bridge" || d.Name != "mynet" || d.MTU != 1472 || d.IPAM.Type != "host-local" || d.Bridge != "cni0" {
		t.Fatalf("%+v, error %v", d, err)
	}
	before := string(d.Bytes())
	if got := d.WithResult("1.0.0", nil); string(got.Bytes()) != before {
		t.Errorf("without a result it became %s", got.Bytes())
	}
	want := `{"cniVersion":"1.0.0","ipam":{"type":"host-local"},"mtu":1472,"name":"mynet","prevResult":{"ips":[]},"type":"bridge"}`
	if got := d.WithResult("1.0.0", json.RawMessage(`{"ips":[]}`)); string(got.Bytes()) != want {
		t.Errorf("with a result it is %s, want %s", got.Bytes(), want)
	}
	want = `{"cni.dev/attachments":[],"cni.dev/valid-attachments":[],"cniVersion":"0.3.1","ipam":{"type":"host-local"},"mtu":1472,"name":"mynet","type":"bridge"}`
	if got := d.WithAttachments(nil); string(got.Bytes()) != want {
		t.Errorf("for GC it is %s, want %s", got.Bytes(), want)
	}
	if string(d.Bytes()) != before {
		t.Errorf("d itself became %s", d.Bytes())
	}
	for conf, bridge := range map[string]string{`{"type":"bridge","bridge":"br1"}`: "br1", `{"type":"ipvlan","bridge":"br1"}`: ""} {
		if d, err := ParseDelegate([]byte(conf)); err != nil || d.Bridge != bridge {
			t.Errorf("%s: bridge %q, error %v; want %q", conf, d.Bridge, err, bridge)
		}
	}
	for _, bad := range []string{``, `[]`, `{}`, `{"type": 1}`, `{"type":"bridge","mtu":"x"}`, `null`} {
		if _, err := ParseDelegate([]byte(bad)); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

// Whatever Complete makes can be kept and read again.
func FuzzComplete(f *testing.F) {
	f.Add([]byte(`{"name":"n","delegate":{"type":"bridge","mtu":1400},"ipam":{"routes":[{"dst":"::/0"}]},"runtimeConfig":{}}`))
	f.Add([]byte(`{"name":"n","delegate":null,"ipam":{"ranges":1},"prevResult":{"ips":[]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse(data)
		if err != nil {
			return
		}
		d, err := n.Complete(dualEnv)
		if err != nil {
			return
		}
		again, err := ParseDelegate(d.Bytes())
		if err != nil {
			t.Fatalf("%s: %v", d.Bytes(), err)
		}
		if !bytes.Equal(again.Bytes(), d.Bytes()) || again.Type != d.Type || again.MTU != d.MTU || !reflect.DeepEqual(again.IPAM, d.IPAM) {
			t.Fatalf("%s became %s", d.Bytes(), again.Bytes())
		}
		if slices.Contains(ownNames, again.Type) || slices.Contains(ownNames, again.IPAM.Type) {
			t.Fatalf("%s calls itself", d.Bytes())
		}
	})
}
