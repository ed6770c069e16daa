package netstate

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

var (
	ownMAC  = MAC{0x02, 0, 0, 0, 0x34, 0x01}
	peerMAC = MAC{0x02, 0, 0, 0, 0x07, 0x01}
)

// vxlanState is what the vxlan backend keeps for one peer, 10.5.7.0/24 behind
// 192.0.2.7.
func vxlanState() State {
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	return State{
		Links: []Link{{
			Name: "flannel.1", MTU: 1450, MAC: ownMAC, Up: true, Exclusive: true,
			VXLAN: &VXLAN{VNI: 1, Port: 8472, Underlay: "eth0", Local: addr("192.0.2.1")},
		}},
		Addrs:   []Addr{{"flannel.1", pfx("10.5.34.0/32")}},
		Neighs:  []Neigh{{"flannel.1", addr("10.5.7.0"), peerMAC}},
		FDB:     []FDB{{"flannel.1", peerMAC, addr("192.0.2.7")}},
		Sysctls: []Sysctl{{"net/ipv4/conf/flannel.1/rp_filter", "2"}},
		Routes: []Route{
			{Dst: pfx("10.5.7.0/24"), Link: "flannel.1", Via: addr("10.5.7.0"), OnLink: true, Src: addr("10.5.34.0")},
		},
	}
}

const (
	vxlanDevice = "vni 1 port 8472 local 192.0.2.1 mac 02:00:00:00:34:01 mtu 1450 alias weft up"
	vxlanNeighs = "10.5.7.0 02:00:00:00:07:01"
	vxlanFDB    = "02:00:00:00:07:01 192.0.2.7"
	vxlanRoutes = "10.5.7.0/24 via 10.5.7.0 dev flannel.1 src 10.5.34.0 onlink"
)

// newVXLANHost is newHost with an underlay eth0.
func newVXLANHost(t *testing.T, backstop time.Duration) *host {
	t.Helper()
	h := newHost(t, backstop)
	h.addUnderlay()
	return h
}

func (h *host) addUnderlay() {
	h.t.Helper()
	far := labtest.Namespace(h.t, "far")
	if err := lab.Veth(lab.End{In: h.ns, Device: "eth0"}, lab.End{In: far, Device: "eth0"}, 1500); err != nil {
		h.t.Fatal(err)
	}
	if err := h.ns.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")); err != nil {
		h.t.Fatal(err)
	}
}

func (h *host) vxlan() string {
	l, err := h.nl.LinkByName("flannel.1")
	if err != nil {
		return err.Error()
	}
	v, a := l.(*netlink.Vxlan), l.Attrs()
	s := fmt.Sprintf("vni %d port %d local %v mac %v mtu %d alias %s", v.VxlanId, v.Port, v.SrcAddr, a.HardwareAddr, a.MTU, a.Alias)
	if a.Flags&net.FlagUp != 0 {
		s += " up"
	}
	return s
}

// entries lists the permanent neighbours of flannel.1, of one family.
func (h *host) entries(family int) string {
	l, err := h.nl.LinkByName("flannel.1")
	if err != nil {
		return err.Error()
	}
	list, err := h.nl.NeighList(0, family)
	if family == unix.AF_BRIDGE {
		list, err = h.nl.NeighList(l.Attrs().Index, family)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	var lines []string
	for _, n := range list {
		switch {
		case n.LinkIndex != l.Attrs().Index || n.State&netlink.NUD_PERMANENT == 0:
		case family == unix.AF_BRIDGE:
			lines = append(lines, fmt.Sprintf("%v %v", n.HardwareAddr, n.IP))
		default:
			lines = append(lines, fmt.Sprintf("%v %v", n.IP, n.HardwareAddr))
		}
	}
	return strings.Join(lines, "\n")
}

func (h *host) wantVXLANState() {
	h.t.Helper()
	h.want("device", h.vxlan, vxlanDevice)
	h.want("addresses", func() string { return h.addrs("flannel.1") }, "10.5.34.0/32")
	h.want("neighbours", func() string { return h.entries(netlink.FAMILY_V4) }, vxlanNeighs)
	h.want("FDB", func() string { return h.entries(unix.AF_BRIDGE) }, vxlanFDB)
	h.want("routes", func() string { return h.routes(RouteProtocol) }, vxlanRoutes)
	h.want("rp_filter", func() string { return h.sysctl("net/ipv4/conf/flannel.1/rp_filter") }, "2")
	h.want("problems", func() string { return fmt.Sprint(h.Status()) }, "[]")
}

func (h *host) setFDB(mac MAC, dst string) error {
	return h.nl.NeighSet(&netlink.Neigh{
		LinkIndex: h.device("flannel.1").Attrs().Index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF,
		State: netlink.NUD_PERMANENT, IP: net.ParseIP(dst), HardwareAddr: mac[:],
	})
}

func (h *host) setNeigh(ip string, mac MAC, state int) error {
	return h.nl.NeighSet(&netlink.Neigh{
		LinkIndex: h.device("flannel.1").Attrs().Index, State: state, IP: net.ParseIP(ip), HardwareAddr: mac[:],
	})
}

// Everything about a VTEP that another program changes is put back because of
// its netlink event: the timer is set to an hour.
func TestEventsHealVXLAN(t *testing.T) {
	otherMAC := MAC{0x02, 0, 0, 0, 0x99, 0x99}
	for _, c := range []struct {
		name   string
		change func(*host) error
		log    string // in exactly one line
	}{
		{"device", func(h *host) error { return h.nl.LinkDel(h.device("flannel.1")) },
			`object="link flannel.1" was="was missing"`},
		{"device down", func(h *host) error { return h.nl.LinkSetDown(h.device("flannel.1")) },
			`object="link flannel.1" was="was down"`},
		{"MAC", func(h *host) error { return h.nl.LinkSetHardwareAddr(h.device("flannel.1"), otherMAC[:]) },
			`object="link flannel.1" was="MAC was 02:00:00:00:99:99"`},
		{"neighbour", func(h *host) error {
			return h.nl.NeighDel(&netlink.Neigh{LinkIndex: h.device("flannel.1").Attrs().Index, IP: net.ParseIP("10.5.7.0")})
		}, `object="neighbour 10.5.7.0 lladdr 02:00:00:00:07:01 dev flannel.1"`},
		{"neighbour elsewhere", func(h *host) error { return h.setNeigh("10.5.7.0", otherMAC, netlink.NUD_PERMANENT) },
			`object="neighbour 10.5.7.0 lladdr 02:00:00:00:07:01 dev flannel.1" was="was at 02:00:00:00:99:99"`},
		{"neighbour that ages", func(h *host) error { return h.setNeigh("10.5.7.0", peerMAC, netlink.NUD_STALE) },
			`object="neighbour 10.5.7.0 lladdr 02:00:00:00:07:01 dev flannel.1" was="was missing"`},
		{"another neighbour", func(h *host) error { return h.setNeigh("10.5.9.0", otherMAC, netlink.NUD_PERMANENT) },
			`object="neighbour 10.5.9.0 lladdr 02:00:00:00:99:99 dev flannel.1" was="should not be there"`},
		{"FDB entry", func(h *host) error {
			return h.nl.NeighDel(&netlink.Neigh{LinkIndex: h.device("flannel.1").Attrs().Index, Family: unix.AF_BRIDGE,
				Flags: netlink.NTF_SELF, IP: net.ParseIP("192.0.2.7"), HardwareAddr: peerMAC[:]})
		}, `object="fdb 02:00:00:00:07:01 dst 192.0.2.7 dev flannel.1"`},
		{"FDB entry elsewhere", func(h *host) error { return h.setFDB(peerMAC, "192.0.2.9") },
			`object="fdb 02:00:00:00:07:01 dst 192.0.2.7 dev flannel.1" was="was at 192.0.2.9"`},
		{"another FDB entry", func(h *host) error { return h.setFDB(otherMAC, "192.0.2.9") },
			`object="fdb 02:00:00:00:99:99 dst 192.0.2.9 dev flannel.1" was="should not be there"`},
		{"route", func(h *host) error { return h.delRoute("10.5.7.0/24", 0) },
			`object="route 10.5.7.0/24 via 10.5.7.0 dev flannel.1"`},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newVXLANHost(t, time.Hour)
			h.apply(vxlanState())
			h.wantVXLANState()
			if err := c.change(h); err != nil {
				t.Fatal(err)
			}
			h.want("lines with "+c.log, func() string { return fmt.Sprint(h.log.count(c.log)) }, "1")
			h.wantVXLANState()
		})
	}
}

// The underlay goes and takes the device with it; both come back, the underlay
// under another index.
func TestUnderlayMadeAnew(t *testing.T) {
	h := newVXLANHost(t, time.Hour)
	h.apply(vxlanState())
	h.wantVXLANState()
	if err := h.nl.LinkDel(h.device("eth0")); err != nil {
		t.Fatal(err)
	}
	h.want("wait", func() string {
		return fmt.Sprint(h.log.count(`msg=waits object="link flannel.1" why="its underlay eth0 does not exist now"`))
	}, "1")
	if err := h.Apply(vxlanState()); err != nil {
		t.Errorf("Apply reports what is only pending: %v", err)
	}
	h.addUnderlay()
	h.wantVXLANState()
}

// A device is kept if it is as wanted, whoever made it, and made anew if not.
func TestAdoptOrMakeAnew(t *testing.T) {
	group := net.ParseIP("239.1.1.1")
	for _, c := range []struct {
		name   string
		change func(*netlink.Vxlan)
		why    string // "": adopted
	}{
		{"flannel's", func(*netlink.Vxlan) {}, ""},
		{"VNI", func(v *netlink.Vxlan) { v.VxlanId = 2 }, "VNI was 2"},
		{"port", func(v *netlink.Vxlan) { v.Port = 4789 }, "port was 4789"},
		{"local", func(v *netlink.Vxlan) { v.SrcAddr = net.IP{192, 0, 2, 9} }, "local address was 192.0.2.9"},
		{"no local", func(v *netlink.Vxlan) { v.SrcAddr = nil }, "local address was invalid IP"},
		{"no underlay", func(v *netlink.Vxlan) { v.VtepDevIndex = 0 }, "underlay was link 0"},
		{"learning", func(v *netlink.Vxlan) { v.Learning = true }, "learning was true"},
		{"GBP", func(v *netlink.Vxlan) { v.GBP = true }, "GBP was true"},
		{"group", func(v *netlink.Vxlan) { v.Group = group }, "sent unknown destinations to 239.1.1.1"},
		{"misses", func(v *netlink.Vxlan) { v.L2miss = true }, "had one of l2miss, l3miss, proxy, rsc"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newVXLANHost(t, time.Hour)
			v := &netlink.Vxlan{
				LinkAttrs: netlink.LinkAttrs{Name: "flannel.1", MTU: 1450, HardwareAddr: net.HardwareAddr{0x6e, 1, 2, 3, 4, 5}},
				VxlanId:   1, Port: 8472, SrcAddr: net.IP{192, 0, 2, 1}, VtepDevIndex: h.device("eth0").Attrs().Index,
			}
			c.change(v)
			if err := h.nl.LinkAdd(v); err != nil {
				t.Fatal(err)
			}
			before := h.device("flannel.1").Attrs().Index
			h.apply(vxlanState())
			h.wantVXLANState()
			line := fmt.Sprintf("msg=\"made anew\" object=\"link flannel.1\" why=%q", c.why)
			anew := h.device("flannel.1").Attrs().Index != before
			if anew != (c.why != "") || anew && h.log.count(line) != 1 {
				t.Errorf("made anew: %v; want a line %s, got\n%s", anew, line, h.log)
			}
		})
	}
}

// What is another program's is never removed, and the error says what to do.
func TestVXLANInTheWay(t *testing.T) {
	t.Run("another kind of device", func(t *testing.T) {
		h := newVXLANHost(t, time.Hour)
		h.addDevice("flannel.1")
		if err := h.Apply(vxlanState()); err == nil || !strings.Contains(err.Error(), "a bridge device of another program has this name") {
			t.Errorf("got %v", err)
		}
		if typ := h.device("flannel.1").Type(); typ != "bridge" {
			t.Errorf("flannel.1 is a %s now", typ)
		}
	})
	t.Run("the same VNI", func(t *testing.T) {
		h := newVXLANHost(t, time.Hour)
		err := h.nl.LinkAdd(&netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx"}, VxlanId: 1, Port: 8472, SrcAddr: net.IP{192, 0, 2, 1}, VtepDevIndex: h.device("eth0").Attrs().Index})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Apply(vxlanState()); err == nil || !strings.Contains(err.Error(), "another VXLAN device has VNI 1 and port 8472") {
			t.Errorf("got %v", err)
		}
	})
}
