package tunnel

import (
	"encoding/json"
	"net/netip"
	"strconv"

	"github.com/weftnet/weft/subnet"
)

// WireVersion is the version of weft's own wire features, which the lease of a
// weft node announces in its BackendData as {"weft":1}. Towards a node that
// announces none, only what flannel understands may be sent.
const WireVersion = 1

// Announced is what the BackendData of a weft node's lease says of its udp
// path. flannel ignores the keys.
type Announced struct {
	Weft  int  `json:"weft"`             // WireVersion; 0: a flannel node
	Probe int  `json:"probe,omitempty"`  // version of package probe that it answers; 0: none
	NoUDP bool `json:"no_udp,omitempty"` // it has no udp path now, only that of its Fallback

	// SourcePorts: it may be sent to from further source ports. All weft nodes
	// take that, but the firewalls on the way must let it through: who asked
	// for it (the config's SourcePorts) has seen to that.
	SourcePorts bool `json:"source_ports,omitempty"`

	// Assist: its kernel takes datagrams of the udp path by itself (package
	// tunnel/udp/assist), so that the checksum of the packet inside may be left
	// for the card to make.
	Assist bool `json:"assist,omitempty"`
}

// Announcement is the BackendData that announces WireVersion and no more.
func Announcement() json.RawMessage { return json.RawMessage(announcement) }

var (
	announcement = `{"weft":` + strconv.Itoa(WireVersion) + `}`
	withAssist   = `{"weft":` + strconv.Itoa(WireVersion) + `,"assist":true}`
)

// ReadAnnounced reads a lease's BackendData: zero for a flannel node, which
// writes none, and for data that is not weft's.
func ReadAnnounced(data json.RawMessage) Announced {
	switch string(data) { // without parsing, for clusters of many nodes
	case withAssist:
		return Announced{Weft: WireVersion, Assist: true}
	case announcement:
		return Announced{Weft: WireVersion}
	}
	var a Announced
	if json.Unmarshal(data, &a) != nil || a.Weft <= 0 {
		return Announced{}
	}
	return a
}

// Peer is another node as the data path sees it. It is never changed once it
// is in a Table, but for its State.
type Peer struct {
	Subnet   subnet.Subnet // IPv6 is zero where the peer cannot receive it
	NodeID   string
	Endpoint netip.Addr // where its packets are sent
	Weft     int        // wire version it announced, 0: a flannel node
	Probe    int        // version of package probe that it answers, 0: none

	SourcePorts bool // it takes packets from further source ports
	Assist      bool // its kernel takes packets by itself

	// State outlives the Peer: the Peer of a later Table with the same
	// subnet and endpoint has the same one.
	State *PeerState

	// public are the addresses its packets may come from. Only the address is
	// checked, for a NAT may change the port.
	public [2]netip.Addr
}

// Owns reports whether an inner address lies in the peer's subnet. The tunnel
// address does: it is the subnet's network address.
func (p *Peer) Owns(inner netip.Addr) bool {
	return owns(p.Subnet, inner)
}

// At reports whether a lease named outer as an address of this peer.
func (p *Peer) At(outer netip.Addr) bool {
	return outer == p.public[0] || outer == p.public[1]
}

func owns(s subnet.Subnet, inner netip.Addr) bool {
	if inner.Is4() {
		return s.IPv4.Contains(inner)
	}
	return s.IPv6.Contains(inner)
}
