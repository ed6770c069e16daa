package subnet

import (
	"encoding/json"
	"net/netip"
)

// Subnet is what one node leases: an IPv4 prefix and, in a dual-stack
// network, an IPv6 prefix beside it (otherwise the zero Prefix). Both are
// masked. Subnet is comparable and serves as a map key.
type Subnet struct {
	IPv4 netip.Prefix
	IPv6 netip.Prefix
}

// Attrs is the JSON value of a lease. Field names are flannel's; NodeID is
// weft's own and ignored by flannel's parser. A lease without a NodeID is
// owned by its public IP.
type Attrs struct {
	PublicIP      netip.Addr // zero on a node with an IPv6 underlay only
	PublicIPv6    netip.Addr // zero where the node has none
	NodeID        string
	BackendType   string
	BackendData   json.RawMessage
	BackendV6Data json.RawMessage
}

// Lease is one key under <prefix>/subnets/.
type Lease struct {
	Subnet Subnet
	Attrs  Attrs

	// Reservation tells that the key has no etcd lease and so never expires.
	Reservation bool

	// Revision is the key's ModRevision: every write of this lease compares it.
	Revision int64
}
