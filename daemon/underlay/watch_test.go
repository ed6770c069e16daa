package underlay

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
)

// watch starts Watch and returns its calls, as text.
func (l *lan) watch(o Options) <-chan string {
	l.t.Helper()
	o.Network = network
	ctx, cancel := context.WithCancel(context.Background())
	calls, ended := make(chan string, 100), make(chan error, 1)
	go func() {
		ended <- l.Do(func() error {
			return Watch(ctx, o, func(u tunnel.Underlay, err error) {
				if err != nil {
					calls <- err.Error()
					return
				}
				calls <- summary(u)
			})
		})
	}()
	l.t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			l.t.Errorf("Watch ended with %v", err)
		}
	})
	return calls
}

// next waits for the next call, whose text starts with want.
func (l *lan) next(calls <-chan string, want string) {
	l.t.Helper()
	select {
	case got := <-calls:
		if !strings.HasPrefix(got, want) {
			l.t.Fatalf("got  %s\nwant %s", got, want)
		}
	case <-time.After(patience):
		l.t.Fatalf("no call with %s", want)
	}
}

// settles waits for a call whose text starts with want. Others may come before:
// of what is several changes to the kernel a busy machine may be in the middle
// for longer than they are collected.
func (l *lan) settles(calls <-chan string, want string) {
	l.t.Helper()
	late := time.After(patience)
	for got := ""; !strings.HasPrefix(got, want); {
		select {
		case got = <-calls:
		case <-late:
			l.t.Fatalf("no call with %s, but last %q", want, got)
		}
	}
}

func TestWatch(t *testing.T) {
	l := newLAN(t)
	l.addrs("eth0", "192.0.2.1/24")
	l.addrs("eth1", "198.51.100.1/24")
	l.defaultVia("192.0.2.254", 100)
	calls := l.watch(Options{})
	l.next(calls, "eth0 192.0.2.1 - ")

	// A new address: the old one goes and its default route with it, and both
	// are there again a moment later.
	l.delAddr("eth0", "192.0.2.1/24")
	l.addrs("eth0", "192.0.2.7/24")
	l.defaultVia("192.0.2.254", 100)
	l.settles(calls, "eth0 192.0.2.7 - ")

	// What does not change the choice makes no call: these are over when the
	// next line's change is seen.
	l.addrs("eth0", "192.0.2.8/24", "203.0.113.1/24")
	l.bridge("docker0", "172.17.0.1/16")
	l.defaultVia("198.51.100.254", 200)
	time.Sleep(2 * debounce)

	l.addrs("eth0", "2001:db8::1/64")
	l.next(calls, "eth0 192.0.2.7 2001:db8::1 ")
	l.addrs("eth0", "2001:db8::2/64") // the older one is kept
	time.Sleep(2 * debounce)

	if err := l.nl.LinkSetMTU(l.device("eth0"), 1400); err != nil {
		t.Fatal(err)
	}
	l.next(calls, "eth0 192.0.2.7 2001:db8::1 ")

	if err := l.LinkDown("eth0"); err != nil { // takes its default route along
		t.Fatal(err)
	}
	l.next(calls, "eth1 198.51.100.1 - ")

	// As long as that one can be used, the node stays there, whatever becomes
	// of the default routes.
	if err := l.LinkUp("eth0"); err != nil {
		t.Fatal(err)
	}
	l.defaultVia("192.0.2.254", 100)
	time.Sleep(2 * debounce)
	if err := l.nl.RouteDel(&netlink.Route{Dst: ipNet("0.0.0.0/0"), Priority: 200}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * debounce)
	l.delAddr("eth1", "198.51.100.1/24")
	l.next(calls, "eth0 192.0.2.7 ")
}

// Changes in a row make one call, and what makes no event is seen as well.
func TestFollow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mtu atomic.Int64
		relevant := make(chan struct{}, 1)
		var calls []int
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() {
			done <- follow(ctx, relevant, make(chan error, 1), func(u tunnel.Underlay, _ error) { calls = append(calls, u.MTU) },
				func(tunnel.Underlay) (tunnel.Underlay, error) { return tunnel.Underlay{MTU: int(mtu.Load())}, nil })
		}()
		change := func(to int64) {
			time.Sleep(debounce / 10)
			mtu.Store(to)
			select {
			case relevant <- struct{}{}:
			default: // one is waiting
			}
		}
		for to := range int64(5) {
			change(1 + to)
		}
		time.Sleep(2 * debounce)
		change(5) // nothing new
		time.Sleep(2 * debounce)
		mtu.Store(6)
		time.Sleep(2 * recheck)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) || !slices.Equal(calls, []int{0, 5, 6}) {
			t.Errorf("%v after the calls %v, want 0, 5 and 6", err, calls)
		}
	})
}

func TestWatchNamedInterfaceGoneAndBack(t *testing.T) {
	l := newLAN(t)
	calls := l.watch(Options{Ifaces: []string{"up0"}})
	l.next(calls, "no interface for the underlay: --iface up0: no interface has this name")
	l.bridge("up0")
	l.settles(calls, "no interface for the underlay: --iface up0: up0 has no address")
	l.addrs("up0", "192.0.2.1/24")
	l.next(calls, "up0 192.0.2.1 ")
	if err := l.LinkDelete("up0"); err != nil {
		t.Fatal(err)
	}
	l.next(calls, "no interface for the underlay: --iface up0: no interface has this name")
	l.bridge("up0", "192.0.2.1/24")
	l.settles(calls, "up0 192.0.2.1 ")
}

// A route that decides which interface reaches a node.
func TestWatchCanReach(t *testing.T) {
	l := newLAN(t)
	l.addrs("eth0", "192.0.2.1/24")
	l.addrs("eth1", "198.51.100.1/24")
	l.defaultVia("192.0.2.254", 0)
	calls := l.watch(Options{CanReach: netip.MustParseAddr("203.0.113.9")})
	l.next(calls, "eth0 192.0.2.1 ")
	l.route(netlink.Route{Dst: ipNet("203.0.113.0/24"), LinkIndex: l.device("eth1").Attrs().Index})
	l.next(calls, "eth1 198.51.100.1 ")
}

func TestWatchEndsWithItsContext(t *testing.T) {
	l := newLAN(t)
	ctx, cancel := context.WithCancel(context.Background())
	called := 0
	err := l.Do(func() error {
		return Watch(ctx, Options{}, func(tunnel.Underlay, error) {
			called++
			cancel()
		})
	})
	if !errors.Is(err, context.Canceled) || called != 1 {
		t.Errorf("%v after %d calls", err, called)
	}
}

func TestConcerns(t *testing.T) {
	const ( // rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
		defaultRoute = "\x02\x00\x00\x00\xfe\x03\x00\x01\x00\x00\x00\x00"
		otherRoute   = "\x02\x18\x00\x00\xfe\x03\x00\x01\x00\x00\x00\x00"
	)
	reach := Options{CanReach: netip.MustParseAddr("192.0.2.1")}
	for _, c := range []struct {
		name string
		typ  uint16
		data string
		o    Options
		want bool
	}{
		{"default route", unix.RTM_NEWROUTE, defaultRoute, Options{}, true},
		{"default route gone", unix.RTM_DELROUTE, defaultRoute, Options{}, true},
		{"another route", unix.RTM_NEWROUTE, otherRoute, Options{}, false},
		{"another route with --iface-can-reach", unix.RTM_DELROUTE, otherRoute, reach, true},
		{"route, cut short", unix.RTM_NEWROUTE, defaultRoute[:11], Options{}, false},
		{"link", unix.RTM_NEWLINK, "", Options{}, true},
		{"address", unix.RTM_DELADDR, "", Options{}, true},
	} {
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: c.typ}, Data: []byte(c.data)}
		if got := concerns(m, c.o); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
