package firewall

import (
	"bytes"
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestEnableForwarding(t *testing.T) {
	host, router := labtest.Namespace(t, "host"), labtest.Namespace(t, "router")
	for _, d := range []string{"eth0", "eth1", "veth0", "eth2"} {
		must(t, lab.Veth(lab.End{In: host, Device: d}, lab.End{In: router, Device: d}, 1500))
	}
	must(t, host.Bridge("docker0", 1500, "veth0"))
	must(t, host.Bridge("br0", 1500, "eth2")) // the host's uplink is a port of it
	must(t, host.AddAddr("br0", netip.MustParsePrefix("2001:db8:2::2/64")))
	must(t, host.Sysctl("net/ipv6/conf/eth1/accept_ra", "0"))
	must(t, host.Sysctl("net/ipv4/ip_forward", "0")) // inherited from the machine's
	must(t, host.Sysctl("net/ipv6/conf/all/forwarding", "0"))
	must(t, host.Do(func() error { // as if br0 had heard a router
		br0, err := netlink.LinkByName("br0")
		if err != nil {
			return err
		}
		return netlink.RouteAdd(&netlink.Route{
			LinkIndex: br0.Attrs().Index, Protocol: unix.RTPROT_RA,
			Gw: netip.MustParseAddr("2001:db8:2::1").AsSlice(),
		})
	}))
	sysctl := func(key string) (value string) {
		must(t, host.Do(func() error {
			b, err := os.ReadFile("/proc/sys/net/" + key)
			value = strings.TrimSpace(string(b))
			return err
		}))
		return value
	}
	enable := func(v4, v6 bool) string {
		var logged bytes.Buffer
		must(t, host.Do(func() error { return EnableForwarding(v4, v6, slog.New(slog.NewTextHandler(&logged, nil))) }))
		return logged.String()
	}

	if logged := enable(true, false); !strings.Contains(logged, "net.ipv4.ip_forward=1") || strings.Contains(logged, "ipv6") {
		t.Errorf("IPv4 alone logged %q", logged)
	}
	if got := sysctl("ipv6/conf/all/forwarding"); got != "0" {
		t.Errorf("IPv4 alone set IPv6 forwarding to %s", got)
	}
	if logged := enable(true, true); !strings.Contains(logged, "net.ipv6.conf.all.forwarding=1") || strings.Contains(logged, "ipv4") {
		t.Errorf("IPv6 logged %q", logged)
	}
	for key, want := range map[string]string{
		"ipv4/ip_forward":              "1",
		"ipv6/conf/all/forwarding":     "1",
		"ipv6/conf/eth0/accept_ra":     "2",
		"ipv6/conf/eth1/accept_ra":     "0", // not asked to
		"ipv6/conf/br0/accept_ra":      "2", // has such a route
		"ipv6/conf/docker0/accept_ra":  "1", // a container must not advertise
		"ipv6/conf/default/accept_ra":  "1", // nor one that comes later
		"ipv6/conf/docker0/forwarding": "1",
	} {
		if got := sysctl(key); got != want {
			t.Errorf("%s is %s, want %s", key, got, want)
		}
	}
	if logged := enable(true, true); logged != "" {
		t.Errorf("the second time logged %q", logged)
	}
}
