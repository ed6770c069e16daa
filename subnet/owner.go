package subnet

import "fmt"

// ours tells whether a lease is this node's. Our node ID counts only as long
// as we announce it, or together with our address: a cloned machine has it too.
func (s *situation) ours(l Lease) bool {
	switch l.Attrs.NodeID {
	case s.node.ID:
		return s.announced || s.sameIP(l) || l.Subnet == s.own.Subnet && l.Revision == s.own.Revision
	case "":
		return s.sameIP(l)
	}
	return false
}

// sameIP tells whether a lease has our public IP: the IPv4 one, as with
// flannel, or the IPv6 one where neither side has another.
func (s *situation) sameIP(l Lease) bool {
	if s.attrs.PublicIP.IsValid() || l.Attrs.PublicIP.IsValid() {
		return s.attrs.PublicIP == l.Attrs.PublicIP
	}
	return s.attrs.PublicIPv6.IsValid() && s.attrs.PublicIPv6 == l.Attrs.PublicIPv6
}

// lives tells whether the owner of another's lease has to be taken for alive:
// unless it is a weft node without an alive key.
func (s *situation) lives(l Lease) bool {
	_, alive := s.table.alive[l.Attrs.NodeID]
	return alive || l.Attrs.NodeID == ""
}

// waitFor says that want, which is or was ours, is held by the owner of l.
func (s *situation) waitFor(l Lease, want Subnet) decision {
	as := ""
	if l.Subnet != want {
		as = " as " + l.Subnet.String()
	}
	return decision{verb: wait, rival: l, why: fmt.Sprintf(
		"subnet %s of %s is held by %s%s; stop one of the two, or run `weftd lease renew --new-subnet` here",
		want, s.self(), s.owner(l), as)}
}

// self describes this node for a message.
func (s *situation) self() string { return "this " + describe(s.node) }

func describe(n Node) string {
	host := n.PublicIP
	if n.Hostname != "" {
		host = n.Hostname + ", " + n.PublicIP
	}
	return fmt.Sprintf("node %s (%s)", n.ID, host)
}

// owner describes whose lease l is.
func (s *situation) owner(l Lease) string {
	ip := l.Attrs.PublicIP
	if !ip.IsValid() {
		ip = l.Attrs.PublicIPv6
	}
	node, alive := s.table.alive[l.Attrs.NodeID]
	switch {
	case l.Attrs.NodeID != "" && alive:
		return describe(node)
	case l.Attrs.NodeID != "":
		return describe(Node{ID: l.Attrs.NodeID, PublicIP: ip.String()}) + ", which is not running,"
	case !ip.IsValid() && l.Revision == 0:
		return "an entry in etcd that cannot be read"
	case !ip.IsValid():
		return "a reservation for no node"
	case l.Reservation:
		return "a reservation for " + ip.String()
	}
	return "the flannel node at " + ip.String()
}
