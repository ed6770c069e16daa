package main

import (
	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/underlay"
	"github.com/weftnet/weft/subnet"
)

// containers tells of the containers on this node's subnet, nil if there is no
// bridge for any. Who asks for the status must have an answer: what cannot be
// found out is left out.
func containers(s control.Status) *control.Containers {
	if !s.Lease.Subnet.IsValid() || s.Backend == nil {
		return nil
	}
	c, err := underlay.ContainersOn(subnet.Subnet{IPv4: s.Lease.Subnet, IPv6: s.Lease.SubnetV6})
	if err != nil || c.Bridge == "" {
		return nil
	}
	return &control.Containers{Bridge: c.Bridge, Count: len(c.MTUs), Larger: c.Larger(s.Backend.MTU)}
}
