package underlay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate/netevent"
)

const (
	// debounce is how long changes are collected: one that a user makes is
	// many to the kernel, such as a new address after the old one is gone.
	debounce = 200 * time.Millisecond

	// recheck is when the choice is made anew without any event.
	recheck = 30 * time.Second
)

// Watch calls changed with what Select returns, once at the start and then
// whenever it differs from the time before: an interface or address that has
// gone, come back or been replaced, another MTU. As long as the choice made can
// be used it stays, though a start would now choose otherwise: a default route
// that comes up beside must not move a node. Only with CanReach the choice
// follows the routes. Calls come one at a time from the
// calling goroutine. Watch returns when ctx ends, with its error, or at once if
// it cannot watch.
func Watch(ctx context.Context, o Options, changed func(tunnel.Underlay, error)) error {
	events, err := netevent.Subscribe()
	if err != nil {
		return err
	}
	h, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		events.Close()
		return fmt.Errorf("open netlink socket: %w", err)
	}
	defer h.Close()

	relevant := make(chan struct{}, 1)
	ended := make(chan error, 1)
	go func() { ended <- listen(events, o, relevant) }()
	defer func() {
		events.Close()
		<-ended
	}()

	return follow(ctx, relevant, ended, changed, func(former tunnel.Underlay) (tunnel.Underlay, error) {
		if u, ok := same(h, o, former); ok {
			return u, nil
		}
		u, _, err := selectFrom(h, o)
		return u, err
	})
}

// follow is Watch for a way to choose, given the former choice. It returns, too,
// what comes out of ended, and leaves it there.
func follow(ctx context.Context, relevant <-chan struct{}, ended chan error, changed func(tunnel.Underlay, error), choose func(tunnel.Underlay) (tunnel.Underlay, error)) error {
	var last outcome
	for first := true; ; first = false {
		u, err := choose(last.underlay)
		if now := (outcome{u, text(err)}); first || now != last {
			last = now
			changed(u, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case err := <-ended:
			ended <- err
			return err
		case <-time.After(recheck):
			continue
		case <-relevant:
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(debounce):
		}
	}
}

// same chooses the former underlay again, with the MTU that it has by now. It is
// not ok if there was none, if its interface or addresses cannot be used, or if
// the user wants the way to CanReach followed.
func same(h *netlink.Handle, o Options, former tunnel.Underlay) (u tunnel.Underlay, ok bool) {
	address := former.IPv4
	if !address.IsValid() {
		address = former.IPv6
	}
	if !address.IsValid() || o.CanReach.IsValid() {
		return tunnel.Underlay{}, false
	}
	o.Ifaces, o.IfaceRegexes = []string{address.String()}, nil
	u, _, err := selectFrom(h, o)
	ok = err == nil && u.Index == former.Index && u.IPv4 == former.IPv4 && u.IPv6 == former.IPv6
	return u, ok
}

// outcome is what is compared.
type outcome struct {
	underlay tunnel.Underlay
	err      string
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// listen passes on that there was an event that matters, until the
// subscription is closed.
func listen(events *netevent.Subscription, o Options, relevant chan<- struct{}) error {
	for {
		messages, err := events.Next()
		if err != nil && !errors.Is(err, netevent.ErrLost) {
			return err
		}
		if err != nil || slices.ContainsFunc(messages, func(m syscall.NetlinkMessage) bool { return concerns(m, o) }) {
			select {
			case relevant <- struct{}{}:
			default: // one is waiting
			}
		}
	}
}

// concerns: of routes only the default one matters, but for a route that is
// looked up.
func concerns(m syscall.NetlinkMessage, o Options) bool {
	switch m.Header.Type {
	case unix.RTM_NEWROUTE, unix.RTM_DELROUTE:
		return o.CanReach.IsValid() || len(m.Data) >= unix.SizeofRtMsg && m.Data[1] == 0 // rtm_dst_len
	}
	return true
}
