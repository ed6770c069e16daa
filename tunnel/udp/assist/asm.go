package assist

import (
	"encoding/binary"
	"net/netip"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// What the programs are made of. R0 is a call's result, R1 to R5 are its
// arguments and lost by it; R6 to R9 stay, and each program says what it keeps
// in them. These two are the same in all.
const (
	regSkb    = asm.R6 // struct __sk_buff *
	regPacket = asm.R7 // the packet's first byte, see readable
)

// Fields of struct __sk_buff (linux/bpf.h), of 32 bits each.
const (
	skbLen         = 0
	skbPacketType  = 4
	skbMark        = 8
	skbProtocol    = 16 // in network byte order
	skbVLANPresent = 20
	skbData        = 76
	skbDataEnd     = 80
	skbGSOSize     = 176
)

// Offsets and lengths of headers, in bytes.
const (
	etherLen = 14

	ipTOS         = 1
	ipLength      = 2
	ipID          = 4
	ipFragment    = 6
	ipTTL         = 8
	ipProtocol    = 9
	ipChecksum    = 10
	ipSource      = 12
	ipDestination = 16
	ipLen         = 20 // without options

	udpSource      = 0
	udpDestination = 2
	udpLength      = 4
	udpChecksum    = 6
	udpLen         = 8

	portsLen = 4 // of TCP and UDP
	overhead = ipLen + udpLen
)

const (
	versionAndLength = 4<<4 | ipLen/4 // the first byte of an IPv4 header without options
	dontFragment     = 0x4000
	fragmentBits     = 0x3fff // "more fragments", and the offset
	ecnMask          = 3
)

// Verdicts, enum tcx_action_base in linux/bpf.h.
const (
	tcxNext = -1 // the next program or, in the end, the stack
	tcxDrop = 2
)

// labelUser is where a program ends whose packet is user space's.
const labelUser = "user"

// wire16 is what a load of two bytes gives that are a big-endian number.
func wire16(v uint16) int32 {
	return int32(binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, v)))
}

// wire32 is what a load of an address's four bytes gives. It may be negative:
// it is to be compared as 32 bits only (Imm32), not extended to 64.
func wire32(a netip.Addr) int32 {
	b := a.As4()
	return int32(binary.NativeEndian.Uint32(b[:]))
}

// wireWord is what a load of four bytes gives that are a big-endian number: to be
// compared as 32 bits only, too.
func wireWord(v uint32) int32 {
	return int32(binary.NativeEndian.Uint32(binary.BigEndian.AppendUint32(nil, v)))
}

// at puts a label before instructions.
func at(label string, code asm.Instructions) asm.Instructions {
	code[0] = code[0].WithSymbol(label)
	return code
}

func loadSkb(dst asm.Register, field int16) asm.Instruction {
	return asm.LoadMem(dst, regSkb, field, asm.Word)
}

func loadPacket(dst asm.Register, offset int16, size asm.Size) asm.Instruction {
	return asm.LoadMem(dst, regPacket, offset, size)
}

// readable sets regPacket to the packet, of which n bytes can then be read. What
// is shorter goes elsewhere. The driver or the sending socket may have left part
// of them in pages, from where the helper gets them.
//
//	if (skb->data + n > skb->data_end)
//		bpf_skb_pull_data(skb, n);
//	packet = skb->data;
//	if (packet + n > skb->data_end)
//		goto elsewhere;
func readable(label string, n int32, elsewhere string) asm.Instructions {
	return append(asm.Instructions{
		loadSkb(asm.R1, skbData),
		loadSkb(asm.R2, skbDataEnd),
		asm.Add.Imm(asm.R1, n),
		asm.JLE.Reg(asm.R1, asm.R2, label),
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, n),
		asm.FnSkbPullData.Call(),
	}, at(label, asm.Instructions{
		loadSkb(regPacket, skbData),
		loadSkb(asm.R2, skbDataEnd),
		asm.Mov.Reg(asm.R1, regPacket),
		asm.Add.Imm(asm.R1, n),
		asm.JGT.Reg(asm.R1, asm.R2, elsewhere),
	})...)
}

// onlyIPv4 leaves other protocols to user space. The network header is then
// where it is on this kind of device: VLAN tags are not part of the packet.
//
//	if (skb->protocol != htons(ETH_P_IP))
//		goto user;
func onlyIPv4() asm.Instructions {
	return asm.Instructions{
		loadSkb(asm.R1, skbProtocol),
		asm.JNE.Imm(asm.R1, wire16(unix.ETH_P_IP), labelUser),
	}
}

// onlyPlain leaves headers with options and fragments to user space.
//
//	if (ip->version != 4 || ip->ihl != 5 || ip->frag_off & htons(0x3fff))
//		goto user;
func onlyPlain(ip int16) asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, ip, asm.Byte),
		asm.JNE.Imm(asm.R1, versionAndLength, labelUser),
		loadPacket(asm.R1, ip+ipFragment, asm.Half),
		asm.JSet.Imm(asm.R1, wire16(fragmentBits), labelUser),
	}
}

// sumHeader sets dst to the sum of the 16-bit words of an IPv4 header (RFC
// 1071): 0xffff if its checksum is right, or what is to be inverted if the
// checksum is yet 0. Byte order does not matter.
//
//	u64 sum = w[0] + w[1] + w[2] + w[3] + w[4];	// 35 bits
//	sum = (sum >> 16) + (sum & 0xffff);		// 20 bits
//	sum = (sum >> 16) + (sum & 0xffff);		// 0x1000e at most
//	sum = (sum >> 16) + (sum & 0xffff);
func sumHeader(dst, scratch, base asm.Register, ip int16) (code asm.Instructions) {
	code = append(code, asm.LoadMem(dst, base, ip, asm.Word))
	for i := int16(4); i < ipLen; i += 4 {
		code = append(code, asm.LoadMem(scratch, base, ip+i, asm.Word), asm.Add.Reg(dst, scratch))
	}
	for range 3 {
		code = append(code,
			asm.Mov.Reg(scratch, dst),
			asm.RSh.Imm(scratch, 16),
			asm.And.Imm(dst, 0xffff),
			asm.Add.Reg(dst, scratch),
		)
	}
	return code
}

// onlyOwn sends a packet elsewhere one of whose addresses, at offset, does not
// lie in this node's subnet. R1 is then the subnet's address.
//
//	u64 own = node.own;
//	if ((address & own >> 32) != (u32)own)
//		goto elsewhere;
func onlyOwn(m *shared, address int16, elsewhere string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, m.node.FD(), nodeOwn),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		asm.Mov.Reg(asm.R2, asm.R1),
		asm.RSh.Imm(asm.R2, 32),
		loadPacket(asm.R3, address, asm.Word),
		asm.And.Reg(asm.R3, asm.R2),
		asm.JNE.Reg32(asm.R3, asm.R1, elsewhere),
	}
}

// findPeer sets R0 to the peer (see peerValue) that one of the packet's
// addresses, at offset, belongs to, with the key on the stack at -8. The peer
// has a public address, which is then in R1: all others are user space's.
//
//	struct { u32 bits, address; } key = {32, address};
//	struct peer *peer = bpf_map_lookup_elem(&peers, &key);
//	if (!peer || !peer->public)
//		goto elsewhere;
func findPeer(m *shared, address int16, elsewhere string) asm.Instructions {
	return asm.Instructions{
		asm.StoreImm(asm.RFP, -8, 32, asm.Word),
		loadPacket(asm.R1, address, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, m.peers.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -8),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, elsewhere),
		asm.LoadMem(asm.R1, asm.R0, peerPublic, asm.Word),
		asm.JEq.Imm(asm.R1, 0, elsewhere),
	}
}

// findSlot sets dst to the slot of the peer in R0, with the key on the stack
// at -4.
//
//	struct slot *slot = bpf_map_lookup_elem(&slots, &peer->slot);
//	if (!slot)
//		goto elsewhere;
func findSlot(m *shared, dst asm.Register, elsewhere string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.R0, peerSlot, asm.Word),
		asm.StoreMem(asm.RFP, -4, asm.R1, asm.Word),
		asm.LoadMapPtr(asm.R1, m.slots.FD()),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, -4),
		asm.FnMapLookupElem.Call(),
		asm.JEq.Imm(asm.R0, 0, elsewhere),
		asm.Mov.Reg(dst, asm.R0),
	}
}

// count adds one packet of the given length to two counters of a slot.
//
//	__sync_fetch_and_add(&slot->packets, 1);
//	__sync_fetch_and_add(&slot->bytes, length);
func count(slot, length asm.Register, packets, bytes int16) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(slot, asm.R1, asm.DWord, packets),
		asm.AddAtomic.Mem(slot, length, asm.DWord, bytes),
	}
}

// labelDrop is where a packet ends that cannot be as it was any more.
const labelDrop = "drop"

// drop is labelDrop: it counts and drops.
//
//	__sync_fetch_and_add(&node.drops, 1);
//	return TCX_DROP;
func drop(m *shared) asm.Instructions {
	return at(labelDrop, asm.Instructions{
		asm.LoadMapValue(asm.R1, m.node.FD(), nodeDrops),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, tcxDrop),
		asm.Return(),
	})
}

// leave is labelUser.
//
//	return TCX_NEXT;
func leave() asm.Instructions {
	return at(labelUser, asm.Instructions{asm.Mov.Imm(asm.R0, tcxNext), asm.Return()})
}
