// Package control lets `weftd status` and other subcommands talk to the
// running daemon: HTTP and JSON over a unix socket for root only.
package control

import (
	"net/netip"
	"time"

	"github.com/weftnet/weft/tunnel"
)

// Status is the answer to GET /v1/status, and what `weftd status --json`
// prints. Names are stable: fields may be added, but none is renamed, and
// none changes its meaning. A field that does not apply is left out.
type Status struct {
	Version string    `json:"version"` // of the running daemon
	Started time.Time `json:"started"`
	PID     int       `json:"pid"`

	// Ready tells whether containers on this node can reach other nodes as
	// far as the daemon knows. Otherwise NotReady says why not, one reason an
	// entry.
	Ready    bool     `json:"ready"`
	NotReady []string `json:"not_ready,omitempty"`

	Node     Node     `json:"node"`
	Network  Network  `json:"network"`
	Lease    Lease    `json:"lease"`
	Underlay Underlay `json:"underlay"`
	Etcd     Etcd     `json:"etcd"`
	Firewall Firewall `json:"firewall"`

	// Containers is nil where no bridge has an address of this node's subnet.
	Containers *Containers `json:"containers,omitempty"`

	// Backend is nil until the network config is known and a backend runs.
	Backend *tunnel.Status `json:"backend,omitempty"`

	// BadEntries are keys in etcd that could not be read and are skipped.
	BadEntries []BadEntry `json:"bad_entries,omitempty"`
}

// Node is who this node is.
type Node struct {
	ID       string `json:"id"` // as in its lease
	Hostname string `json:"hostname"`
}

// Network is the cluster network as the config in etcd has it.
type Network struct {
	IPv4 netip.Prefix `json:"ipv4,omitzero"`
	IPv6 netip.Prefix `json:"ipv6,omitzero"`

	// Problem says why the config in etcd cannot be used. The daemon then
	// waits, or goes on with the last config that could be.
	Problem string `json:"problem,omitempty"`
}

// Lease is this node's lease.
type Lease struct {
	Subnet   netip.Prefix `json:"subnet,omitzero"`
	SubnetV6 netip.Prefix `json:"subnet_v6,omitzero"`
	Revision int64        `json:"revision,omitempty"` // etcd's ModRevision of its key
	Expires  time.Time    `json:"expires,omitzero"`   // unless renewed; left out for a reservation

	// Reservation tells that the key never expires.
	Reservation bool `json:"reservation"`
	// Held tells that the subnet is this node's to use. It stays so while
	// etcd is away; it is not while another live node owns the key.
	Held bool `json:"held"`
	// Problem says what is wrong with the lease, naming both owners where
	// two claim it.
	Problem string `json:"problem,omitempty"`
}

// Underlay is the interface that carries the tunnel.
type Underlay struct {
	Interface  string     `json:"interface,omitempty"`
	MTU        int        `json:"mtu,omitempty"` // bytes
	IPv4       netip.Addr `json:"ipv4,omitzero"`
	IPv6       netip.Addr `json:"ipv6,omitzero"`
	PublicIPv4 netip.Addr `json:"public_ipv4,omitzero"` // where other nodes send to
	PublicIPv6 netip.Addr `json:"public_ipv6,omitzero"`
}

// Etcd is the connection to etcd. Packets are carried without one, too.
type Etcd struct {
	Endpoints   []string  `json:"endpoints"`
	Connected   bool      `json:"connected"`
	LastContact time.Time `json:"last_contact,omitzero"` // last answer
	Error       string    `json:"error,omitempty"`       // of the last attempt, if that failed
	Embedded    bool      `json:"embedded"`              // a member runs inside this daemon
}

// Firewall is how masquerade and forwarding rules are kept.
type Firewall struct {
	Mode     string   `json:"mode"` // nftables, iptables or off
	Why      string   `json:"why,omitempty"`
	Answers  []string `json:"answers,omitempty"` // what others drop, Docker above all, and how that was answered
	Problems []string `json:"problems,omitempty"`
}

// Containers are those on this node's subnet.
type Containers struct {
	Bridge string `json:"bridge"`
	Count  int    `json:"count"`
	// Larger is how many have an MTU above the backend's: they were started
	// before it was that.
	Larger int `json:"larger_mtu,omitempty"`
}

// BadEntry is a key in etcd that could not be read.
type BadEntry struct {
	Key      string `json:"key"`
	Revision int64  `json:"revision"`
	Error    string `json:"error"`
}
