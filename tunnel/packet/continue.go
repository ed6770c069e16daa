package packet

import (
	"bytes"
	"encoding/binary"
)

// Continue adds a packet if it plainly goes on where the packet added last
// ended: it is as long, and the headers are the same but for what counts up.
// Most packets of a bulk transfer are such. The result is that of Add, which
// takes three times as long; no Parse is needed, and whatever followed from the
// headers of the packet before, its route for instance, holds for this one too.
// If Continue returns false it has done nothing, and the packet is one for Add.
func (c *Coalescer) Continue(pkt []byte) bool {
	if c.latest < 0 || len(c.packets) == cap(c.packets) {
		return false
	}
	r := &c.runs[c.openRun[c.latest]]
	first := c.packets[r.first].pkt
	// The run has a second packet at least, which was compared at length.
	if !r.verified || len(pkt) != len(first) || r.length()+r.shape.payload > maxPacketLen {
		return false
	}
	s := &r.shape
	if s.version == 4 {
		if [4]byte(pkt) != [4]byte(first) || [4]byte(pkt[6:]) != [4]byte(first[6:]) || [8]byte(pkt[12:]) != [8]byte(first[12:]) {
			return false // all but ID and checksum
		}
		id, firstID := binary.BigEndian.Uint16(pkt[4:]), binary.BigEndian.Uint16(first[4:])
		ahead := id - firstID
		if r.fixedID && ahead != 0 || !r.fixedID && ahead != uint16(r.count) {
			return false
		}
		// The first one's checksum is right, and this is so if the two fields
		// that differ have the same sum.
		sum, firstSum := binary.BigEndian.Uint16(pkt[10:]), binary.BigEndian.Uint16(first[10:])
		if fold(uint64(id)+uint64(sum)) != fold(uint64(firstID)+uint64(firstSum)) {
			return false
		}
	} else if [ipv6HeaderLen]byte(pkt) != [ipv6HeaderLen]byte(first) {
		return false
	}
	l4, inRun := pkt[s.l4:s.header], first[s.l4:s.header]
	if [4]byte(l4) != [4]byte(inRun) {
		return false // ports
	}
	if s.proto == ProtoTCP {
		if binary.BigEndian.Uint32(l4[tcpSeq:]) != r.nextSeq ||
			!bytes.Equal(l4[tcpAck:tcpChecksum], inRun[tcpAck:tcpChecksum]) || // flags included
			!bytes.Equal(l4[tcpUrgent:], inRun[tcpUrgent:]) {
			return false
		}
	} else if [2]byte(l4[udpLength:]) != [2]byte(inRun[udpLength:]) || [2]byte(l4[udpChecksum:]) == [2]byte{} {
		return false
	}
	if !checksumOK(pkt, s.version, s.proto, s.l4) {
		return false
	}
	at := int32(len(c.packets))
	c.packets = append(c.packets, added{pkt: pkt})
	c.extend(r, at, len(pkt), s.payload)
	if r.full(s) {
		c.close(c.latest)
	}
	return true
}

// extend makes the packet added last, at a place in packets, the last of a run.
func (c *Coalescer) extend(r *run, at int32, bytes, payload int) {
	c.packets[r.last].next = at
	r.last = at
	r.count++
	r.bytes += bytes
	r.nextSeq += uint32(payload)
}
