package netstate

import (
	"errors"
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// Packets for the network go to the device while it is there, and nowhere, not
// even to the default route, when it is down or gone.
func TestNothingLeaksToTheDefaultRoute(t *testing.T) {
	h := newHost(t, time.Hour)
	router := labtest.Namespace(t, "router")
	if err := lab.Veth(lab.End{In: h.ns, Device: "eth0"}, lab.End{In: router, Device: "eth0"}, 1500); err != nil {
		t.Fatal(err)
	}
	for _, a := range []string{"192.0.2.1/24", "2001:db8::1/64"} {
		if err := h.ns.AddAddr("eth0", netip.MustParsePrefix(a)); err != nil {
			t.Fatal(err)
		}
	}
	for dst, via := range map[string]string{"0.0.0.0/0": "192.0.2.2", "::/0": "2001:db8::2"} {
		if err := h.ns.AddRoute(netip.MustParsePrefix(dst), netip.MustParseAddr(via)); err != nil {
			t.Fatal(err)
		}
	}
	inside, outside := []string{"10.5.7.2", "fd00:5:7::2"}, []string{"10.6.0.1", "fd00:6::1"}
	check := func(when string, to []string, want string) {
		t.Helper()
		for _, ip := range to {
			if got := h.way(ip); got != want {
				t.Errorf("%s, %s goes to %q, want %q", when, ip, got, want)
			}
		}
	}
	h.apply(udpState())
	check("with the device", inside, "flannel0")
	check("with the device", outside, "eth0")

	// Nobody puts the device up again: the daemon has crashed.
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if err := h.ns.LinkDown("flannel0"); err != nil {
		t.Fatal(err)
	}
	check("with the device down", inside, unix.EHOSTUNREACH.Error())
	if err := h.ns.LinkDelete("flannel0"); err != nil {
		t.Fatal(err)
	}
	check("without the device", inside, unix.EHOSTUNREACH.Error())
	check("without the device", outside, "eth0")
	for _, ip := range inside {
		err := h.ns.Do(func() error {
			c, err := net.Dial("udp", net.JoinHostPort(ip, "9"))
			if err == nil {
				c.Close()
			}
			return err
		})
		if !errors.Is(err, unix.EHOSTUNREACH) {
			t.Errorf("a program that sends to %s gets %v", ip, err)
		}
	}
}
