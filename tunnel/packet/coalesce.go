package packet

// Coalescer joins consecutive packets of a flow into superpackets for the TUN.
// Any number of packets are added, from one receive or several; then the runs
// are taken out in an order that keeps each flow's packets in the order they
// were added in. It is for one goroutine at a time.
//
// Packets added stay in use, and must not change, until Reset. The Coalescer
// does not change them: headers of superpackets are built in scratch memory,
// so that a run which the kernel refuses can be written packet by packet.
type Coalescer struct {
}

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

// Limits of a run.
const (
	maxRunTCP = 128 // packets; bounds the gather list
	maxRunUDP = 64  // packets; the kernel's UDP_GRO_CNT_MAX
)

// NewCoalescer returns a Coalescer that holds at most maxPackets packets (at
// least 1), and joins nothing until Enable is called.
func NewCoalescer(maxPackets int) *Coalescer {
	return &Coalescer{}
}

// Enable says which protocols to coalesce: what the TUN takes (TSO for TCP,
// USO for UDP, from Linux 6.2). It takes effect for packets added later.
func (c *Coalescer) Enable(tcp, udp bool) {
}

// Add takes a packet and what Parse said about it. It returns false, having
// done nothing, if the Coalescer is full: take the runs out and Reset first.
//
// A packet joins the open run of its flow if the kernel's own GRO would join
// them, and if its IPv4 header and TCP or UDP checksums are right. A wrong one
// goes through unchanged and alone, for the receiving kernel to judge.
func (c *Coalescer) Add(pkt []byte, info *Info) bool {
	return false
}

// Next fills run with the next run, and reports whether there was one. No
// packet may be added between the first call of Next and Reset.
func (c *Coalescer) Next(run *Run) bool {
	return false
}

// AppendPackets appends the packets of the run that Next gave last, as they
// were added, for writing them one by one behind an empty vnet header.
func (c *Coalescer) AppendPackets(dst [][]byte) [][]byte {
	return dst
}

// Reset forgets all packets.
func (c *Coalescer) Reset() {
}
