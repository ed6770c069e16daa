package main

import (
	"net/netip"

	"github.com/weftnet/weft/daemon/firewall/vtep"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// guardVTEP has the kernel take VXLAN packets from peers only, before the
// backend's device is there to take any. Other backends need no guard.
func (n *node) guardVTEP(b tunnel.Backend, view subnet.View) {
	endpoint := endpointOf(b)
	if endpoint == nil {
		return
	}
	c := vtep.Config{
		Port:     endpoint.Port(),
		Devices:  endpoint.Devices(),
		Networks: valid(n.network.IPv4, n.network.IPv6),
		Subnets:  valid(view.Own.Subnet.IPv4, view.Own.Subnet.IPv6),
		Peers:    publicIPs(view.Peers),
	}
	_, err := n.guard.Apply(c)
	n.guarded = true
	n.noteGuard(err)
}

// endpointOf is a backend's VTEP, nil if it has none.
func endpointOf(b tunnel.Backend) *vxlan.VTEP {
	if b, ok := b.(interface{ VTEP() *vxlan.VTEP }); ok {
		return b.VTEP()
	}
	return nil
}

// tidy removes what an earlier run has left, with another network config: VXLAN
// devices that are in nobody's use, but have this node's addresses, and the
// guard of a port where nobody listens. By now packets go the new way.
func (n *node) tidy() {
	if n.tidied {
		return
	}
	n.tidied = true
	var used []string
	if endpoint := endpointOf(n.backend); endpoint != nil {
		used = endpoint.Devices()
	} else {
		_ = vtep.Remove() // a kernel that cannot say has no such rules
	}
	if err := netstate.RemoveVXLANs(n.log, used...); err != nil {
		n.log.Warn("a VXLAN device that an earlier run made stays: remove it by ip link delete", "error", err)
	}
}

// reconcileGuard puts the guard's rules back where somebody changed them.
func (n *node) reconcileGuard() {
	if !n.guarded {
		return
	}
	changed, err := n.guard.Reconcile()
	if changed {
		n.log.Warn("the rules that guard the VXLAN port had been changed; they are in place again")
	}
	n.noteGuard(err)
}

func (n *node) noteGuard(err error) {
	if n.board.setGuardProblem(err) && err != nil {
		n.log.Error("the VXLAN port takes packets from anyone", "error", err)
	}
}

func valid(prefixes ...netip.Prefix) (some []netip.Prefix) {
	for _, p := range prefixes {
		if p.IsValid() {
			some = append(some, p)
		}
	}
	return some
}

// publicIPs are the addresses that leases name.
func publicIPs(leases []subnet.Lease) (addrs []netip.Addr) {
	for _, l := range leases {
		for _, a := range []netip.Addr{l.Attrs.PublicIP, l.Attrs.PublicIPv6} {
			if a.IsValid() {
				addrs = append(addrs, a)
			}
		}
	}
	return addrs
}
