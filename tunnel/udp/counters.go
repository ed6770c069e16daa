package udp

import (
	"sync/atomic"

	"github.com/weftnet/weft/tunnel/packet"
)

// reason says why a packet was dropped. Reasons below packet.NumReasons are
// the packet package's, of malformed packets.
type reason uint8

const (
	// On the way out.
	noLease       reason = packet.NumReasons + iota // this node holds no lease
	noPeer                                          // nobody leases the destination
	notUnicast                                      // multicast or broadcast
	foreignSource                                   // the source is not of this node's subnet
	tooBig                                          // does not fit the way to the peer
	noSocket                                        // no socket of the peer's address family
	socketFull                                      // the socket's buffer stayed full
	queueFull                                       // a queue on the underlay is full
	unreachable                                     // no way to the peer, as far as this host knows
	filtered                                        // refused by this host's own firewall
	sendFailed                                      // any other error

	// On the way in.
	unknownSender // no lease names the outer source
	spoofedSource // the inner source is not of the sender's subnet
	notForUs      // the inner destination is not of this node's subnet
	oversized     // longer than any packet
	congested     // marked by a router for a sender that ignores marks (RFC 6040)
	uncut         // a superpacket that a peer's kernel has sent and this TUN does not take
	deviceDown    // the TUN is down
	writeRefused  // the TUN does not take it

	numReasons
)

var reasonNames = [numReasons]string{
	noLease:       "no_lease",
	noPeer:        "no_peer",
	notUnicast:    "not_unicast",
	foreignSource: "foreign_source",
	tooBig:        "too_big",
	noSocket:      "no_socket",
	socketFull:    "socket_full",
	queueFull:     "underlay_queue_full",
	unreachable:   "underlay_unreachable",
	filtered:      "firewall",
	sendFailed:    "send_failed",
	unknownSender: "unknown_sender",
	spoofedSource: "spoofed_source",
	notForUs:      "not_for_us",
	oversized:     "oversized",
	congested:     "congestion_not_ect",
	uncut:         "superpacket_not_taken",
	deviceDown:    "device_down",
	writeRefused:  "write_refused",
}

func (r reason) String() string {
	if int(r) < packet.NumReasons {
		return packet.Reason(r).String()
	}
	return reasonNames[r]
}

// counters are those of one thread. Only that thread writes them, once per
// batch where it can, so that the cache lines stay with it; anyone may read.
type counters struct {
	_     [64]byte // keeps other threads' data out of the first cache line
	drops [numReasons]atomic.Uint64

	in, out ioCount // from one end, to the other
	_       [64]byte
}

func (c *counters) drop(r reason, packets int) { c.drops[r].Add(uint64(packets)) }

// ioCount tells how much one system call carries on average.
type ioCount struct {
	calls    atomic.Uint64 // system calls that carried packets
	messages atomic.Uint64 // what those carried: sends, receives, or TUN packets
	packets  atomic.Uint64 // inner packets in those messages
}

func (c *ioCount) add(messages, packets int) {
	c.calls.Add(1)
	c.messages.Add(uint64(messages))
	c.packets.Add(uint64(packets))
}

// addDrops adds the drops that c holds to sums, by name with the direction
// before it. Reasons without drops are left out.
func (c *counters) addDrops(sums map[string]uint64, direction string) {
	for r := range c.drops {
		if n := c.drops[r].Load(); n > 0 {
			sums[direction+"_"+reason(r).String()] += n
		}
	}
}
