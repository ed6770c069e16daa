package netconf

import (
	"encoding/json"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"

	"github.com/weftnet/weft/subnet/envfile"
)

var (
	ipv4Env = envfile.File{
		Network: netip.MustParsePrefix("10.1.0.0/16"),
		Subnet:  netip.MustParsePrefix("10.1.17.1/24"),
		MTU:     1472,
		IPMasq:  true,
	}
	dualEnv = envfile.File{
		Network:     netip.MustParsePrefix("10.1.0.0/16"),
		Subnet:      netip.MustParsePrefix("10.1.17.1/24"),
		IPv6Network: netip.MustParsePrefix("fd00:1::/48"),
		IPv6Subnet:  netip.MustParsePrefix("fd00:1:0:11::1/64"),
		MTU:         1450,
	}
)

// The subnet, and what flannel's plugin of 2026 makes of it.
const (
	ipv4IPAM = `"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"10.1.0.0/16"}],"type":"host-local"}`
	dualIPAM = `"ipam":{"ranges":[[{"subnet":"10.1.17.0/24"}],[{"subnet":"fd00:1:0:11::/64"}]],` +
		`"routes":[{"dst":"10.1.0.0/16"},{"dst":"fd00:1::/48"}],"type":"host-local"}`
)

func TestComplete(t *testing.T) {
	for _, test := range []struct {
		name string
		env  envfile.File
		in   string // beside name and type
		want string // keys in alphabetic order
	}{
		{"the example of flannel's README", ipv4Env, ``,
			`{` + ipv4IPAM + `,"ipMasq":false,"isGateway":true,"mtu":1472,"name":"mynet","type":"bridge"}`},
		{"dual stack, no masquerade by the daemon", dualEnv, ``,
			`{` + dualIPAM + `,"ipMasq":true,"isGateway":true,"mtu":1450,"name":"mynet","type":"bridge"}`},
		{"delegate's bridge and MTU", ipv4Env, `,"delegate": {"bridge": "mynet0", "mtu": 1400}`,
			`{"bridge":"mynet0",` + ipv4IPAM + `,"ipMasq":false,"isGateway":true,"mtu":1400,"name":"mynet","type":"bridge"}`},
		{"default gateway and hairpin, as most conflists have them", ipv4Env, `,"cniVersion":"0.3.1","delegate": {"hairpinMode": true, "isDefaultGateway": true}`,
			`{"cniVersion":"0.3.1","hairpinMode":true,` + ipv4IPAM + `,"ipMasq":false,"isDefaultGateway":true,"isGateway":true,"mtu":1472,"name":"mynet","type":"bridge"}`},
		{"masquerade and gateway by hand", ipv4Env, `,"delegate": {"ipMasq": true, "isGateway": false}`,
			`{` + ipv4IPAM + `,"ipMasq":true,"isGateway":false,"mtu":1472,"name":"mynet","type":"bridge"}`},
		{"another delegate is no gateway", ipv4Env, `,"delegate": {"type": "ipvlan", "master": "eth0"}`,
			`{` + ipv4IPAM + `,"ipMasq":false,"master":"eth0","mtu":1472,"name":"mynet","type":"ipvlan"}`},
		{"ipam is merged", ipv4Env, `,"ipam": {"type": "other", "dataDir": "/run/x", "ranges": [], "routes": [{"dst": "192.0.2.0/24", "gw": "10.1.17.9", "new": 1}]}`,
			`{"ipam":{"dataDir":"/run/x","ranges":[[{"subnet":"10.1.17.0/24"}]],"routes":[{"dst":"192.0.2.0/24","gw":"10.1.17.9","new":1},{"dst":"10.1.0.0/16"}],"type":"other"},` +
				`"ipMasq":false,"isGateway":true,"mtu":1472,"name":"mynet","type":"bridge"}`},
		{"runtimeConfig is the runtime's", ipv4Env, `,"runtimeConfig": {"mac": "02:00:00:00:00:01", "ips": ["10.1.17.5"]}, "delegate": {"runtimeConfig": {"mac": "x"}}`,
			`{` + ipv4IPAM + `,"ipMasq":false,"isGateway":true,"mtu":1472,"name":"mynet","runtimeConfig":{"mac":"02:00:00:00:00:01","ips":["10.1.17.5"]},"type":"bridge"}`},
		{"numbers stay as they are written", ipv4Env, `,"delegate": {"big": 123456789012345678901}`,
			`{"big":123456789012345678901,` + ipv4IPAM + `,"ipMasq":false,"isGateway":true,"mtu":1472,"name":"mynet","type":"bridge"}`},
		{"null is not there", ipv4Env, `,"delegate": null, "ipam": null, "runtimeConfig": null`,
			`{` + ipv4IPAM + `,"ipMasq":false,"isGateway":true,"mtu":1472,"name":"mynet","type":"bridge"}`},
	} {
		n, err := Parse([]byte(`{"name": "mynet", "type": "flannel"` + test.in + `}`))
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		d, err := n.Complete(test.env)
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := normal(t, string(d.Bytes())); got != normal(t, test.want) {
			t.Errorf("%s:\n got %s\nwant %s", test.name, got, test.want)
		}
	}
}

// normal spells a JSON text in one way, its keys sorted at every depth.
func normal(t *testing.T, text string) string {
	t.Helper()
	var v map[string]any
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	if err := decoder.Decode(&v); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return string(encode(v))
}

func TestCompleteRefuses(t *testing.T) {
	for in, want := range map[string]string{
		`"delegate": "bridge"`:                "delegate is no object",
		`"delegate": {"name": "x"}`:           "delegate has a name; leave it out",
		`"delegate": {"ipam": {}}`:            "delegate has ipam; move it out",
		`"delegate": {"type": 5}`:             "delegate.type is 5, which is not the name of a plugin",
		`"delegate": {"type": ""}`:            `delegate.type is "", which is not`,
		`"delegate": {"type": "../evil"}`:     `delegate.type is "../evil", which is not the name of a plugin`,
		`"delegate": {"type": "flannel"}`:     "is this plugin itself; name another plugin, usually bridge",
		`"delegate": {"type": "weft-cni"}`:    "is this plugin itself",
		`"delegate": {"mtu": "big"}`:          "mtu",
		`"ipam": []`:                          "ipam is no object",
		`"ipam": {"type": 1}`:                 "ipam.type is 1",
		`"ipam": {"type": "flannel"}`:         "ipam.type is flannel, which is this plugin itself; name another plugin, usually host-local",
		`"ipam": {"routes": {"dst": "::/0"}}`: `ipam.routes is no list; write it as [{"dst"`,
		`"ipam": {"dataDir": 1}`:              "dataDir",
	} {
		n, err := Parse([]byte(`{"name": "mynet", ` + in + `}`))
		if err != nil {
			t.Errorf("%s: %v", in, err)
			continue
		}
		_, err = n.Complete(ipv4Env)
		e, ok := err.(*types.Error)
		if !ok || e.Code != types.ErrInvalidNetworkConfig || !strings.Contains(e.Error(), want) {
			t.Errorf("%s: error %v, want code 7 with %q", in, err, want)
		}
	}
}

func TestIncomplete(t *testing.T) {
	n, err := Parse([]byte(`{"cniVersion": "1.1.0", "name": "mynet", "ipam": {"dataDir": "/run/x"}}`))
	if err != nil {
		t.Fatal(err)
	}
	d, err := n.Incomplete()
	want := `{"cniVersion":"1.1.0","ipam":{"dataDir":"/run/x","type":"host-local"},"isGateway":true,"name":"mynet","type":"bridge"}`
	if err != nil || string(d.Bytes()) != want || d.IPAM != (IPAM{"host-local", "/run/x"}) {
		t.Errorf("%s, %v, error %v; want %s", d.Bytes(), d.IPAM, err, want)
	}
}

// The example of docs/cni.md is what happens.
func TestDocumentedExample(t *testing.T) {
	doc, err := os.ReadFile("../../docs/cni.md")
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```(sh|json)\n(.*?)```")
	found := block.FindAllStringSubmatch(string(doc), -1)
	if len(found) != 3 || found[0][1] != "sh" {
		t.Fatalf("docs/cni.md has the blocks %q; want a subnet file, a configuration and a result", found)
	}
	path := filepath.Join(t.TempDir(), "subnet.env")
	if err := os.WriteFile(path, []byte(found[0][2]), 0o600); err != nil {
		t.Fatal(err)
	}
	env, err := envfile.Read(path)
	if err != nil {
		t.Fatal(err)
	}
	n, err := Parse([]byte(found[1][2]))
	if err != nil {
		t.Fatal(err)
	}
	d, err := n.Complete(env)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := normal(t, string(d.Bytes())), normal(t, found[2][2]); got != want {
		t.Errorf("got %s, documented is %s", got, want)
	}
}
