package netstate

import (
	"errors"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

type withdrawal struct {
	routes []Route
	done   chan error
}

// Withdraw takes routes, known by destination and metric, out of the desired
// state and out of the kernel, at once: unlike Apply it looks at nothing else,
// which takes long where there are thousands of routes. It is for routes that
// lead nowhere any more. After an error Apply puts things right.
func (r *Reconciler) Withdraw(routes ...Route) error {
	w := withdrawal{routes, make(chan error, 1)}
	select {
	case r.withdrawals <- w:
		return <-w.done
	case <-r.stop:
		return errors.New("withdraw routes: closed")
	}
}

func (r *Reconciler) withdraw(routes []Route) error {
	gone := make(map[routeKey]bool, len(routes))
	for _, route := range routes {
		gone[route.key()] = true
	}
	if r.want != nil {
		r.want.Routes = slices.DeleteFunc(r.want.Routes, func(route Route) bool { return gone[route.key()] })
	}
	var errs []error
	for _, route := range routes {
		err := r.kernel.RouteDel(&netlink.Route{
			Dst: ipNet(route.Dst), Priority: route.key().metric, Table: unix.RT_TABLE_MAIN, Protocol: RouteProtocol,
			Scope: netlink.SCOPE_NOWHERE, // any
		})
		if err = ignoreGone(err); err != nil {
			errs = append(errs, explain("remove "+route.String(), err))
		}
	}
	return errors.Join(errs...)
}
