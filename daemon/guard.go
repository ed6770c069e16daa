package main

import (
	"net/netip"

	"github.com/weftnet/weft/daemon/firewall/vtep"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/vxlan"
)

// guardVTEP has the kernel take VXLAN packets from peers only, before the
// backend's device is there to take any. Other backends need no guard.
func (n *node) guardVTEP(b tunnel.Backend, view subnet.View) {
	carrier, ok := b.(interface{ VTEP() *vxlan.VTEP })
	if !ok {
		return
	}
	endpoint := carrier.VTEP()
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
