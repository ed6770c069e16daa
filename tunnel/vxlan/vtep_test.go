package vxlan

import (
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

var (
	addr = netip.MustParseAddr
	pfx  = netip.MustParsePrefix
)

func dualConfig(backend string) Config {
	return Config{
		Underlay: tunnel.Underlay{
			Name: "eth0", MTU: 1500, IPv4: addr("192.0.2.1"), PublicIPv4: addr("192.0.2.1"),
			IPv6: addr("2001:db8::1"), PublicIPv6: addr("2001:db8::1"),
		},
		Network: tunnel.Network{IPv4: pfx("10.5.0.0/16"), IPv6: pfx("fd00:5::/32")},
		Backend: json.RawMessage(backend),
		NodeID:  "node1",
		Log:     slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
}

func config4(backend string) Config {
	c := dualConfig(backend)
	c.Underlay.IPv6, c.Underlay.PublicIPv6, c.Network.IPv6 = netip.Addr{}, netip.Addr{}, netip.Prefix{}
	return c
}

func newVTEP(t *testing.T, c Config) *VTEP {
	t.Helper()
	v, err := NewVTEP(c)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestMTUs(t *testing.T) {
	for _, c := range []struct {
		name   string
		config Config
		want   int // of containers
		each   []int
	}{
		{"IPv4", config4(""), 1450, []int{1450}},
		{"dual stack", dualConfig(""), 1430, []int{1450, 1430}},
		{"configured, as flannel means it", config4(`{"MTU":1400}`), 1350, []int{1350}},
		{"dual stack, configured", dualConfig(`{"MTU":1400}`), 1330, []int{1350, 1330}},
		{"configured, too large", config4(`{"MTU":9000}`), 1450, []int{1450}},
	} {
		v := newVTEP(t, c.config)
		var each []int
		for _, l := range v.State(subnet.Subnet{}).Links {
			each = append(each, l.MTU)
		}
		if v.MTU() != c.want || !slices.Equal(each, c.each) {
			t.Errorf("%s: %d, devices %v", c.name, v.MTU(), each)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	with := func(change func(*Config)) Config {
		c := dualConfig("")
		change(&c)
		return c
	}
	for _, c := range []struct {
		name   string
		config Config
		want   string // part of the error
	}{
		{"not an object", dualConfig(`7`), "read Backend"},
		{"VNI", dualConfig(`{"VNI":16777216}`), "from 0 to 16777215"},
		{"VNI too long for a name", dualConfig(`{"VNI":12345}`), "flannel-v6.12345, which is longer than 15"},
		{"negative port", dualConfig(`{"Port":-1}`), "Backend.Port is -1"},
		{"port", dualConfig(`{"Port":65536}`), "Backend.Port is 65536"},
		{"MTU", dualConfig(`{"MTU":-1}`), "Backend.MTU is -1"},
		{"MTU too small", dualConfig(`{"MTU":1300}`), "leaves 1250 bytes inside the tunnel, and 1280 are needed"},
		{"checksum", dualConfig(`{"TxChecksum":"maybe"}`), `it is "on" or "off", or "auto"`},
		{"no ID", with(func(c *Config) { c.NodeID = "" }), "no ID"},
		{"no network", with(func(c *Config) { c.Network.IPv4 = netip.Prefix{} }), "no IPv4 prefix"},
		{"underlay inside", with(func(c *Config) { c.Underlay.PublicIPv4 = addr("10.5.1.1") }), "lies inside the network"},
		{"no address", with(func(c *Config) { c.Underlay.IPv4, c.Underlay.IPv6 = netip.Addr{}, netip.Addr{} }), "eth0 has no address to carry 10.5.0.0/16"},
	} {
		if _, err := NewVTEP(c.config); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %s", c.name, err, c.want)
		}
	}
	// flannel's spelling and defaults
	v := newVTEP(t, config4(`{"Type":"vxlan","vni":123456,"Port":0}`))
	if v.Port() != 8472 || v.Devices()[0] != "flannel.123456" {
		t.Errorf("port %d, devices %v", v.Port(), v.Devices())
	}
}

// A family that the underlay lacks does not keep the other from working.
func TestMissingFamily(t *testing.T) {
	c := dualConfig("")
	c.Underlay.IPv6 = netip.Addr{}
	v := newVTEP(t, c)
	v4, v6 := v.Data()
	if len(v.Devices()) != 1 || v4 == nil || v6 != nil || len(v.Missing()) != 1 || v.MTU() != 1450 {
		t.Errorf("%v, data %s and %s, MTU %d, missing %v", v.Devices(), v4, v6, v.MTU(), v.Missing())
	}
}

// lease is a flannel node's, with an IPv6 part if dual.
func lease(n byte, dual bool, change ...func(*subnet.Lease)) subnet.Lease {
	l := subnet.Lease{
		Subnet: subnet.Subnet{IPv4: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 5, n, 0}), 24)},
		Attrs: subnet.Attrs{
			PublicIP:    netip.AddrFrom4([4]byte{192, 0, 2, n}),
			BackendType: "vxlan",
			BackendData: announce(1, netstate.MAC{2, 0, 0, 0, 4, n}),
		},
	}
	if dual {
		l.Subnet.IPv6 = netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0, 0, 5, 0, n}), 64)
		l.Attrs.PublicIPv6 = netip.AddrFrom16([16]byte{0x20, 1, 0xd, 0xb8, 15: n})
		l.Attrs.BackendV6Data = announce(1, netstate.MAC{2, 0, 0, 0, 6, n})
	}
	for _, c := range change {
		c(&l)
	}
	return l
}

func TestRemotes(t *testing.T) {
	v := newVTEP(t, dualConfig(""))
	data := func(s string) func(*subnet.Lease) {
		return func(l *subnet.Lease) { l.Attrs.BackendData = json.RawMessage(s) }
	}
	remotes, skipped := v.Remotes(lease(1, true), "vxlan", []subnet.Lease{
		lease(2, true),
		lease(3, false),
		lease(4, true, func(l *subnet.Lease) { l.Attrs.BackendV6Data = nil }),
		lease(5, false, data(`{`)),
		lease(6, false, data(`{"VNI":7,"VtepMAC":"02:00:00:00:04:06"}`)),
		lease(7, false, data(``)),
		lease(8, false, func(l *subnet.Lease) { l.Attrs.BackendType = "host-gw" }),
		lease(9, false, data(`{"VNI":1,"VtepMAC":"02:00:00:00:04:02"}`)),
		lease(10, false, data(string(announce(1, deriveMAC("node1", "flannel.1"))))),
		lease(11, false, func(l *subnet.Lease) { l.Attrs.PublicIP = netip.Addr{} }),
	})
	var served []string
	for _, r := range remotes {
		line := r.Lease.Subnet.String()
		for _, e := range r.ends {
			line += " " + e.device
		}
		served = append(served, strings.Join(append([]string{line}, r.Notes...), "; "))
	}
	if want := []string{
		"10.5.2.0/24 fd00:5:2::/64 flannel.1 flannel-v6.1",
		"10.5.3.0/24 flannel.1",
		"10.5.4.0/24 fd00:5:4::/64 flannel.1; fd00:5:4::/64 is not reached: its lease names no VtepMAC",
	}; !slices.Equal(served, want) {
		t.Errorf("served:\n%s", strings.Join(served, "\n"))
	}
	var why []string
	for _, s := range skipped {
		why = append(why, s.Subnet+": "+s.Why)
	}
	if want := []string{
		"10.5.10.0/24: its VtepMAC " + deriveMAC("node1", "flannel.1").String() + " is that of this node too: two hosts cloned from one, with one node ID? remove the state of one",
		"10.5.11.0/24: 10.5.11.0/24 is not reached: its lease names no public IP of that family",
		"10.5.5.0/24: 10.5.5.0/24 is not reached: its backend data cannot be read: unexpected end of JSON input",
		"10.5.6.0/24: 10.5.6.0/24 is not reached: its VNI is 7, this node's is 1",
		"10.5.7.0/24: 10.5.7.0/24 is not reached: its lease names no VtepMAC",
		"10.5.8.0/24: its backend is host-gw, this node's is vxlan",
		"10.5.9.0/24: its VtepMAC 02:00:00:00:04:02 is that of 10.5.2.0/24 fd00:5:2::/64 too: two hosts cloned from one, with one node ID? remove the state of one",
	}; !slices.Equal(why, want) {
		t.Errorf("skipped:\n%s", strings.Join(why, "\n"))
	}
}

// A VTEP beside another backend: its routes stand behind that one's.
func TestAddToAnotherState(t *testing.T) {
	v := newVTEP(t, config4(""))
	own := lease(1, false)
	own.Attrs.BackendType = "udp"
	peer := lease(2, false, func(l *subnet.Lease) {
		l.Attrs.BackendType = "udp"
		l.Attrs.BackendData = json.RawMessage(`{"weft":1,"VNI":1,"VtepMAC":"02:00:00:00:04:02"}`)
	})
	remotes, skipped := v.Remotes(own, "udp", []subnet.Lease{peer})
	if len(remotes) != 1 || len(skipped) != 0 {
		t.Fatalf("%v, skipped %v", remotes, skipped)
	}
	var s netstate.State
	remotes[0].Add(&s, own.Subnet, 200)
	want := netstate.State{
		Neighs: []netstate.Neigh{{Link: "flannel.1", IP: addr("10.5.2.0"), MAC: netstate.MAC{2, 0, 0, 0, 4, 2}}},
		FDB:    []netstate.FDB{{Link: "flannel.1", MAC: netstate.MAC{2, 0, 0, 0, 4, 2}, Dst: addr("192.0.2.2")}},
		Routes: []netstate.Route{{Dst: pfx("10.5.2.0/24"), Metric: 200, Link: "flannel.1", Via: addr("10.5.2.0"), OnLink: true, Src: addr("10.5.1.0")}},
	}
	if !reflect.DeepEqual(s, want) {
		t.Errorf("got %+v", s)
	}
}
