package netstate

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/netstate/netevent"
)

// interest is what the listening goroutine needs to know of the State to tell
// the events that matter from the others. It is replaced, never changed.
type interest struct {
	names   map[string]bool       // of links
	indexes map[int32]bool        // of links that exist
	neighs  map[int32]bool        // of links whose neighbours are kept
	dsts    map[netip.Prefix]bool // of routes
}

// listen turns netlink events into dirty until their source is closed.
func (r *Reconciler) listen() {
	for {
		messages, err := r.kernel.events.Next()
		switch {
		case errors.Is(err, os.ErrClosed):
			return
		case err != nil && !errors.Is(err, netevent.ErrLost):
			r.log.Error("changes of the network are noticed by timer only", "error", err)
			return
		case err != nil || slices.ContainsFunc(messages, r.interest.Load().concerns):
			r.markDirty()
		}
	}
}

func (r *Reconciler) markDirty() {
	select {
	case r.dirty <- struct{}{}:
	default: // it is so already
	}
}

// watchNeighbours asks for the events of neighbours too, which are many on a
// host with containers, once there is something to watch.
func (r *Reconciler) watchNeighbours() {
	if r.neighbours || len(r.want.Neighs) == 0 && !slices.ContainsFunc(r.want.Links, func(l Link) bool { return l.VXLAN != nil }) {
		return
	}
	r.neighbours = true
	if err := r.kernel.events.WatchNeighbours(); err != nil {
		r.log.Error("changes of neighbours are noticed by timer only", "error", err)
	}
}

func newInterest(s State, links map[string]netlink.Link) *interest {
	i := &interest{
		names:   make(map[string]bool),
		indexes: make(map[int32]bool),
		neighs:  make(map[int32]bool),
		dsts:    make(map[netip.Prefix]bool, len(s.Routes)),
	}
	for _, l := range s.Links {
		i.names[l.Name] = true
		if l.VXLAN == nil {
			continue
		}
		i.names[l.VXLAN.Underlay] = true
		if link := links[l.Name]; link != nil {
			i.neighs[int32(link.Attrs().Index)] = true
		}
	}
	for _, n := range s.Neighs {
		if link := links[n.Link]; link != nil {
			i.neighs[int32(link.Attrs().Index)] = true
		}
	}
	for _, a := range s.Addrs {
		i.names[a.Link] = true
	}
	for _, r := range s.Routes {
		i.dsts[r.Dst] = true
		if r.Type == Unicast {
			i.names[r.Link] = true
		}
	}
	for _, l := range links {
		if l != nil {
			i.indexes[int32(l.Attrs().Index)] = true
		}
	}
	return i
}

// concerns tells whether an event may be about something in the State. The
// kernel announces neither the IPv4 routes that go down with a link nor those
// that go with their source address, hence links and addresses.
func (i *interest) concerns(m syscall.NetlinkMessage) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK:
		if len(m.Data) < unix.SizeofIfInfomsg {
			return false
		}
		if i.indexes[nl.DeserializeIfInfomsg(m.Data).Index] {
			return true
		}
		name := netevent.Attribute(m.Data[unix.SizeofIfInfomsg:], unix.IFLA_IFNAME)
		return len(name) > 0 && i.names[string(name[:len(name)-1])] // NUL-terminated
	case unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return len(m.Data) >= unix.SizeofIfAddrmsg && i.indexes[int32(nl.DeserializeIfAddrmsg(m.Data).Index)]
	case unix.RTM_NEWNEIGH, unix.RTM_DELNEIGH:
		// struct ndmsg: family, three bytes of padding, index of the link.
		return len(m.Data) >= unix.SizeofNdMsg && i.neighs[int32(binary.NativeEndian.Uint32(m.Data[4:]))]
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		if len(m.Data) < unix.SizeofRtMsg {
			return false
		}
		route := nl.DeserializeRtMsg(m.Data)
		if route.Table != unix.RT_TABLE_MAIN {
			return false
		}
		if route.Protocol == RouteProtocol {
			return true
		}
		// A route that replaces ours, which is not announced as gone, or one
		// that was in the way.
		dst, ok := netip.AddrFromSlice(netevent.Attribute(m.Data[unix.SizeofRtMsg:], unix.RTA_DST))
		return ok && i.dsts[netip.PrefixFrom(dst, int(route.Dst_len))]
	}
	return false
}
