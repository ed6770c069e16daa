package assist

import (
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// The egress program runs for each packet that leaves by the TUN, which has no
// link-layer header: the packet begins with its IP header. It keeps
const (
	regLast = asm.R8 // where the time of the flow is
	regHash = asm.R9 // the flow's hash; after the peer's lookup
	regSlot = asm.R9 // the peer's slot
	// and, once nothing is read from the packet any more, in regPacket:
	regLength = regPacket // the inner packet's bytes
)

// The egress program's stack: keys of maps at -8, then the outer headers, the
// structures that two helpers take, what a superpacket counts for and the hash.
const (
	stackHeader    = -8 - (overhead+7)&^7            // what is put before the inner packet
	stackUDP       = stackHeader + ipLen             // its UDP header
	stackNext      = stackHeader - (nextHopLen+7)&^7 // struct bpf_redir_neigh
	stackFIB       = stackNext - fibLen              // struct bpf_fib_lookup
	stackTxPackets = stackFIB - 8
	stackTxBytes   = stackTxPackets - 8
	stackHash      = stackTxBytes - 8 // of the flow, where floods are looked for
)

// egress is the program that encapsulates.
func egress(cfg Config, m *shared) asm.Instructions {
	return leaving(cfg, m, slices.Concat(
		makeRoom(),
		putHeader(),
		countSent(),
		at(labelCounted, send(cfg)),
		drop(m),
	))
}

// leaving has the given instructions, which end the program, run for a packet
// that is the kernel's. Until there nothing is changed.
func leaving(cfg Config, m *shared, then asm.Instructions) asm.Instructions {
	return slices.Concat(
		asm.Instructions{asm.Mov.Reg(regSkb, asm.R1)},
		readable("readable", ipLen+portsLen, labelUser),
		onlyPlain(0),
		onlyWhole(),
		hashFlow(regHash, 0),
		noteHash(cfg),
		onlyLoneFlows(m, regHash, regLast),
		at(labelLone, onlyOwn(m, ipSource, labelLeave)),
		findPeer(m, ipDestination, labelLeave),
		buildUDP(cfg),
		findSlot(m, regSlot, labelLeave),
		onlyWelcome(m),
		at(labelPiece, onlyFitting()),
		divertFloods(cfg, m),
		at(labelCalm, readLast()),
		buildIP(cfg),
		findRoute(cfg),
		then,
		leaveOrKeep(m, regLast),
		leave(),
	)
}

// onlyWhole leaves to user space a packet that is longer or shorter than its
// header says.
//
//	if (ntohs(ip->tot_len) != skb->len)
//		goto user;
func onlyWhole() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, ipLength, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		loadSkb(asm.R2, skbLen),
		asm.JNE.Reg(asm.R1, asm.R2, labelUser),
	}
}

// maxSuperpacket is the longest superpacket that the kernel sends, in bytes: with
// Ethernet's header, too, it stays below the gso_max_size of most devices, which
// takes it as one (gso_features_check in net/core/dev.c). The TCP of Linux leaves
// more room.
const maxSuperpacket = math.MaxUint16 - overhead - etherLen

// labelPiece is what follows onlyWelcome.
const labelPiece = "piece"

// onlyWelcome leaves to user space, with their flow, superpackets that are not
// TCP's, or to a peer that they do not reach whole but for trials, or that have
// no room for what is put before them, there or here. It sets R2 to the longest
// of the packets that this one is one of or is cut into, and for superpackets the
// numbers on the stack to what countSent counts.
//
//	u64 piece = skb->len, packets = 0, bytes = 0;	// without them the verifier asks for CAP_PERFMON
//	if (skb->gso_size) {
//		if (ip->protocol != IPPROTO_TCP || piece > maxSuperpacket)
//			goto keep;
//		piece, packets, bytes = see countPieces, or goto keep;
//		if (skb->mark == MARK)
//			packets = 0;
//		else if (!slot->superpackets)
//			goto keep;
//	}
//	piece:
func onlyWelcome(m *shared) asm.Instructions {
	const labelTrial = "trial"
	return slices.Concat(storeNumber(stackTxPackets, 0), storeNumber(stackTxBytes, 0), asm.Instructions{
		loadSkb(asm.R2, skbLen),
		loadSkb(asm.R1, skbGSOSize),
		asm.JEq.Imm(asm.R1, 0, labelPiece),
		loadPacket(asm.R1, ipProtocol, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, labelKeep),
		asm.JGT.Imm(asm.R2, maxSuperpacket, labelKeep),
	}, readable("super_readable", ipLen+tcpLen, labelKeep), asm.Instructions{
		loadSkb(asm.R3, skbLen),
	}, countPieces(0, asm.R3, stackTxPackets, stackTxBytes, labelKeep), asm.Instructions{
		loadSkb(asm.R1, skbMark),
		asm.JEq.Imm32(asm.R1, int32(m.mark), labelTrial),
		asm.LoadMem(asm.R1, regSlot, slotSuperpackets, asm.Word),
		asm.JEq.Imm(asm.R1, 0, labelKeep),
		asm.Ja.Label(labelPiece),
	}, at(labelTrial, storeNumber(stackTxPackets, 0)))
}

// onlyFitting leaves to user space what is longer, or is cut into what is longer,
// than the peer's limit, with the flow: its shorter packets are not to pass by
// it. R2 is that length.
//
//	if (piece > slot->limit)
//		goto keep;
//	fib.tot_len = overhead + piece;
func onlyFitting() asm.Instructions {
	return asm.Instructions{
		asm.LoadMem(asm.R1, regSlot, slotLimit, asm.Word),
		asm.JGT.Reg(asm.R2, asm.R1, labelKeep),
		asm.Add.Imm(asm.R2, overhead),
		asm.StoreMem(asm.RFP, stackFIB+fibTotLen, asm.R2, asm.Half),
	}
}

// readLast sets R1 to the inner TOS, and regLength, after which the packet is read no
// more.
//
//	u64 tos = ip->tos, length = skb->len;
func readLast() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, ipTOS, asm.Byte),
		loadSkb(regLength, skbLen),
	}
}

// labelCounted is what follows countSent.
const labelCounted = "counted"

// countSent counts a packet, or what a superpacket is cut into but for a trial.
//
//	if (!skb->gso_size)
//		count(slot, length);
//	else if (packets) {
//		__sync_fetch_and_add(&slot->tx_packets, packets);
//		__sync_fetch_and_add(&slot->tx_bytes, bytes);
//		__sync_fetch_and_add(&slot->tx_superpackets, 1);
//	}
//	counted:
func countSent() asm.Instructions {
	const labelPieces = "count_pieces"
	return slices.Concat(asm.Instructions{
		loadSkb(asm.R1, skbGSOSize),
		asm.JNE.Imm(asm.R1, 0, labelPieces),
	}, count(regSlot, regLength, slotTxPackets, slotTxBytes), asm.Instructions{
		asm.Ja.Label(labelCounted),
	}, at(labelPieces, addCounted(regSlot, stackTxPackets, stackTxBytes, slotTxPackets, slotTxBytes, labelCounted)), asm.Instructions{
		asm.Mov.Imm(asm.R1, 1),
		asm.AddAtomic.Mem(regSlot, asm.R1, asm.DWord, slotTxSuperpackets),
	})
}
