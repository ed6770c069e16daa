package netstate

import (
	"net/netip"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func TestValidateVXLAN(t *testing.T) {
	addr := netip.MustParseAddr
	for _, c := range []struct {
		name   string
		change func(*State)
		want   string // part of the error; empty for none
	}{
		{"all", func(*State) {}, ""},
		{"VNI", func(s *State) { s.Links[0].VXLAN.VNI = 1 << 24 }, "more than 24 bits"},
		{"port", func(s *State) { s.Links[0].VXLAN.Port = 0 }, "without a port"},
		{"underlay", func(s *State) { s.Links[0].VXLAN.Underlay = "" }, "without an underlay"},
		{"local", func(s *State) { s.Links[0].VXLAN.Local = netip.Addr{} }, "local address"},
		{"multicast MAC", func(s *State) { s.Links[0].MAC[0] = 1 }, "multicast"},
		{"up and down", func(s *State) { s.Links[0].Down = true }, "both up and down"},
		{"offload", func(s *State) { s.Links[0].TxChecksum = 3 }, "unknown setting"},
		{"neighbour without MAC", func(s *State) { s.Neighs[0].MAC = MAC{} }, "MAC of one device"},
		{"neighbour twice", func(s *State) { s.Neighs = append(s.Neighs, s.Neighs[0]) }, "given twice"},
		{"FDB on another link", func(s *State) { s.FDB[0].Link = "eth0" }, "a VXLAN link"},
		{"FDB without destination", func(s *State) { s.FDB[0].Dst = netip.Addr{} }, "a destination"},
		{"FDB twice", func(s *State) { s.FDB = append(s.FDB, FDB{"flannel.1", peerMAC, addr("192.0.2.9")}) }, "given twice"},
		{"near and onlink", func(s *State) { s.Routes[0].IfNear = true }, "called onlink"},
	} {
		s := vxlanState()
		c.change(&s)
		err := s.validate()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s: %v", c.name, err)
		case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
			t.Errorf("%s: got %v, want one with %q", c.name, err, c.want)
		}
	}
}

// A State that is applied shares nothing with its maker.
func TestCloneIsDeep(t *testing.T) {
	s := vxlanState()
	c := s.clone()
	s.Links[0].VXLAN.VNI, s.Neighs[0].MAC, s.FDB[0].MAC = 7, MAC{}, MAC{}
	if c.Links[0].VXLAN.VNI != 1 || c.Neighs[0].MAC != peerMAC || c.FDB[0].MAC != peerMAC {
		t.Errorf("changed: %+v", c)
	}
}

// ndmsg: family, -, index, state, flags, type.
func TestConcernsNeighbours(t *testing.T) {
	const on7, on8 = "\x02\x00\x00\x00\x07\x00\x00\x00\x80\x00\x00\x01", "\x07\x00\x00\x00\x08\x00\x00\x00\x80\x00\x02\x00"
	links := map[string]netlink.Link{
		"flannel.1": &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Index: 7}},
		"eth0":      &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Index: 8}},
	}
	i := newInterest(vxlanState(), links)
	for _, c := range []struct {
		name string
		typ  uint16
		data string
		want bool
	}{
		{"on our link", unix.RTM_DELNEIGH, on7, true},
		{"new on our link", unix.RTM_NEWNEIGH, on7, true},
		{"on the underlay", unix.RTM_NEWNEIGH, on8, false},
		{"cut short", unix.RTM_NEWNEIGH, on7[:11], false},
		{"the underlay itself", unix.RTM_NEWLINK, "\x00\x00\x01\x00\x08\x00\x00\x00\x43\x10\x00\x00\x00\x00\x00\x00", true},
	} {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: c.typ}, Data: []byte(c.data)}
		if got := i.concerns(m); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestParseMAC(t *testing.T) {
	for s, want := range map[string]string{
		"02:1a:2b:3c:4d:5e": "02:1a:2b:3c:4d:5e",
		"02-1A-2B-3C-4D-5E": "02:1a:2b:3c:4d:5e",
		"021a.2b3c.4d5e":    "02:1a:2b:3c:4d:5e",
	} {
		if m, err := ParseMAC(s); err != nil || m.String() != want {
			t.Errorf("%s: %v, %v", s, m, err)
		}
	}
	for _, s := range []string{"", "02:1a:2b:3c:4d", "00:00:00:00:00:00", "ff:ff:ff:ff:ff:ff", "01:00:5e:00:00:01", "02:1a:2b:3c:4d:5e:6f:70"} {
		if m, err := ParseMAC(s); err == nil {
			t.Errorf("%s is taken for %v", s, m)
		}
	}
}

func FuzzParseMAC(f *testing.F) {
	f.Add("02:1a:2b:3c:4d:5e")
	f.Add("021a.2b3c.4d5e")
	f.Fuzz(func(t *testing.T, s string) {
		m, err := ParseMAC(s)
		if err != nil {
			return
		}
		if again, err := ParseMAC(m.String()); err != nil || again != m || m[0]&1 != 0 {
			t.Errorf("%q: %v, again %v, %v", s, m, again, err)
		}
	})
}
