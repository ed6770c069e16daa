package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// lossesOf is losses, each of a stream's datagrams in one of them only: the receiver may
// be a host, and a host's kernel counts what the ring had no room for, too.
func (c *cluster) lossesOf(s *stream) map[string]uint64 {
	c.t.Helper()
	all := c.losses()
	delete(all, "container2 UdpRcvbufErrors")
	delete(all, "host1 IpOutDiscards")
	all[atSocket] = c.snmp(s.to, "Udp", "RcvbufErrors")
	return all
}

const atSocket = "the receiver's socket"

// accounts waits until each datagram of a stream has arrived or is counted where it was
// lost, and tells which. That can be told while all losses are in front of weftd and at
// the receiver: in between go messages of many datagrams, for each of which the kernel
// counts one.
func (c *cluster) accounts(t *testing.T, s *stream, offered, arrivedBefore uint64, before map[string]uint64) {
	t.Helper()
	exact := true
	grown := make(map[string]uint64)
	c.eventually(func() string {
		arrived := s.arrived.Load() - arrivedBefore
		known := arrived
		exact = true
		clear(grown)
		for place, n := range c.lossesOf(s) {
			if n -= before[place]; n == 0 {
				continue
			}
			grown[place] = n
			known += n
			if place != atSocket && !strings.HasPrefix(place, "weftd1 ") && !strings.HasPrefix(place, "container1 ") {
				exact = false
			}
		}
		if missing := int64(offered - known); arrived > offered || exact && max(missing, -missing) > int64(offered/uncounted) {
			return fmt.Sprintf("%d datagrams sent, %d arrived, lost: %v", offered, arrived, grown)
		}
		return ""
	})
	t.Logf("lost: %v; each counted for itself: %v", grown, exact)
}
