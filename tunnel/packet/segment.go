package packet

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

// Segmenter cuts superpackets into packets without copying payload. It is for
// one goroutine, and one packet, at a time.
type Segmenter struct {
}

// NewSegmenter returns a Segmenter whose Next gives at most maxSegments
// packets at a time (at least 1): the bound of its scratch memory, of about
// 180 bytes each. 128, the kernel's UDP_MAX_SEGMENTS, is enough to get any
// 64 KiB superpacket of segments above 512 bytes at once.
func NewSegmenter(maxSegments int) *Segmenter {
	return &Segmenter{}
}

// Load takes a packet as read from the TUN: its vnet header, the packet behind
// it, and what Parse said about that. The packet stays in use until it is cut
// up, and may be changed in place: a plain packet with FlagNeedsCsum gets its
// checksum there.
//
// It returns BadVnetHdr if header and packet contradict each other, Truncated
// or BadHeader if the transport header of a superpacket is not whole or not
// possible. Then there is nothing to be had from Next.
func (s *Segmenter) Load(h VnetHdr, pkt []byte, info *Info) Reason {
	return OK
}

// Next fills segs with the next packets, and reports whether there were any.
// It must be called until it reports false or the rest is to be dropped.
func (s *Segmenter) Next(segs *Segments) bool {
	return false
}
