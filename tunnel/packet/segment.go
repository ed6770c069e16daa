package packet

import "encoding/binary"

// Segments is a batch of packets cut out of one superpacket (or one plain
// packet), as a gather list. All packets have the same length but the last,
// which may be shorter: one UDP_SEGMENT send can carry them.
//
// The pieces point into the Segmenter's scratch memory and into the packet
// given to Load. They are valid until the next call of Load or Next.
type Segments struct {
	// Pieces is the flat gather list. A plain packet is one piece; each
	// packet of a superpacket is two, header then payload.
	Pieces [][]byte
	Count  int // packets
	Size   int // bytes of each packet but the last
	Last   int // bytes of the last packet, at most Size
}

// Slice returns the pieces of packets i to j-1.
func (s *Segments) Slice(i, j int) [][]byte {
	per := len(s.Pieces) / s.Count
	return s.Pieces[i*per : j*per]
}

// headerRoom is the scratch memory for each segment's headers. IPv4 and TCP
// with all options are 120 bytes; longer headers (IPv6 extensions) mean fewer
// segments at a time.
const headerRoom = 128

// Segmenter cuts superpackets into packets without copying payload. It is for
// one goroutine, and one packet, at a time.
type Segmenter struct {
	maxSegments int
	scratch     []byte // nil until it is needed
	pieces      [][]byte

	plain []byte // a packet to be given out whole, or nil

	// The superpacket that is being cut up.
	header  []byte // its headers, as they came
	payload []byte // what is left of its payload
	mss     int    // payload bytes of each segment but the last
	l4      int    // offset of the transport header
	tcp     bool
	ipv4    bool
	first   bool // the next segment is the first

	id    uint16 // IPv4 identification of the next segment
	seq   uint32 // TCP sequence number of the next segment
	ipSum uint16 // sum of the IPv4 header but for total length, ID, checksum
	l4Sum uint16 // sum of pseudo-header and transport header but for what put… add
}

// NewSegmenter returns a Segmenter whose Next gives at most maxSegments
// packets at a time (at least 1): the bound of its scratch memory, of about
// 180 bytes each, which it makes when it first has a superpacket. 128, the
// kernel's UDP_MAX_SEGMENTS, is enough to get any 64 KiB superpacket of
// segments above 512 bytes at once.
func NewSegmenter(maxSegments int) *Segmenter {
	return &Segmenter{maxSegments: max(maxSegments, 1), pieces: make([][]byte, 1)}
}

// Load takes a packet as read from the TUN: its vnet header, the packet behind
// it, and what Parse said about that. The packet stays in use until it is cut
// up, and may be changed in place: a plain packet with FlagNeedsCsum gets its
// checksum there.
//
// It returns BadVnetHdr if header and packet contradict each other, BadHeader if
// the transport header of a superpacket is not whole or not possible. Then
// there is nothing to be had from Next.
func (s *Segmenter) Load(h VnetHdr, pkt []byte, info *Info) Reason {
	s.plain, s.payload = nil, nil
	if h.GSOType == GSONone {
		return s.loadPlain(h, pkt, info)
	}
	tcp, ok := gsoKind(h, info)
	if !ok {
		return BadVnetHdr
	}
	l4 := pkt[info.Transport:]
	n := transportHeaderLen(l4, info.Protocol)
	if n == 0 {
		return BadHeader
	}
	headerLen := info.Transport + n
	if headerLen > s.maxSegments*headerRoom {
		return BadHeader
	}
	// The kernel takes a packet that fits one segment for a plain one, too.
	if len(pkt)-headerLen <= int(h.GSOSize) {
		return s.loadPlain(h, pkt, info)
	}
	if s.scratch == nil {
		s.scratch = make([]byte, s.maxSegments*headerRoom)
		s.pieces = make([][]byte, s.maxSegments*2)
	}
	s.header, s.payload = pkt[:headerLen], pkt[headerLen:]
	s.mss = int(h.GSOSize)
	s.l4 = info.Transport
	s.tcp, s.ipv4 = tcp, info.Version == 4
	s.first = true
	s.prepareSums(h, info)
	return OK
}

// loadPlain takes a packet that is no superpacket, and completes its checksum
// where the kernel left that to the device.
func (s *Segmenter) loadPlain(h VnetHdr, pkt []byte, info *Info) Reason {
	if h.Flags&FlagNeedsCsum != 0 {
		start := int(h.CsumStart)
		at := start + int(h.CsumOffset)
		if start < info.Transport || at+2 > len(pkt) {
			return BadVnetHdr
		}
		// The field holds the sum of the pseudo-header, which is what the
		// sum over the packet lacks.
		binary.BigEndian.PutUint16(pkt[at:], nonzero(^Sum(pkt[start:], 0)))
	}
	s.plain = pkt
	return OK
}

// gsoKind checks the vnet header of a superpacket against its packet. The
// kernel never fails these checks; a guest behind a tap might. HdrLen is only
// a hint, and some senders' are wrong: it is not looked at.
func gsoKind(h VnetHdr, info *Info) (tcp, ok bool) {
	if h.GSOSize == 0 || info.Fragment != NotFragment {
		return false, false
	}
	csumOffset := uint16(tcpChecksum)
	switch h.GSOType {
	case GSOTCPv4, GSOTCPv4 | GSOECN:
		tcp, ok = true, info.Version == 4 && info.Protocol == ProtoTCP
	case GSOTCPv6, GSOTCPv6 | GSOECN:
		tcp, ok = true, info.Version == 6 && info.Protocol == ProtoTCP
	case GSOUDPL4:
		ok = info.Protocol == ProtoUDP
		csumOffset = udpChecksum
	}
	if h.Flags&FlagNeedsCsum != 0 && (int(h.CsumStart) != info.Transport || h.CsumOffset != csumOffset) {
		return false, false
	}
	return tcp, ok
}

// prepareSums sums up once what the headers of all segments share.
func (s *Segmenter) prepareSums(h VnetHdr, info *Info) {
	ip, l4 := s.header[:s.l4], s.header[s.l4:]
	if s.ipv4 {
		s.id = binary.BigEndian.Uint16(ip[4:])
		s.ipSum = Sum(ip[0:2], Sum(ip[6:10], Sum(ip[12:], 0)))
	}
	var sum uint16
	if h.Flags&FlagNeedsCsum != 0 {
		// The field holds the sum of the pseudo-header, length included. It
		// is right where the addresses in sight are not those that count (an
		// IPv6 routing header), and the kernel uses it likewise.
		length := uint16(len(l4) + len(s.payload))
		sum = fold(uint64(binary.BigEndian.Uint16(l4[h.CsumOffset:])) + uint64(^length))
	} else {
		sum = addressSum(ip, info.Version, info.Protocol)
	}
	sum = Sum(l4[0:4], sum) // ports
	if s.tcp {
		s.seq = binary.BigEndian.Uint32(l4[tcpSeq:])
		sum = Sum(l4[tcpAck:tcpDataOff], sum)
		sum = Sum(l4[tcpFlags+1:tcpChecksum], sum) // window
		sum = Sum(l4[tcpUrgent:], sum)             // urgent pointer, options
	}
	s.l4Sum = sum
}

// Next fills segs with the next packets, and reports whether there were any.
// It must be called until it reports false or the rest is to be dropped.
func (s *Segmenter) Next(segs *Segments) bool {
	if s.plain != nil {
		s.pieces[0] = s.plain
		*segs = Segments{Pieces: s.pieces[:1], Count: 1, Size: len(s.plain), Last: len(s.plain)}
		s.plain = nil
		return true
	}
	if len(s.payload) == 0 {
		return false
	}
	headerLen := len(s.header)
	most := min(len(s.pieces)/2, len(s.scratch)/headerLen)
	n, last := 0, 0
	for ; n < most && len(s.payload) > 0; n++ {
		chunk := s.payload[:min(s.mss, len(s.payload))]
		s.payload = s.payload[len(chunk):]
		header := s.scratch[n*headerLen : (n+1)*headerLen]
		s.putHeader(header, chunk)
		s.pieces[2*n], s.pieces[2*n+1] = header, chunk
		last = headerLen + len(chunk)
	}
	segs.Pieces = s.pieces[:2*n]
	segs.Count = n
	segs.Last = last
	segs.Size = last
	if n > 1 {
		segs.Size = headerLen + s.mss
	}
	return true
}

// More reports whether Next has more packets to give. Who sends what Next gave
// only later, together with other packets, must send it now if so.
func (s *Segmenter) More() bool { return s.plain != nil || len(s.payload) > 0 }

// putHeader writes the headers of the segment that carries chunk.
func (s *Segmenter) putHeader(header, chunk []byte) {
	copy(header, s.header)
	total := len(header) + len(chunk)
	if s.ipv4 {
		// The ID counts up, DF or not, as in the kernel's inet_gso_segment.
		// Superpackets whose ID must stay fixed are cut by the kernel: no
		// TUN announces that it could.
		binary.BigEndian.PutUint16(header[2:], uint16(total))
		binary.BigEndian.PutUint16(header[4:], s.id)
		binary.BigEndian.PutUint16(header[10:], ^fold(uint64(s.ipSum)+uint64(total)+uint64(s.id)))
		s.id++
	} else {
		binary.BigEndian.PutUint16(header[4:], uint16(total-ipv6HeaderLen))
	}
	if s.tcp {
		s.putTCP(header[s.l4:], chunk)
	} else {
		s.putUDP(header[s.l4:], chunk)
	}
	s.first = false
}

func (s *Segmenter) putTCP(l4, chunk []byte) {
	// PSH and FIN are about the end of the data; CWR must be sent once only
	// (RFC 3168 section 6.1.2).
	if len(s.payload) > 0 {
		l4[tcpFlags] &^= tcpPSH | tcpFIN
	}
	if !s.first {
		l4[tcpFlags] &^= tcpCWR
	}
	binary.BigEndian.PutUint32(l4[tcpSeq:], s.seq)
	sum := uint64(s.l4Sum) +
		uint64(len(l4)+len(chunk)) +
		uint64(s.seq>>16) + uint64(s.seq&0xffff) +
		uint64(binary.BigEndian.Uint16(l4[tcpDataOff:]))
	binary.BigEndian.PutUint16(l4[tcpChecksum:], ^Sum(chunk, fold(sum)))
	s.seq += uint32(len(chunk))
}

func (s *Segmenter) putUDP(l4, chunk []byte) {
	length := len(l4) + len(chunk)
	binary.BigEndian.PutUint16(l4[udpLength:], uint16(length))
	sum := uint64(s.l4Sum) + 2*uint64(length) // in the pseudo-header and in the header
	binary.BigEndian.PutUint16(l4[udpChecksum:], nonzero(^Sum(chunk, fold(sum))))
}
