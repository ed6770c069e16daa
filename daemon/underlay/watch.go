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
// gone, come or been replaced, another MTU, another default route. Calls come
// one at a time from the calling goroutine. Watch returns when ctx ends, with
// its error, or at once if it cannot watch.
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

	var last outcome
	for first := true; ; first = false {
		u, _, err := selectFrom(h, o)
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
