package udp

import (
	"fmt"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

const (
	// maxReads is how many packets are read from the TUN before they are
	// sent, and arenaSize the room for them in bytes: many small ones, or a
	// few superpackets. More would only make the first one wait.
	maxReads  = 64
	arenaSize = 4 * maxRead

	// maxRead is the longest that a read gives, rounded up to cache lines.
	maxRead = (packet.VnetHdrLen + maxPacket + 63) &^ 63

	// segmentsAtOnce is how many packets are cut before they are sent.
	segmentsAtOnce = 128
)

// sender carries packets from one queue of the TUN and from a ring to the sockets. Its
// methods come in the order a packet travels. All belongs to one worker's thread.
type sender struct {
	tun      tunPort
	ring     ringPort // nil where there is none
	vnetHdr  bool
	table    *atomic.Pointer[tunnel.Table]
	counters *counters
	icmp     *icmpWriter
	echo     *echo // answers trials; nil without a socket of IPv4
	mtu      int   // of the underlay

	// batches are, by outer family (IPv4, IPv6), those of each source port, the
	// cluster's port first; empty without a socket.
	batches [2][]*sendBatch

	arena      []byte
	packets    [maxReads][]byte // in the arena; those from the TUN with their vnet headers
	segmenters [maxReads]*packet.Segmenter
	segments   packet.Segments
	info       packet.Info
	slow       fragmenter

	// Of the present turn:
	drained   bool // nothing more waits
	datagrams int  // UDP packets from the TUN, but for superpackets
	taken     int  // packets from the ring
	cutInto   int  // packets that the present batch was cut into
}

func newSender(tun tunPort, vnetHdr bool, table *atomic.Pointer[tunnel.Table], mtu int) *sender {
	s := &sender{tun: tun, vnetHdr: vnetHdr, table: table, counters: new(counters), mtu: min(mtu, maxPacket)}
	s.icmp = newICMPWriter(tun, vnetHdr)
	s.arena = make([]byte, arenaSize)
	for i := range s.segmenters {
		s.segmenters[i] = packet.NewSegmenter(segmentsAtOnce)
	}
	return s
}

// serve carries one batch from the ring, and one from the TUN if it is ready. Whether
// there is more is for the next poll to say: an error means that it cannot go on.
func (s *sender) serve(ready int16) error {
	s.drained, s.datagrams, s.taken = true, 0, 0
	if s.ring != nil {
		if err := s.take(); err != nil {
			return err
		}
	}
	if ready == 0 {
		return nil
	}
	n, err := s.read()
	if err != nil || n == 0 {
		return err
	}
	return s.forward(s.packets[:n])
}

// take sends to their peers packets from the ring, which have been found to be whole
// UDP packets from this node's subnet.
func (s *sender) take() error {
	n, more := s.ring.Take(s.arena, s.packets[:])
	if n == 0 {
		return nil
	}
	s.taken, s.drained = n, !more
	table := s.table.Load()
	s.cutInto = 0
	for i, b := range s.packets[:n] {
		if !s.parse(b) {
			continue
		}
		packet.FinishChecksum(b, &s.info)
		if err := s.carry(s.segmenters[i], packet.VnetHdr{}, b, table); err != nil {
			return err
		}
	}
	return s.flush(n)
}

// read reads packets until there are no more, or no room for another.
func (s *sender) read() (n int, err error) {
	at := 0
	for n < maxReads && at+maxRead <= len(s.arena) {
		size, errno := s.tun.read(s.arena[at : at+maxRead])
		switch errno {
		case 0:
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			return n, nil
		default:
			if n > 0 {
				return n, nil // it will be said again
			}
			return 0, fmt.Errorf("read from the TUN (was the device deleted?): %w", errno)
		}
		s.packets[n] = s.arena[at : at+size]
		n++
		at += (size + 63) &^ 63
	}
	s.drained = false
	return n, nil
}

// forward sends packets from the TUN to their peers.
func (s *sender) forward(packets [][]byte) error {
	table := s.table.Load()
	s.cutInto = 0
	for i, b := range packets {
		var hdr packet.VnetHdr
		if s.vnetHdr {
			if !hdr.Decode(b) {
				s.counters.drop(reason(packet.Truncated), 1)
				continue
			}
			b = b[packet.VnetHdrLen:]
		}
		if !s.parse(b) {
			continue
		}
		if s.info.Protocol == unix.IPPROTO_UDP && hdr.GSOType == packet.GSONone {
			s.datagrams++
		}
		if err := s.carry(s.segmenters[i], hdr, b, table); err != nil {
			return err
		}
	}
	s.counters.in.calls.Add(uint64(len(packets)))
	return s.flush(len(packets))
}

// parse reads a packet's headers into info; one that it does not understand is
// dropped.
func (s *sender) parse(b []byte) bool {
	why := s.info.Parse(b)
	if why != packet.OK {
		s.counters.drop(reason(why), 1)
	}
	return why == packet.OK
}

// carry adds a packet to the batch of its way, unless it is dropped.
func (s *sender) carry(seg *packet.Segmenter, hdr packet.VnetHdr, b []byte, table *tunnel.Table) error {
	peer := s.route(table, hdr, b)
	if peer == nil {
		return nil
	}
	return s.cut(seg, hdr, b, peer, table)
}

// flush sends what was made of so many packets.
func (s *sender) flush(packets int) error {
	s.counters.in.messages.Add(uint64(packets))
	s.counters.in.packets.Add(uint64(s.cutInto))
	for _, list := range s.batches {
		for _, batch := range list {
			if batch.n == 0 {
				continue
			}
			if err := batch.flush(); err != nil {
				return err
			}
		}
	}
	return nil
}

// route returns the peer that a packet is for, or nil if it was dropped or was
// for the engine itself.
func (s *sender) route(table *tunnel.Table, hdr packet.VnetHdr, b []byte) *tunnel.Peer {
	if !table.HasLease() {
		s.counters.drop(noLease, 1)
		return nil
	}
	peer := table.Lookup(s.info.Dst)
	if peer == nil {
		if s.echo.tookTrial(hdr, b, &s.info, table) {
			return nil
		}
		if s.info.Dst.IsMulticast() { // neighbour discovery and the like
			s.counters.drop(notUnicast, 1)
			return nil
		}
		s.counters.drop(noPeer, 1)
		s.icmp.unreachable(b, &s.info, table)
		return nil
	}
	// With --ip-masq nothing comes here with a source that is not of our
	// subnet. Without it such packets do: a weft peer would drop them as
	// spoofed, so they are dropped where the cause is to be found; a flannel
	// peer takes them, and setups that rely on that go on working.
	if peer.Weft > 0 && !table.Owns(s.info.Src) {
		s.counters.drop(foreignSource, 1)
		return nil
	}
	return peer
}

// cut cuts a packet, if it is a superpacket, and adds what results to the
// batch of its way. The pieces stay in the arena.
func (s *sender) cut(seg *packet.Segmenter, hdr packet.VnetHdr, b []byte, peer *tunnel.Peer, table *tunnel.Table) error {
	batch, limit := s.way(peer, b)
	if batch == nil {
		s.counters.drop(noSocket, 1)
		return nil
	}
	if s.info.Version == 6 {
		// No IPv6 host sends less than 1280 bytes, whatever it is told (RFC
		// 8201 section 4): so that much is sent in spite of a path MTU which
		// leaves less, and which may be forged.
		limit = max(limit, minMTUIPv6)
	}
	if why := seg.Load(hdr, b, &s.info); why != packet.OK {
		s.counters.drop(reason(why), 1)
		return nil
	}
	tos := uint8(0) // a flannel peer would lose the congestion marks
	if peer.Weft > 0 {
		tos = packet.ECNEncap(s.info.TOS)
	}
	for seg.Next(&s.segments) {
		segs := &s.segments
		s.cutInto += segs.Count
		if segs.Size > limit || segs.Count == 1 && segs.Last > limit {
			if s.info.DF {
				s.counters.drop(tooBig, segs.Count)
				s.icmp.tooBig(b, &s.info, table, limit)
				return nil // once for a superpacket
			}
			if err := s.fragment(batch, peer, tos, limit); err != nil {
				return err
			}
		} else if err := batch.add(peer, tos, segs); err != nil {
			return err
		}
		if !seg.More() {
			return nil
		}
		// The next segments take the place of these.
		if err := batch.flush(); err != nil {
			return err
		}
	}
	return nil
}

// way returns the batch for a packet to a peer, nil without a socket of that
// family, and the longest inner packet that the way there takes, in bytes.
func (s *sender) way(peer *tunnel.Peer, b []byte) (batch *sendBatch, limit int) {
	mtu := outerMTU(peer, s.mtu)
	list, limit := s.batches[0], mtu-overheadIPv4
	if peer.Endpoint.Is6() {
		list, limit = s.batches[1], mtu-overheadIPv6
	}
	switch {
	case len(list) == 0:
		return nil, 0
	case len(list) == 1 || !peer.SourcePorts:
		return list[0], limit
	}
	return list[sourcePort(packet.FlowHash(b, &s.info), len(list))], limit
}

// outerMTU is the longest outer packet for a peer, in bytes, where the underlay
// takes mtu.
func outerMTU(peer *tunnel.Peer, mtu int) int {
	if path := peer.State.PathMTU.Get(); path != 0 && path < mtu {
		return path
	}
	return mtu
}
