package assist

import (
	"github.com/cilium/ebpf/asm"
)

// A superpacket is a packet with a gso_size: whoever cuts it puts so many bytes
// of its payload behind each copy of its headers.

// tcpDataOffset is where the length of a TCP header is, in bytes: in the upper half
// of that byte, in words of 32 bits.
const tcpDataOffset = 12

// countPieces puts on the stack how many packets a TCP superpacket is cut into,
// and how many bytes they have together from their IPv4 headers on: what user
// space would count. R2 is then the length of the longest. ip is where the IPv4
// header is, from which on ipLen + tcpLen bytes can be read; length has the
// superpacket's bytes, and is none of R1, R2 and R4.
//
//	u64 headers = ipLen + tcp->doff * 4;
//	if (tcp->doff < 5 || length <= headers)
//		goto elsewhere;
//	packets = (length - headers + skb->gso_size - 1) / skb->gso_size;
//	bytes = length + (packets - 1) * headers;
//	u64 piece = headers + skb->gso_size;
func countPieces(ip int16, length asm.Register, packets, bytes int16, elsewhere string) asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, ip+ipLen+tcpDataOffset, asm.Byte),
		asm.RSh.Imm(asm.R1, 4),
		asm.LSh.Imm(asm.R1, 2),
		asm.JLT.Imm(asm.R1, tcpLen, elsewhere),
		asm.Add.Imm(asm.R1, ipLen),
		asm.JLE.Reg(length, asm.R1, elsewhere),
		loadSkb(asm.R2, skbGSOSize),
		asm.Mov.Reg(asm.R4, length),
		asm.Sub.Reg(asm.R4, asm.R1),
		asm.Add.Reg(asm.R4, asm.R2),
		asm.Sub.Imm(asm.R4, 1),
		asm.Div.Reg(asm.R4, asm.R2),
		asm.StoreMem(asm.RFP, packets, asm.R4, asm.DWord),
		asm.Sub.Imm(asm.R4, 1),
		asm.Mul.Reg(asm.R4, asm.R1),
		asm.Add.Reg(asm.R4, length),
		asm.StoreMem(asm.RFP, bytes, asm.R4, asm.DWord),
		asm.Add.Reg(asm.R2, asm.R1),
	}
}

// storeNumber puts a number of 64 bits on the stack.
func storeNumber(at int16, v int32) asm.Instructions {
	return asm.Instructions{asm.Mov.Imm(asm.R1, v), asm.StoreMem(asm.RFP, at, asm.R1, asm.DWord)}
}

// addCounted adds numbers on the stack to two counters of a slot, if they are of
// any packets.
//
//	if (!packets)
//		goto none;
//	__sync_fetch_and_add(&slot->packets, packets);
//	__sync_fetch_and_add(&slot->bytes, bytes);
func addCounted(slot asm.Register, stackPackets, stackBytes, packets, bytes int16, none string) asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, stackPackets, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, none),
		asm.AddAtomic.Mem(slot, asm.R1, asm.DWord, packets),
		asm.LoadMem(asm.R1, asm.RFP, stackBytes, asm.DWord),
		asm.AddAtomic.Mem(slot, asm.R1, asm.DWord, bytes),
	}
}
