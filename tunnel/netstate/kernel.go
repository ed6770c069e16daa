package netstate

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/netstate/netevent"
)

// requestTimeout bounds a wait for the kernel's answer, which comes at once
// unless it is lost.
const requestTimeout = 10 * time.Second

// kernel is the way to the kernel of one network namespace.
type kernel struct {
	*netlink.Handle
	loose  *netlink.Handle // without strict checking
	events eventSource
	ns     *Namespace
}

// eventSource is a netevent.Subscription, but in tests.
type eventSource interface {
	Next() ([]syscall.NetlinkMessage, error)
	WatchNeighbours() error
	Close() error
}

// openKernel opens the calling thread's network namespace.
func openKernel() (_ *kernel, err error) {
	runtime.LockOSThread() // all of it in one namespace
	defer runtime.UnlockOSThread()

	k := &kernel{}
	defer func() {
		if err != nil {
			k.close()
		}
	}()
	if k.ns, err = OpenNamespace(); err != nil {
		return nil, err
	}
	if k.Handle, err = newHandle(); err != nil {
		return nil, err
	}
	// Since Linux 4.20 the kernel itself then leaves out other programs'
	// routes; before, and always, the library does.
	_ = k.SetStrictCheck(true)
	if k.loose, err = newHandle(); err != nil {
		return nil, err
	}
	if k.events, err = netevent.Subscribe(); err != nil {
		return nil, err
	}
	return k, nil
}

func newHandle() (*netlink.Handle, error) {
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	if err := h.SetSocketTimeout(requestTimeout); err != nil {
		h.Close()
		return nil, fmt.Errorf("set netlink timeout: %w", err)
	}
	return h, nil
}

func (k *kernel) close() {
	if k.events != nil {
		k.events.Close()
	}
	for _, h := range []*netlink.Handle{k.Handle, k.loose} {
		if h != nil {
			h.Close()
		}
	}
	if k.ns != nil {
		k.ns.Close()
	}
}

// ownRoutes lists the routes of RouteProtocol in the main table, both address
// families.
func ownRoutes(h *netlink.Handle) ([]netlink.Route, error) {
	var all []netlink.Route
	filter := &netlink.Route{Protocol: RouteProtocol, Table: unix.RT_TABLE_MAIN}
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := consistent(func() ([]netlink.Route, error) {
			return h.RouteListFiltered(family, filter, netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
		})
		// A namespace without any route has no main table.
		if err != nil && !errors.Is(err, unix.ENOENT) {
			return nil, fmt.Errorf("list routes: %w", err)
		}
		all = append(all, routes...)
	}
	return all, nil
}

// neighsOf lists the neighbours of all links, of one address family, or the FDB
// entries for unix.AF_BRIDGE. The library's request has padding that is not
// always zero, which the kernel's strict checking refuses at random.
func (k *kernel) neighsOf(family int) ([]netlink.Neigh, error) {
	return consistent(func() ([]netlink.Neigh, error) { return k.loose.NeighList(0, family) })
}

// ownVXLANs names the VXLAN devices that bear our mark.
func ownVXLANs(h *netlink.Handle) (names []string, err error) {
	links, err := consistent(h.LinkList)
	if err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	for _, l := range links {
		if _, ok := l.(*netlink.Vxlan); ok && l.Attrs().Alias == ownAlias {
			names = append(names, l.Attrs().Name)
		}
	}
	return names, nil
}

// consistent repeats a dump that the kernel calls interrupted: it changed in
// between and entries may be missing.
func consistent[T any](dump func() ([]T, error)) (list []T, err error) {
	for range 10 {
		if list, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return list, err
		}
	}
	return nil, err
}
