package firewall

import (
	"fmt"
	"log/slog"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	forward4 = "net/ipv4/ip_forward"
	forward6 = "net/ipv6/conf/all/forwarding"
)

// EnableForwarding lets the host forward packets of the given families, in the
// network namespace of the calling thread. What it changes it logs; what is
// set already it does not touch.
func EnableForwarding(v4, v6 bool, log *slog.Logger) error {
	if v4 {
		if err := enable(log, forward4); err != nil {
			return err
		}
	}
	if !v6 {
		return nil
	}
	if on, err := isOn(forward6); err != nil || on {
		return err
	}
	if err := keepRouterAdvertisements(log); err != nil {
		return err
	}
	return enable(log, forward6)
}

func enable(log *slog.Logger, key string) error {
	on, err := isOn(key)
	if err != nil || on {
		return err
	}
	if err := setSysctl(key, "1"); err != nil {
		return err
	}
	log.Info("forwarding enabled", "sysctl", dotted(key)+"=1")
	return nil
}

// keepRouterAdvertisements lets the interfaces that learn routes from router
// advertisements go on doing so when the host becomes a router: with accept_ra
// 1 the kernel then throws their default route away (addrconf_fixup_forwarding
// in net/ipv6/addrconf.c), with 2 it does not.
//
// A bridge without such a route is left out: those are the containers', and a
// container must not be able to hand the host a route (CVE-2020-13401).
func keepRouterAdvertisements(log *slog.Logger) error {
	links, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	// All tables: systemd-networkd and VRFs put such routes elsewhere.
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6,
		&netlink.Route{Protocol: unix.RTPROT_RA, Table: unix.RT_TABLE_UNSPEC},
		netlink.RT_FILTER_PROTOCOL|netlink.RT_FILTER_TABLE)
	if err != nil {
		return fmt.Errorf("list routes learnt from router advertisements: %w", err)
	}
	learnt := map[int]bool{}
	for _, r := range routes {
		learnt[r.LinkIndex] = true
	}
	for _, l := range links {
		attrs := l.Attrs()
		if attrs.Flags&unix.IFF_LOOPBACK != 0 || l.Type() == "bridge" && !learnt[attrs.Index] {
			continue
		}
		key := "net/ipv6/conf/" + attrs.Name + "/accept_ra"
		value, err := os.ReadFile("/proc/sys/" + key)
		if err != nil || strings.TrimSpace(string(value)) != "1" {
			continue // gone meanwhile, or without IPv6, or not asked to accept any
		}
		if err := setSysctl(key, "2"); err != nil {
			return err
		}
		log.Info("router advertisements go on being accepted while forwarding", "sysctl", dotted(key)+"=2")
	}
	return nil
}

func isOn(key string) (bool, error) {
	value, err := os.ReadFile("/proc/sys/" + key)
	if err != nil {
		return false, fmt.Errorf("read sysctl %s: %w", dotted(key), err)
	}
	return strings.TrimSpace(string(value)) != "0", nil
}

func setSysctl(key, value string) error {
	if err := os.WriteFile("/proc/sys/"+key, []byte(value), 0); err != nil {
		return fmt.Errorf("set sysctl %s=%s: %w: set it on the host (sysctl -w)", dotted(key), value, err)
	}
	return nil
}

// dotted names a key the way sysctl(8) does. It writes '/' for the dots in an
// interface's name.
func dotted(key string) string {
	return strings.NewReplacer("/", ".", ".", "/").Replace(key)
}
