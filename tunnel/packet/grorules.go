package packet

import (
	"bytes"
	"encoding/binary"
)

// The rules of this file are those of the kernel's GRO (tcp_gro_receive,
// udp_gro_receive_segment, inet_gro_flush, ipv6_gro_receive): what it would
// join is what its GSO takes apart again into the same packets.

// shape is what joining needs to know about a packet. A packet that can never
// share a run has a payload of 0.
type shape struct {
	version uint8
	proto   uint8
	flags   uint8 // TCP: PSH and FIN
	l4      int   // offset of the transport header
	header  int   // bytes of all headers
	payload int   // bytes
	seq     uint32
}

// joinable reports whether the packet can share a run with others.
func (s *shape) joinable() bool { return s.payload > 0 }

// ends reports whether a run cannot go on after the packet.
func (s *shape) ends() bool { return s.flags != 0 }

// shapeOf looks at a whole TCP or UDP packet.
//
// Left alone are packets with IPv4 options or IPv6 extension headers, without
// payload, of TCP with SYN, RST, URG or CWR, of UDP without checksum or with a
// length of its own. The kernel joins packets to one with CWR too, but whether
// GSOECN makes CWR appear once or on each segment is for the device to choose.
func shapeOf(pkt []byte, info *Info) shape {
	s := shape{version: info.Version, proto: info.Protocol, l4: info.Transport}
	if s.version == 4 && (s.l4 != ipv4HeaderLen || pkt[6]&^(ipv4DF>>8) != 0) || s.version == 6 && s.l4 != ipv6HeaderLen {
		return s
	}
	l4 := pkt[s.l4:]
	n := transportHeaderLen(l4, s.proto)
	if n == 0 {
		return s
	}
	s.header = s.l4 + n
	if s.proto == ProtoTCP {
		if l4[tcpFlags]&(tcpSYN|tcpRST|tcpURG|tcpCWR) != 0 {
			return s
		}
		s.flags = l4[tcpFlags] & (tcpPSH | tcpFIN)
		s.seq = binary.BigEndian.Uint32(l4[tcpSeq:])
	} else {
		if int(binary.BigEndian.Uint16(l4[udpLength:])) != len(l4) || binary.BigEndian.Uint16(l4[udpChecksum:]) == 0 {
			return s
		}
	}
	s.payload = len(pkt) - s.header
	return s
}

// sameAddresses reports whether pkt has the addresses of the packet of a run.
func sameAddresses(inRun, pkt []byte, info *Info) bool {
	if inRun[0]>>4 != info.Version {
		return false
	}
	if info.Version == 4 {
		return [8]byte(inRun[12:]) == [8]byte(pkt[12:])
	}
	return [32]byte(inRun[8:]) == [32]byte(pkt[8:])
}

// sameFlow reports whether pkt has the addresses and ports of the packet of a
// run, whose transport header is at l4. The protocols are known to be equal.
func sameFlow(inRun []byte, l4 int, pkt []byte, info *Info) bool {
	if len(pkt) < info.Transport+4 || [4]byte(inRun[l4:]) != [4]byte(pkt[info.Transport:]) {
		return false
	}
	return sameAddresses(inRun, pkt, info)
}

// join makes a packet the run's last if it goes on where the run ends.
func (c *Coalescer) join(r *run, at int32, pkt []byte, s *shape) bool {
	first := c.packets[r.first].pkt
	if s.header != r.shape.header || s.payload > r.shape.payload || r.length()+s.payload > maxPacketLen {
		return false
	}
	fixedID := r.fixedID
	if s.version == 4 {
		// Version, TOS, DF and TTL; only DF may be set here.
		if pkt[1] != first[1] || pkt[6] != first[6] || pkt[8] != first[8] {
			return false
		}
		ahead := binary.BigEndian.Uint16(pkt[4:]) - binary.BigEndian.Uint16(first[4:])
		// IDs count up; or, where DF makes them meaningless (RFC 6864), they
		// may stay as they are. The second packet decides which.
		if r.count == 1 && ahead == 0 && pkt[6]&(ipv4DF>>8) != 0 {
			fixedID = true
		}
		if fixedID && ahead != 0 || !fixedID && ahead != uint16(r.count) {
			return false
		}
	} else if [4]byte(pkt) != [4]byte(first) || pkt[7] != first[7] {
		return false // version, traffic class, flow label; hop limit
	}
	if s.proto == ProtoTCP && (s.seq != r.nextSeq || !sameTCPHeader(first[s.l4:s.header], pkt[s.l4:s.header])) {
		return false
	}
	if !r.verified {
		if !verify(first, &r.shape) {
			return false
		}
		r.verified = true
	}
	if !verify(pkt, s) {
		return false
	}
	r.fixedID = fixedID
	r.endFlags = s.flags
	c.extend(r, at, len(pkt), s.payload)
	return true
}

// sameTCPHeader compares what must be equal in the TCP headers of a run: all
// but sequence number, PSH, FIN and checksum.
func sameTCPHeader(a, b []byte) bool {
	return [5]byte(a[tcpAck:]) == [5]byte(b[tcpAck:]) && // data offset included
		(a[tcpFlags]^b[tcpFlags])&^(tcpPSH|tcpFIN) == 0 &&
		[2]byte(a[tcpFlags+1:]) == [2]byte(b[tcpFlags+1:]) && // window
		bytes.Equal(a[tcpUrgent:], b[tcpUrgent:]) // options included
}

// verify checks a packet's IPv4 header and transport checksums.
func verify(pkt []byte, s *shape) bool {
	if s.version == 4 && Sum(pkt[:ipv4HeaderLen], 0) != 0xffff {
		return false
	}
	return checksumOK(pkt, s.version, s.proto, s.l4)
}

// full reports whether the run ends with the packet that joined last.
func (r *run) full(s *shape) bool {
	most := maxRunTCP
	if s.proto == ProtoUDP {
		most = maxRunUDP
	}
	return s.ends() || s.payload < r.shape.payload || r.count == most
}
