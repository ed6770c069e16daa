package vxlan

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/weftnet/weft/tunnel/netstate"
)

func TestParseData(t *testing.T) {
	for _, c := range []struct {
		name, data string
		want       string // the MAC, or part of the error
	}{
		{"flannel's", `{"VNI":1,"VtepMAC":"6e:1a:2b:3c:4d:5e"}`, "6e:1a:2b:3c:4d:5e"},
		{"more fields", `{"VNI":1,"VtepMAC":"6e:1a:2b:3c:4d:5e","weft":1,"x":[]}`, "6e:1a:2b:3c:4d:5e"},
		{"none", ``, "names no VtepMAC"},
		{"weft's udp", `{"weft":1}`, "names no VtepMAC"},
		{"no VNI", `{"VtepMAC":"6e:1a:2b:3c:4d:5e"}`, "has no VNI"},
		{"another VNI", `{"VNI":2,"VtepMAC":"6e:1a:2b:3c:4d:5e"}`, "its VNI is 2, this node's is 1"},
		{"not a MAC", `{"VNI":1,"VtepMAC":"6e:1a"}`, "not a MAC address"},
		{"multicast", `{"VNI":1,"VtepMAC":"01:00:5e:00:00:01"}`, "not one of a single device"},
		{"zero", `{"VNI":1,"VtepMAC":"00:00:00:00:00:00"}`, "not one of a single device"},
		{"InfiniBand", `{"VNI":1,"VtepMAC":"02:00:5e:10:00:00:00:01"}`, "not a MAC address"},
		{"not an object", `"x"`, "cannot be read"},
		{"broken", `{"VNI":`, "cannot be read"},
		{"VNI as text", `{"VNI":"1","VtepMAC":"6e:1a:2b:3c:4d:5e"}`, "cannot be read"},
	} {
		mac, err := parseData(json.RawMessage(c.data), 1)
		switch {
		case err != nil && !strings.Contains(err.Error(), c.want):
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		case err == nil && mac.String() != c.want:
			t.Errorf("%s: %v, want %s", c.name, mac, c.want)
		}
	}
}

func TestAnnounce(t *testing.T) {
	mac := netstate.MAC{0x6e, 0x1a, 0x2b, 0x3c, 0x4d, 0x5e}
	if got := string(announce(1, mac)); got != `{"VNI":1,"VtepMAC":"6e:1a:2b:3c:4d:5e"}` { // byte for byte flannel's
		t.Error(got)
	}
}

// Whatever a lease says, a MAC that comes out of it is one of a single device,
// and survives being announced.
func FuzzParseData(f *testing.F) {
	f.Add([]byte(`{"VNI":1,"VtepMAC":"6e:1a:2b:3c:4d:5e"}`))
	f.Add([]byte(`{"vni":1,"vtepmac":"6E-1A-2B-3C-4D-5E"}`))
	f.Add([]byte(`{"VNI":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		mac, err := parseData(data, 1)
		if err != nil {
			return
		}
		again, err := parseData(announce(1, mac), 1)
		if err != nil || again != mac || mac == (netstate.MAC{}) || mac[0]&1 != 0 {
			t.Errorf("%q: %v, again %v, %v", data, mac, again, err)
		}
	})
}

func TestDeriveMAC(t *testing.T) {
	seen := make(map[netstate.MAC]string)
	for _, id := range []string{"", "a", "b", "9b1deb4d-3b7d-4bad-9bdd-2b0d7b3dcb6d"} {
		for _, device := range []string{"flannel.1", "flannel-v6.1", "flannel.2"} {
			mac := deriveMAC(id, device)
			if mac != deriveMAC(id, device) {
				t.Error("not the same twice")
			}
			if mac[0]&3 != 2 {
				t.Errorf("%v is not a locally administered address of a single device", mac)
			}
			if other := seen[mac]; other != "" {
				t.Errorf("%s %s has the MAC of %s", id, device, other)
			}
			seen[mac] = id + " " + device
		}
	}
	// Written down: it must never change, or peers lose a node that is updated.
	if got := deriveMAC("node1", "flannel.1").String(); got != "86:c0:e4:b4:1a:29" {
		t.Error(got)
	}
}
