package netstate

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// One bad object does not keep the others from being made, and the error says
// what to do.
func TestApplyAttemptsAll(t *testing.T) {
	pfx, addr := netip.MustParsePrefix, netip.MustParseAddr
	for _, c := range []struct {
		name   string
		change func(*host, *State)
		want   string
		is     error
	}{
		{"next hop off the link", func(_ *host, s *State) {
			s.Routes = append([]Route{{Dst: pfx("10.5.7.0/24"), Link: "flannel0", Via: addr("192.0.2.7")}}, s.Routes...)
		}, "route 10.5.7.0/24 via 192.0.2.7 dev flannel0: add: network is unreachable: no address on the link covers the next hop", unix.ENETUNREACH},
		{"no such parameter", func(_ *host, s *State) {
			s.Sysctls = append([]Sysctl{{"net/ipv4/conf/flannel0/rp_fliter", "2"}}, s.Sysctls...)
		}, "sysctl net/ipv4/conf/flannel0/rp_fliter: this kernel has no such parameter", nil},
		{"value refused", func(_ *host, s *State) {
			s.Sysctls = append([]Sysctl{{"net/ipv4/conf/flannel0/forwarding", "yes"}}, s.Sysctls...)
		}, "sysctl net/ipv4/conf/flannel0/forwarding: write /proc/sys/net/ipv4/conf/flannel0/forwarding: invalid argument", unix.EINVAL},
		{"MTU refused", func(_ *host, s *State) {
			s.Links = append(s.Links, Link{Name: "lo", MTU: 1 << 30}, Link{Name: "flannel1", MTU: 100_000})
		}, "link flannel1: set MTU: invalid argument", unix.EINVAL},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := newHost(t, time.Hour)
			h.addDevice("flannel1")
			s := udpState()
			c.change(h, &s)
			err := h.Apply(s)
			if err == nil || !strings.HasPrefix(err.Error(), c.want) {
				t.Errorf("got %v\nwant %s", err, c.want)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("%v does not wrap %v", err, c.is)
			}
			if got := h.routes(RouteProtocol); got != udpRoutes {
				t.Errorf("routes:\n%s", got)
			}
			if s := h.Status(); len(s) != 1 || !strings.HasPrefix(c.want, s[0].Object+": ") {
				t.Errorf("status: %v", s)
			}
			h.apply(udpState())
			h.wantUDPState()
		})
	}
}

func TestIPv6Disabled(t *testing.T) {
	h := newHost(t, time.Hour)
	if err := h.ns.Sysctl("net/ipv6/conf/flannel0/disable_ipv6", "1"); err != nil {
		t.Fatal(err)
	}
	err := h.Apply(udpState())
	if err == nil || !strings.Contains(err.Error(), "set net.ipv6.conf.flannel0.disable_ipv6 to 0") {
		t.Errorf("got %v", err)
	}
	s := udpState()
	s.Sysctls = append(s.Sysctls, Sysctl{"net/ipv6/conf/flannel0/disable_ipv6", "0"})
	h.apply(s)
	h.wantUDPState()
}

// A State that cannot be is refused before anything is written, and the one
// before is kept up.
func TestInvalidStateIsRefused(t *testing.T) {
	h := newHost(t, time.Hour)
	h.apply(udpState())
	s := udpState()
	s.Routes = append(s.Routes, s.Routes[0])
	if err := h.Apply(s); err == nil || !strings.Contains(err.Error(), "same destination and metric") {
		t.Errorf("got %v", err)
	}
	if err := h.delRoute("10.5.0.0/16", 0); err != nil {
		t.Fatal(err)
	}
	h.wantUDPState()
}

// What was there before the first Apply, left by a former process, stays until
// then.
func TestNothingIsTouchedBeforeApply(t *testing.T) {
	h := newHost(t, 20*time.Millisecond)
	h.apply(udpState())
	again := &host{t: t, ns: h.ns, nl: h.nl, log: &logBuffer{}}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h.do(func() (err error) {
		again.Reconciler, err = newReconciler(h.Reconciler.log, 20*time.Millisecond)
		return
	})
	defer again.Reconciler.Close()
	again.addRoute("10.9.0.0/16", "flannel0", 0)
	time.Sleep(100 * time.Millisecond) // several turns of the timer
	if got := again.routes(RouteProtocol); got != udpRoutes {
		t.Errorf("routes:\n%s", got)
	}
	again.apply(State{})
	if got := again.routes(RouteProtocol); got != "" {
		t.Errorf("routes:\n%s", got)
	}
}

func TestCloseLeavesEverything(t *testing.T) {
	h := newHost(t, time.Hour)
	h.apply(udpState())
	var applying sync.WaitGroup
	for range 4 {
		applying.Go(func() {
			for h.Apply(udpState()) == nil {
			}
		})
	}
	if err := errors.Join(h.Close(), h.Close()); err != nil {
		t.Error(err)
	}
	applying.Wait()
	if err := h.Apply(State{}); err == nil || !strings.Contains(err.Error(), "closed") {
		t.Errorf("Apply after Close: %v", err)
	}
	if got := h.routes(RouteProtocol); got != udpRoutes {
		t.Errorf("routes:\n%s", got)
	}
	if got := h.addrs("flannel0"); got != udpAddrs {
		t.Errorf("addresses: %s", got)
	}
}

func TestRemoveOwn(t *testing.T) {
	h := newHost(t, time.Hour)
	h.addDevice("eth0")
	if err := h.nl.LinkSetUp(h.device("eth0")); err != nil {
		t.Fatal(err)
	}
	h.addRoute("10.5.7.0/24", "eth0", 0)
	s := udpState()
	for i := range 20 {
		s.Routes = append(s.Routes, Route{Dst: netip.MustParsePrefix(fmt.Sprintf("10.5.%d.0/24", 100+i)), Link: "eth0", Metric: 100})
	}
	h.apply(s)
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time there is nothing left
		h.do(func() error { return RemoveOwn(h.Reconciler.log, "flannel0", "flannel.1") })
		if got := h.routes(RouteProtocol); got != "" {
			t.Errorf("routes:\n%s", got)
		}
		if _, err := h.nl.LinkByName("flannel0"); err == nil {
			t.Error("flannel0 is still there")
		}
		if got := h.routes(unix.RTPROT_STATIC); got != "10.5.7.0/24 dev eth0" {
			t.Errorf("other routes: %q", got)
		}
	}
	if n := h.log.count("msg=removed link=flannel0"); n != 1 {
		t.Errorf("logged %d times", n)
	}
	if n := h.log.count(`msg=removed route="10.5.100.0/24 dev eth0 metric 100 proto 87"`); n != 1 {
		t.Errorf("logged %d times:\n%s", n, h.log)
	}
}
