package vxlan

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
)

// behindDirect is the metric of routes into the tunnel where there may be
// direct ones too. It is above 1024, which is what IPv6 makes of metric 0.
const behindDirect = 2000

// Remote is a peer's tunnel endpoint.
type Remote struct {
	Lease subnet.Lease
	Notes []string // why one of its subnets is not served

	ends []end
}

// end is a Remote's end of one side.
type end struct {
	*side
	subnet netip.Prefix
	mac    netstate.MAC
	public netip.Addr
}

// ARP is where the remote's kernel answers ARP inside the tunnel; ok is false
// where that carries IPv6 only.
func (r Remote) ARP() (mac netstate.MAC, ip netip.Addr, ok bool) {
	for _, e := range r.ends {
		if !e.ipv6 {
			return e.mac, e.subnet.Addr(), true
		}
	}
	return mac, ip, false
}

// Remotes makes the endpoints of the leases of a backend type. Those that
// cannot be reached by VXLAN are returned with the reasons.
func (v *VTEP) Remotes(own subnet.Lease, typ string, leases []subnet.Lease) (remotes []Remote, skipped []tunnel.SkippedPeer) {
	self := tunnel.Self{Own: own, Network: v.network}
	type station struct {
		device string
		mac    netstate.MAC
	}
	seen := make(map[station]string, len(leases)) // who has it
	for _, s := range v.sides {
		seen[station{s.device, s.mac}] = "this node"
	}
	skipped = tunnel.Select(self, typ, leases, func(l subnet.Lease) error {
		r, err := v.remote(l)
		if err != nil {
			return err
		}
		for _, e := range r.ends {
			if other := seen[station{e.device, e.mac}]; other != "" {
				return fmt.Errorf("its VtepMAC %v is that of %s too: two hosts cloned from one, with one node ID? remove the state of one", e.mac, other)
			}
		}
		for _, e := range r.ends {
			seen[station{e.device, e.mac}] = l.Subnet.String()
		}
		remotes = append(remotes, r)
		return nil
	})
	return remotes, skipped
}

// remote reads one lease. It is an error if none of its subnets can be reached.
func (v *VTEP) remote(l subnet.Lease) (Remote, error) {
	r := Remote{Lease: l}
	var errs []error
	for i := range v.sides {
		s := &v.sides[i]
		subnet, public, data := l.Subnet.IPv4, l.Attrs.PublicIP, l.Attrs.BackendData
		if s.ipv6 {
			subnet, public, data = l.Subnet.IPv6, l.Attrs.PublicIPv6, l.Attrs.BackendV6Data
		}
		if !subnet.IsValid() {
			continue
		}
		e, err := s.end(subnet, public, data, v.settings.VNI)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.ends = append(r.ends, e)
	}
	if len(r.ends) == 0 {
		if len(errs) == 0 {
			return r, errors.New("no address family in common")
		}
		return r, errs[0]
	}
	for _, err := range errs {
		r.Notes = append(r.Notes, err.Error())
	}
	if len(v.missing) > 0 && len(r.ends) == 1 && l.Subnet.IPv6.IsValid() {
		r.Notes = append(r.Notes, "only one of its subnets is reached: this node's underlay has no address for the other")
	}
	return r, nil
}

func (s *side) end(subnet netip.Prefix, public netip.Addr, data json.RawMessage, vni int) (end, error) {
	mac, err := parseData(data, vni)
	if err != nil {
		return end{}, fmt.Errorf("%v is not reached: %w", subnet, err)
	}
	if !public.IsValid() {
		return end{}, fmt.Errorf("%v is not reached: its lease names no public IP of that family", subnet)
	}
	return end{s, subnet, mac, public}, nil
}

// Add has s lead packets for the remote into the tunnel, by routes of the given
// metric. own is this node's subnet.
func (r Remote) Add(s *netstate.State, own subnet.Subnet, metric int) {
	for _, e := range r.ends {
		via := e.gateway()
		s.Neighs = append(s.Neighs, netstate.Neigh{Link: e.device, IP: via, MAC: e.mac})
		s.FDB = append(s.FDB, netstate.FDB{Link: e.device, MAC: e.mac, Dst: e.public})
		s.Routes = append(s.Routes, netstate.Route{
			Dst: e.subnet, Link: e.device, Via: via, OnLink: !via.IsLinkLocalUnicast(), Src: e.tunnelAddr(own), Metric: metric,
		})
	}
}

// gateway is the next hop to the remote: its tunnel address, as with flannel.
// Where another device has a route for that, such as a direct one, IPv6 does not
// take it as a next hop of this one (ip6_route_check_nh_onlink in
// net/ipv6/route.c), whatever the metrics; there it is a link-local address,
// which nobody needs to have: the MAC's (RFC 4291 appendix A).
func (e end) gateway() netip.Addr {
	if !e.ipv6 || !e.beside {
		return e.subnet.Addr()
	}
	m := e.mac
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 0x02, 9: m[1], 10: m[2], 11: 0xff, 12: 0xfe, 13: m[3], 14: m[4], 15: m[5]})
}

// direct are the routes to the remote without tunnel, which stand while its
// public IP is near.
func (r Remote) direct(underlay string, own subnet.Subnet) (routes []netstate.Route) {
	for _, e := range r.ends {
		routes = append(routes, netstate.Route{
			Dst: e.subnet, Link: underlay, Via: e.public, IfNear: true, Src: e.tunnelAddr(own),
		})
	}
	return routes
}
