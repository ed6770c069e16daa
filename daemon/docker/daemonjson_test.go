package docker

import (
	"bytes"
	"encoding/json"
	"reflect"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet/envfile"
)

func TestMergeJSON(t *testing.T) {
	const fresh = `{
  "bip": "10.5.34.1/24",
  "mtu": 1472,
  "ip-masq": false
}
`
	freshChanges := []string{`"bip": "10.5.34.1/24"`, `"mtu": 1472`, `"ip-masq": false`}
	for _, c := range []struct {
		name, existing string
		file           envfile.File
		want           string
		changes        []string
	}{
		{"no file", "", ipv4, fresh, freshChanges},
		{"an empty object", " {}\n", ipv4, fresh, freshChanges},
		{"all there", `{"ip-masq": false, "mtu": 1472, "bip": "10.5.34.1/24"}`, ipv4, `{
  "ip-masq": false,
  "mtu": 1472,
  "bip": "10.5.34.1/24"
}
`, nil},
		{"other keys stay, an earlier lease goes", `{
	"log-driver": "json-file", "bip": "10.5.9.1/24",
	"log-opts": {"max-size": "10m", "b": [1, 2.50, 1e400]},
	"mtu": 1500
}`, ipv4, `{
  "log-driver": "json-file",
  "bip": "10.5.34.1/24",
  "log-opts": {
    "max-size": "10m",
    "b": [
      1,
      2.50,
      1e400
    ]
  },
  "mtu": 1472,
  "ip-masq": false
}
`, []string{`"bip": "10.5.34.1/24" instead of "10.5.9.1/24"`, `"mtu": 1472 instead of 1500`, `"ip-masq": false`}},
		{"dual stack", `{"ipv6": false, "fixed-cidr-v6": "fd00:5:0:9::/64"}`, dual, `{
  "ipv6": true,
  "fixed-cidr-v6": "fd00:5:0:22::/64",
  "bip": "10.5.34.1/24",
  "mtu": 1452,
  "ip-masq": true
}
`, []string{
			`"bip": "10.5.34.1/24"`, `"ipv6": true instead of false`,
			`"fixed-cidr-v6": "fd00:5:0:22::/64" instead of "fd00:5:0:9::/64"`, `"mtu": 1452`, `"ip-masq": true`,
		}},
		{"Docker's own nftables", `{"firewall-backend": "nftables"}`, ipv4, `{
  "firewall-backend": "nftables",
  "bip": "10.5.34.1/24",
  "mtu": 1472,
  "ip-masq": false,
  "allow-direct-routing": true
}
`, append(freshChanges[:3:3], `"allow-direct-routing": true`)},
		{"Docker's own nftables, and no direct routing", `{"firewall-backend": "nftables", "allow-direct-routing": false}`, ipv4, `{
  "firewall-backend": "nftables",
  "allow-direct-routing": false,
  "bip": "10.5.34.1/24",
  "mtu": 1472,
  "ip-masq": false
}
`, freshChanges},
		{"ranges within the lease", `{"fixed-cidr": "10.5.34.128/25", "bridge": "docker0"}`, ipv4, `{
  "fixed-cidr": "10.5.34.128/25",
  "bridge": "docker0",
  "bip": "10.5.34.1/24",
  "mtu": 1472,
  "ip-masq": false
}
`, freshChanges},
	} {
		merged, changes, err := MergeJSON([]byte(c.existing), c.file)
		if err != nil || string(merged) != c.want || !reflect.DeepEqual(changes, c.changes) {
			t.Errorf("%s: %v\n%s\nwant\n%s\nchanges %q, want %q", c.name, err, merged, c.want, changes, c.changes)
		}
		again, changes, err := MergeJSON(merged, c.file)
		if err != nil || !bytes.Equal(again, merged) || len(changes) > 0 {
			t.Errorf("%s, again: %v, changes %q\n%s", c.name, err, changes, again)
		}
	}
}

func TestMergeJSONRefuses(t *testing.T) {
	for _, c := range []struct {
		existing string
		file     envfile.File
		want     []string
	}{
		{`{"bip": "172.26.0.1/16"}`, ipv4, []string{`"bip" is "172.26.0.1/16"`, "10.5.0.0/16", "remove it"}},
		{`{"bip": 5}`, ipv4, []string{`"bip" is 5`}},
		{`{"bip": "10.0.0.1/8"}`, ipv4, []string{`"bip" is "10.0.0.1/8"`}},
		{`{"bridge": "none", "fixed-cidr": "10.5.35.0/24", "default-gateway": "10.5.34.9"}`, ipv4,
			[]string{`"bridge" is "none"`, `"fixed-cidr" is "10.5.35.0/24"`, `"default-gateway" is "10.5.34.9"`, "docker-network create"}},
		{`{"fixed-cidr-v6": "fd01::/64", "bip6": "fd01::1/64"}`, dual, []string{`"bip6" is "fd01::1/64"`, `"fixed-cidr-v6" is "fd01::/64"`}},
		{`[]`, ipv4, []string{"not a JSON object"}},
		{`{`, ipv4, []string{"not valid JSON"}},
		{`{"a"}`, ipv4, []string{"not valid JSON"}},
		{`{"a": tru}`, ipv4, []string{"not valid JSON", `"a"`}},
		{`{"a": 1} {}`, ipv4, []string{"not valid JSON", "more after"}},
	} {
		merged, _, err := MergeJSON([]byte(c.existing), c.file)
		if err == nil {
			t.Errorf("%s: merged to %s", c.existing, merged)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: error %q does not say %q", c.existing, err, want)
			}
		}
	}
}

// Whatever is merged is valid JSON that has all other keys with their values.
func FuzzMergeJSON(f *testing.F) {
	f.Add([]byte(`{"bip": "10.5.9.1/24", "a": {"b": [1, null]}, "a": "\u00e4"}`))
	f.Add([]byte(` {} `))
	f.Fuzz(func(t *testing.T, existing []byte) {
		merged, _, err := MergeJSON(existing, dual)
		if err != nil {
			return
		}
		var before, after map[string]json.RawMessage
		if len(bytes.TrimSpace(existing)) > 0 {
			if err := json.Unmarshal(existing, &before); err != nil {
				t.Fatalf("%q was taken: %v", existing, err)
			}
		}
		if err := json.Unmarshal(merged, &after); err != nil {
			t.Fatalf("%q became %q: %v", existing, merged, err)
		}
		for key, value := range before {
			switch key {
			case "bip", "mtu", "ip-masq", "ipv6", "fixed-cidr-v6":
				continue
			}
			var want, got bytes.Buffer
			if json.Compact(&want, value) != nil || json.Compact(&got, after[key]) != nil || want.String() != got.String() {
				t.Errorf("%q: key %q is %s, was %s", existing, key, after[key], value)
			}
		}
	})
}
