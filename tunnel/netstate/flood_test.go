package netstate

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// Thousands of changes by other programs neither keep the Reconciler busy nor
// keep it from healing.
func TestFloodOfOtherRoutes(t *testing.T) {
	const flood = 2000
	h := newHost(t, time.Hour)
	h.addDevice("eth0")
	if err := h.nl.LinkSetUp(h.device("eth0")); err != nil {
		t.Fatal(err)
	}
	h.apply(udpState())
	h.wantUDPState()
	before, began := h.passes.Load(), time.Now()
	for i := range flood {
		dst := fmt.Sprintf("172.16.%d.%d/32", i/256, i%256)
		h.addRoute(dst, "eth0", 0)
		if i == flood/2 {
			if err := h.delRoute("10.5.0.0/16", 0); err != nil {
				t.Fatal(err)
			}
		}
		if i%2 == 0 {
			if err := h.delRoute(dst, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	h.wantUDPState()
	passes, took := h.passes.Load()-before, time.Since(began)
	if limit := uint64(took/minGap) + 3; passes > limit {
		t.Errorf("%d comparisons in %v, want at most %d", passes, took, limit)
	}
	t.Logf("%d comparisons while %d routes came and went in %v", passes, flood, took)
	if got := strings.Count(h.routes(unix.RTPROT_STATIC), "\n") + 1; got != flood/2 {
		t.Errorf("%d of the other routes are there, want %d", got, flood/2)
	}
}

// Ten thousand routes of our own, as vxlan has them with as many peers.
func TestManyRoutes(t *testing.T) {
	const peers = 10_000
	h := newHost(t, time.Hour)
	s := udpState()
	for i := range peers {
		s.Routes = append(s.Routes, Route{
			Dst: netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i), 0}), 24), Link: "flannel0",
			Via: netip.AddrFrom4([4]byte{10, byte(64 + i>>8), byte(i), 0}), OnLink: true,
		})
	}
	h.apply(s)
	began := time.Now()
	h.apply(s)
	t.Logf("nothing to do among %d routes: %v", len(s.Routes), time.Since(began))
	began = time.Now()
	if err := h.nl.LinkSetDown(h.device("flannel0")); err != nil { // takes them all along
		t.Fatal(err)
	}
	eventually(t, func() error {
		if n := h.log.count(`msg="put back" more_objects=`); n != 1 {
			return fmt.Errorf("nothing healed:\n%s", h.log)
		}
		return nil
	})
	t.Logf("all back after %v", time.Since(began))
	if list, err := ownRoutes(h.nl); err != nil || len(list) != len(s.Routes) {
		t.Errorf("%d routes of %d: %v", len(list), len(s.Routes), err)
	}
	if n := h.log.count(`msg="put back"`); n != maxLines+1 {
		t.Errorf("%d lines", n)
	}
}
