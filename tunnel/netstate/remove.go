package netstate

import (
	"errors"
	"log/slog"
	"slices"

	"github.com/vishvananda/netlink"
)

// RemoveOwn is RemoveRoutes, and deletes the VXLAN devices that a Reconciler
// made or adopted, and the named devices. All are attempted; the error joins
// what failed.
func RemoveOwn(log *slog.Logger, devices ...string) error {
	h, err := newHandle()
	if err != nil {
		return err
	}
	defer h.Close()

	errs := []error{removeRoutes(h, log)}
	own, err := ownVXLANs(h)
	errs = append(errs, err, removeLinks(h, append(own, devices...), log))
	return errors.Join(errs...)
}

// RemoveVXLANs deletes the VXLAN devices that a Reconciler made or adopted, but
// for those that are kept.
func RemoveVXLANs(log *slog.Logger, keep ...string) error {
	h, err := newHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	own, err := ownVXLANs(h)
	own = slices.DeleteFunc(own, func(name string) bool { return slices.Contains(keep, name) })
	return errors.Join(err, removeLinks(h, own, log))
}

func removeLinks(h *netlink.Handle, names []string, log *slog.Logger) error {
	var errs []error
	for _, name := range names {
		l, err := h.LinkByName(name)
		if errors.As(err, &netlink.LinkNotFoundError{}) {
			continue
		}
		if err == nil {
			err = ignoreGone(h.LinkDel(l))
		}
		if err != nil {
			errs = append(errs, explain("remove link "+name, err))
			continue
		}
		log.Info("removed", "link", name)
	}
	return errors.Join(errs...)
}

// RemoveRoutes deletes every route of RouteProtocol in the main table, in the
// network namespace of the calling thread. What is gone already is no error.
func RemoveRoutes(log *slog.Logger) error {
	h, err := newHandle()
	if err != nil {
		return err
	}
	defer h.Close()
	return removeRoutes(h, log)
}

func removeRoutes(h *netlink.Handle, log *slog.Logger) error {
	routes, err := ownRoutes(h)
	errs := []error{err}
	for _, r := range routes {
		text := describe(h, r)
		if err := ignoreGone(h.RouteDel(&r)); err != nil {
			errs = append(errs, explain("remove route "+text, err))
			continue
		}
		log.Info("removed", "route", text)
	}
	return errors.Join(errs...)
}
