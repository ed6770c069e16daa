// Package tunnel carries the packets of a node's containers to the other
// nodes. It holds what its backends share: the Backend contract, the peer
// table, and the reconciler for addresses, routes and devices. It knows leases
// as values, but neither etcd nor the daemon.
package tunnel

import (
	"context"
	"encoding/json"
	"errors"
	"net/netip"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel/netstate"
)

// RouteProtocol is the number (rtnetlink rtm_protocol) on every route that
// weft makes, by which it knows its own again.
const RouteProtocol = netstate.RouteProtocol

// Underlay is the interface, and the addresses on it, that carry encapsulated
// packets.
type Underlay struct {
	Name  string // interface name
	Index int
	MTU   int // bytes

	// IPv4 and IPv6 are the addresses sockets bind to; one may be zero.
	IPv4, IPv6 netip.Addr
	// PublicIPv4 and PublicIPv6 are where other nodes send to: the same
	// addresses unless --public-ip says otherwise (NAT).
	PublicIPv4, PublicIPv6 netip.Addr
}

// Network is the cluster network; IPv6 is the zero Prefix unless dual stack.
type Network struct {
	IPv4, IPv6 netip.Prefix
}

// Backend carries packets between this node's subnet and the peers'.
//
// Its life: New…, Data, Start, then any number of SetOwn and SetPeers, Close.
// A backend that fails, or whose underlay changes, is closed and a new one is
// made in its place. The methods are called from one goroutine, but for Status
// and Health, which may be called from any at any time.
type Backend interface {
	// Data is what this node's lease announces: the backend type and its
	// data for IPv4 and IPv6, either of which may be nil. It may change while
	// the backend runs.
	Data() (typ string, v4, v6 json.RawMessage)

	// MTU is what containers should use, in bytes.
	MTU() int

	// Start opens devices and sockets and installs routes for own. When it
	// returns nil, packets are carried (towards no peer yet, or, in a kernel
	// backend, towards the peers of an earlier run). On an error no more is
	// left behind than after Close. The context bounds the start only.
	Start(ctx context.Context, own subnet.Lease) error

	// SetOwn changes this node's lease (public IP, or the subnet itself).
	// The zero Lease stops all forwarding: another node holds the subnet.
	SetOwn(own subnet.Lease) error

	// SetPeers replaces the set of peers: every lease but this node's own.
	// Leases that this backend cannot serve are skipped and shown in Status.
	// The backend keeps peers, which nobody may write to afterwards.
	SetPeers(peers []subnet.Lease)

	// Status describes the backend for `weftd status`.
	Status() Status

	// Health returns an error while packets are not being carried, for
	// instance by a data-path thread that makes no progress.
	Health() error

	// Failed receives one error when the backend cannot go on, for instance
	// because its device was deleted, or when a new one would do better
	// (ErrOutdone).
	Failed() <-chan error

	// Close stops carrying packets and ends every goroutine. What it leaves
	// in the kernel is the backend's to say: udp nothing but the unreachable
	// route, those whose packets the kernel carries everything.
	Close() error
}

// ErrOutdone comes from Failed when packets are carried, but a backend that is
// made anew carries them in a better way.
var ErrOutdone = errors.New("packets can be carried in a better way now")

// Status is a backend's part of `weftd status`.
type Status struct {
	Type         string            `json:"type"`
	Device       string            `json:"device"`
	MTU          int               `json:"mtu"`
	Capabilities []Capability      `json:"capabilities,omitempty"`
	Peers        []PeerStatus      `json:"peers"`
	Skipped      []SkippedPeer     `json:"skipped,omitempty"`
	Problems     []string          `json:"problems,omitempty"` // what the kernel does not hold as it should
	Drops        map[string]uint64 `json:"drops,omitempty"`    // packets by reason

	// ByKernel is what of the peers' packets, which include it, the kernel has
	// carried without the daemon; nil where it carries none.
	ByKernel *Carried `json:"by_kernel,omitempty"`
}

// Carried counts inner packets.
type Carried struct {
	TxPackets uint64 `json:"tx_packets"`
	TxBytes   uint64 `json:"tx_bytes"`
	RxPackets uint64 `json:"rx_packets"`
	RxBytes   uint64 `json:"rx_bytes"`

	// TxSuperpackets is how many superpackets it has sent. TxPackets has what
	// they are cut into.
	TxSuperpackets uint64 `json:"tx_superpackets"`
}

// Capability is an offload or feature of the kernel, in force or not.
type Capability struct {
	Name string `json:"name"`
	On   bool   `json:"on"`
	Why  string `json:"why,omitempty"` // why it is off, or how it was decided
}

// PeerStatus is one peer as the backend uses it.
type PeerStatus struct {
	Subnet    string   `json:"subnet"`
	SubnetV6  string   `json:"subnet_v6,omitempty"`
	NodeID    string   `json:"node_id,omitempty"`
	Endpoint  string   `json:"endpoint"` // address and port, or the next hop
	Path      string   `json:"path"`     // udp, vxlan, host-gw
	PathMTU   int      `json:"path_mtu,omitempty"`
	Notes     []string `json:"notes,omitempty"` // for instance offloads turned off for this peer
	TxPackets uint64   `json:"tx_packets"`
	TxBytes   uint64   `json:"tx_bytes"`
	RxPackets uint64   `json:"rx_packets"`
	RxBytes   uint64   `json:"rx_bytes"`

	// SuperpacketsByKernel: the kernel sends it TCP superpackets, which were
	// found to arrive whole.
	SuperpacketsByKernel bool `json:"superpackets_by_kernel,omitempty"`
}

// SkippedPeer is a lease that the backend cannot serve.
type SkippedPeer struct {
	Subnet string `json:"subnet"`
	Why    string `json:"why"`
}
