package packet

// Limits of a Coalescer.
const (
	maxRunTCP = 128 // packets of a run; bounds the gather list
	maxRunUDP = 64  // likewise; the kernel's UDP_GRO_CNT_MAX
	maxOpen   = 32  // runs that are open at a time, one for each flow
)

// Coalescer joins consecutive packets of a flow into superpackets for the TUN.
// Any number of packets are added, from one receive or several; then the runs
// are taken out in an order that keeps each flow's packets in the order they
// were added in. It is for one goroutine at a time.
//
// Packets added stay in use, and must not change, until Reset. The Coalescer
// does not change them: headers of superpackets are built in scratch memory,
// so that a run which the kernel refuses can be written packet by packet.
type Coalescer struct {
	tcp, udp bool // coalesce these

	packets []added // in the order added
	runs    []run   // in the order begun, which is the order taken out

	// The open runs, which more packets may join: their hashes, for a quick
	// search, and their places in runs.
	openHash [maxOpen]uint32
	openRun  [maxOpen]int32
	open     int // how many
	evict    int // which goes when there are too many, in turn
	latest   int // the slot of the packet added last, or -1: its run is closed

	taken   int      // runs taken out by Next
	scratch []byte   // vnet and packet headers of superpackets
	pieces  [][]byte // gather lists of the runs taken out
}

// added is one packet, in the list of its run's packets.
type added struct {
	pkt  []byte
	next int32 // place of the next packet, if the run has more
}

// run is a packet, and those that joined it.
type run struct {
	first, last int32 // places in packets
	count       int
	bytes       int // of all packets, headers included
	shape       shape
	verified    bool   // the first packet's checksums are right
	fixedID     bool   // all have the same IPv4 ID, rather than IDs counting up
	endFlags    uint8  // PSH and FIN, of the last packet
	nextSeq     uint32 // TCP sequence number that comes next
}

// length returns the length in bytes of the packet that the run makes.
func (r *run) length() int { return r.bytes - (r.count-1)*r.shape.header }

// Run is what one writev gives to the TUN: a superpacket or a single packet,
// with its vnet header.
type Run struct {
	// Pieces is the gather list, the encoded vnet header first (alone for a
	// single packet, together with the packet's headers for a superpacket).
	// It is valid until Reset.
	Pieces  [][]byte
	Packets int // packets in the run; 1: the packet goes out unchanged
	Bytes   int // bytes of those packets, headers included
}

// NewCoalescer returns a Coalescer that holds at most maxPackets packets (at
// least 1), and joins nothing until Enable is called.
func NewCoalescer(maxPackets int) *Coalescer {
	maxPackets = max(maxPackets, 1)
	return &Coalescer{
		latest:  -1,
		packets: make([]added, 0, maxPackets),
		runs:    make([]run, 0, maxPackets),
		// A superpacket has at least two packets, a piece for its headers and
		// one for each payload; a single packet is two pieces.
		scratch: make([]byte, 0, maxPackets/2*maxRunHeader),
		pieces:  make([][]byte, 0, maxPackets*2),
	}
}

// Enable says which protocols to coalesce: what the TUN takes (TSO for TCP,
// USO for UDP, from Linux 6.2). It takes effect for packets added later.
func (c *Coalescer) Enable(tcp, udp bool) {
	c.tcp, c.udp = tcp, udp
	c.open, c.latest = 0, -1
}

// Add takes a packet and what Parse said about it. It returns false, having
// done nothing, if the Coalescer is full: take the runs out and Reset first.
//
// A packet joins the open run of its flow if the kernel's own GRO would join
// them, and if its IPv4 header and TCP or UDP checksums are right. A wrong one
// goes through unchanged and alone, for the receiving kernel to judge.
func (c *Coalescer) Add(pkt []byte, info *Info) bool {
	if len(c.packets) == cap(c.packets) {
		return false
	}
	at := int32(len(c.packets))
	c.packets = append(c.packets, added{pkt: pkt})
	c.latest = -1

	if info.Fragment != NotFragment {
		c.closeBetween(pkt, info)
		c.begin(at, pkt, shape{})
		return true
	}
	if !(info.Protocol == ProtoTCP && c.tcp || info.Protocol == ProtoUDP && c.udp) {
		c.begin(at, pkt, shape{})
		return true
	}
	hash := FlowHash(pkt, info)
	s := shapeOf(pkt, info)
	if slot := c.find(hash, pkt, info); slot >= 0 {
		r := &c.runs[c.openRun[slot]]
		if s.joinable() && c.join(r, at, pkt, &s) {
			c.latest = slot
			if r.full(&s) {
				c.close(slot)
			}
			return true
		}
		c.close(slot) // nothing of this flow may overtake the packet
	}
	c.begin(at, pkt, s)
	if s.joinable() && !s.ends() {
		c.keepOpen(hash)
	}
	return true
}

// begin starts a run with one packet.
func (c *Coalescer) begin(at int32, pkt []byte, s shape) {
	c.runs = append(c.runs, run{
		first: at, last: at, count: 1, bytes: len(pkt),
		shape: s, endFlags: s.flags, nextSeq: s.seq + uint32(s.payload),
	})
}

// find returns the slot of the flow's open run, or -1.
func (c *Coalescer) find(hash uint32, pkt []byte, info *Info) int {
	for slot := range c.open {
		if c.openHash[slot] != hash {
			continue
		}
		r := &c.runs[c.openRun[slot]]
		if r.shape.proto == info.Protocol && sameFlow(c.packets[r.first].pkt, r.shape.l4, pkt, info) {
			return slot
		}
	}
	return -1
}

// keepOpen lets later packets join the run begun last.
func (c *Coalescer) keepOpen(hash uint32) {
	slot := c.open
	if slot == maxOpen {
		slot = c.evict
		c.evict = (c.evict + 1) % maxOpen
	} else {
		c.open++
	}
	c.openHash[slot] = hash
	c.openRun[slot] = int32(len(c.runs) - 1)
	c.latest = slot
}

// close lets no more packets join the run in the slot.
func (c *Coalescer) close(slot int) {
	c.open--
	c.latest = -1
	c.openHash[slot] = c.openHash[c.open]
	c.openRun[slot] = c.openRun[c.open]
}

// closeBetween closes all runs between the addresses of a fragment, whose flow
// cannot be told: it must keep its place among them.
func (c *Coalescer) closeBetween(pkt []byte, info *Info) {
	for slot := c.open - 1; slot >= 0; slot-- {
		r := &c.runs[c.openRun[slot]]
		if sameAddresses(c.packets[r.first].pkt, pkt, info) {
			c.close(slot)
		}
	}
}

// Reset forgets all packets.
func (c *Coalescer) Reset() {
	clear(c.packets) // let go of the callers' buffers
	clear(c.pieces)
	c.packets, c.runs, c.pieces = c.packets[:0], c.runs[:0], c.pieces[:0]
	c.scratch = c.scratch[:0]
	c.open, c.taken, c.latest = 0, 0, -1
}
