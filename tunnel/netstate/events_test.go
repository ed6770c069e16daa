package netstate

import (
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/netstate/netevent"
)

// Messages as the kernel sends them, after the netlink header, in the byte
// order of the machines that tests run on. ifinfomsg: family, -, type, index,
// flags, change; ifaddrmsg: family, prefix length, flags, scope, index; rtmsg:
// family, dst_len, src_len, tos, table, protocol, scope, type, flags.
const (
	link7     = "\x00\x00\x01\x00\x07\x00\x00\x00\x43\x10\x00\x00\x00\x00\x00\x00"
	nameFlnl0 = "\x0d\x00\x03\x00flannel0\x00\x00\x00\x00"
	nameEth0  = "\x09\x00\x03\x00eth0\x00\x00\x00\x00"
	addrOn7   = "\x02\x20\x00\x00\x07\x00\x00\x00"
	routeMain = "\x02\x10\x00\x00\xfe\x57\x00\x01\x00\x00\x00\x00" // protocol 87
	routeT100 = "\x02\x10\x00\x00\x64\x57\x00\x01\x00\x00\x00\x00"
	routeSt16 = "\x02\x10\x00\x00\xfe\x04\x00\x01\x00\x00\x00\x00" // protocol static
	routeSt24 = "\x02\x18\x00\x00\xfe\x04\x00\x01\x00\x00\x00\x00"
	dst1050   = "\x08\x00\x01\x00\x0a\x05\x00\x00"
	dst1060   = "\x08\x00\x01\x00\x0a\x06\x00\x00"
)

func TestConcerns(t *testing.T) {
	flannel0 := map[string]netlink.Link{"flannel0": &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Index: 7}}, "gone": nil}
	present, absent := newInterest(udpState(), flannel0), newInterest(udpState(), nil)
	for _, c := range []struct {
		name string
		in   *interest
		typ  uint16
		data string
		want bool
	}{
		{"our link", present, unix.RTM_NEWLINK, link7 + nameFlnl0, true},
		{"our link, renamed", present, unix.RTM_NEWLINK, link7 + nameEth0, true},
		{"our link deleted", present, unix.RTM_DELLINK, link7 + nameFlnl0, true},
		{"our link appears", absent, unix.RTM_NEWLINK, link7 + nameFlnl0, true},
		{"another link", absent, unix.RTM_NEWLINK, link7 + nameEth0, false},
		{"link without a name", absent, unix.RTM_NEWLINK, link7, false},
		{"link, cut short", present, unix.RTM_NEWLINK, link7[:15], false},
		{"link with a broken attribute", absent, unix.RTM_NEWLINK, link7 + nameFlnl0[:8], false},
		{"address on our link", present, unix.RTM_DELADDR, addrOn7, true},
		{"address on another link", absent, unix.RTM_NEWADDR, addrOn7, false},
		{"address, cut short", present, unix.RTM_DELADDR, addrOn7[:7], false},
		{"our route", absent, unix.RTM_DELROUTE, routeMain + dst1060, true},
		{"our number in another table", absent, unix.RTM_DELROUTE, routeT100 + dst1050, false},
		{"another route to our destination", absent, unix.RTM_NEWROUTE, routeSt16 + dst1050, true},
		{"a more specific one", absent, unix.RTM_NEWROUTE, routeSt24 + dst1050, false},
		{"another route", absent, unix.RTM_NEWROUTE, routeSt16 + dst1060, false},
		{"another default route", absent, unix.RTM_NEWROUTE, routeSt16, false},
		{"route, cut short", absent, unix.RTM_NEWROUTE, routeMain[:11], false},
		{"something else", present, unix.RTM_NEWNEIGH, addrOn7, false},
	} {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: c.typ}, Data: []byte(c.data)}
		if got := c.in.concerns(m); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func FuzzConcerns(f *testing.F) {
	for _, s := range []string{link7 + nameFlnl0, addrOn7, routeMain + dst1050, ""} {
		for _, typ := range []uint16{unix.RTM_NEWLINK, unix.RTM_NEWADDR, unix.RTM_NEWROUTE} {
			f.Add(typ, []byte(s))
		}
	}
	i := newInterest(udpState(), nil)
	f.Fuzz(func(t *testing.T, typ uint16, data []byte) {
		if i.concerns(syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: typ}, Data: data}) && len(data) < 12 {
			t.Errorf("concerned by %d bytes", len(data))
		}
	})
}

// scriptedEvents is a source of events that fails as told, and then is closed.
type scriptedEvents []error

func (s *scriptedEvents) Next() ([]syscall.NetlinkMessage, error) {
	if len(*s) == 0 {
		return nil, os.ErrClosed
	}
	err := (*s)[0]
	*s = (*s)[1:]
	return nil, err
}

func (s *scriptedEvents) WatchNeighbours() error { return nil }

func (s *scriptedEvents) Close() error { return nil }

// Whatever may have been lost, everything is looked at.
func TestLostEventsMakeDirty(t *testing.T) {
	r := &Reconciler{kernel: &kernel{events: &scriptedEvents{netevent.ErrLost, netevent.ErrLost}}, dirty: make(chan struct{}, 1)}
	r.interest.Store(&interest{})
	r.listen()
	select {
	case <-r.dirty:
	default:
		t.Error("nothing is to be compared")
	}
}

func TestPrefixConversions(t *testing.T) {
	for _, s := range []string{"10.5.34.0/32", "0.0.0.0/0", "::/0", "fd00:5:22::/128"} {
		p := netip.MustParsePrefix(s)
		if got := prefixOf(ipNet(p)); got != p {
			t.Errorf("%v becomes %v", p, got)
		}
	}
	mapped := &net.IPNet{IP: net.IPv4(10, 5, 0, 0), Mask: net.CIDRMask(16, 32)} // a 16-byte IP
	if got := prefixOf(mapped); got != netip.MustParsePrefix("10.5.0.0/16") {
		t.Errorf("a mapped address becomes %v", got)
	}
	if prefixOf(nil).IsValid() || prefixOf(&net.IPNet{}).IsValid() {
		t.Error("nothing becomes a prefix")
	}
}
