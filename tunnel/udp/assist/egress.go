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

// The egress program's stack: keys of maps at -8, then the outer headers and
// the structures that two helpers take.
const (
	stackHeader = -8 - (overhead+7)&^7            // what is put before the inner packet
	stackUDP    = stackHeader + ipLen             // its UDP header
	stackNext   = stackHeader - (nextHopLen+7)&^7 // struct bpf_redir_neigh
	stackFIB    = stackNext - fibLen              // struct bpf_fib_lookup
)

// struct bpf_fib_lookup in linux/bpf.h.
const (
	fibFamily    = 0 // of the destination; then of the next hop
	fibProtocol  = 1
	fibSport     = 2
	fibDport     = 4
	fibTotLen    = 6 // of the outer packet, in host byte order
	fibInterface = 8 // of arrival; then of departure
	fibSource    = 16
	fibDest      = 32 // then the next hop
	fibLen       = 64
)

// struct bpf_redir_neigh in linux/bpf.h.
const (
	nextHopFamily = 0
	nextHopAddr   = 4
	nextHopLen    = 20
)

const (
	loopback  = 1 // LOOPBACK_IFINDEX in net/flow.h: what local sockets' packets arrive by
	outerTTL  = 64
	labelDrop = "drop"
)

// egress is the program that encapsulates.
func egress(cfg Config, m *shared) asm.Instructions {
	return slices.Concat(
		asm.Instructions{asm.Mov.Reg(regSkb, asm.R1)},
		readable("readable", ipLen+portsLen),
		onlyPlain(0),
		onlyWhole(),
		hashFlow(regHash),
		onlyLoneFlows(m, regHash, regLast),
		at(labelLone, onlyOwn(m, ipSource)),
		findPeer(m, ipDestination),
		buildUDP(cfg),
		findSlot(m, regSlot),
		onlyFitting(),
		buildIP(cfg),
		findRoute(cfg),
		makeRoom(),
		putHeader(),
		count(regSlot, regLength, slotTxPackets, slotTxBytes),
		send(cfg),
		keepFlow(regLast),
		at(labelUser, asm.Instructions{asm.Mov.Imm(asm.R0, tcxNext), asm.Return()}),
		at(labelDrop, drop(m)),
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

// buildUDP writes the outer UDP header and the outer destination to the stack;
// R0 is the peer, R1 its public address. The source port is chosen like the
// engine's (sourcePort of package udp).
//
//	header.ip.daddr = peer->public;
//	u64 port = peer->source_ports ? (hash * SOURCE_PORTS >> 32) + PORT : PORT;
//	header.udp = {htons(port), htons(PORT), htons(udpLen + skb->len), 0};
func buildUDP(cfg Config) asm.Instructions {
	const labelPort = "source_port"
	code := asm.Instructions{
		asm.StoreMem(asm.RFP, stackHeader+ipDestination, asm.R1, asm.Word),
		asm.Mov.Imm(asm.R2, int32(cfg.Port)),
		asm.LoadMem(asm.R1, asm.R0, peerSourcePorts, asm.Word),
		asm.JEq.Imm(asm.R1, 0, labelPort),
		asm.Mov.Reg(asm.R2, regHash),
		asm.Mul.Imm(asm.R2, int32(max(cfg.SourcePorts, 1))),
		asm.RSh.Imm(asm.R2, 32),
		asm.Add.Imm(asm.R2, int32(cfg.Port)),
	}
	return append(code, at(labelPort, asm.Instructions{
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.RFP, stackUDP+udpSource, asm.R2, asm.Half),
		asm.StoreImm(asm.RFP, stackUDP+udpDestination, int64(wire16(cfg.Port)), asm.Half),
		loadSkb(asm.R2, skbLen),
		asm.Add.Imm(asm.R2, udpLen),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.RFP, stackUDP+udpLength, asm.R2, asm.Half),
		asm.StoreImm(asm.RFP, stackUDP+udpChecksum, 0, asm.Half),
	})...)
}

// onlyFitting leaves to user space what is longer than the peer's limit, with
// the flow: its shorter packets are not to pass by it. It sets regLength, after
// which the packet is read no more but for its TOS, now in R1.
//
//	u64 length = skb->len;
//	if (length > slot->limit)
//		goto keep;
func onlyFitting() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, ipTOS, asm.Byte),
		loadSkb(regLength, skbLen),
		asm.LoadMem(asm.R2, regSlot, slotLimit, asm.Word),
		asm.JGT.Reg(regLength, asm.R2, labelKeep),
	}
}

// buildIP writes the outer IP header to the stack; R1 is the inner TOS. The ID
// may be 0 where DF is set (RFC 6864).
//
//	header.ip = {4, 5, tos & 3, htons(overhead + length), 0, htons(IP_DF), 64, IPPROTO_UDP, 0, LOCAL, peer->public};
//	header.ip.check = ~sum(header.ip);
func buildIP(cfg Config) asm.Instructions {
	store := func(field int16, value int32, size asm.Size) asm.Instruction {
		return asm.StoreImm(asm.RFP, stackHeader+field, int64(value), size)
	}
	return slices.Concat(asm.Instructions{
		store(0, versionAndLength, asm.Byte),
		asm.And.Imm(asm.R1, ecnMask),
		asm.StoreMem(asm.RFP, stackHeader+ipTOS, asm.R1, asm.Byte),
		asm.Mov.Reg(asm.R1, regLength),
		asm.Add.Imm(asm.R1, overhead),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.RFP, stackHeader+ipLength, asm.R1, asm.Half),
		store(ipID, 0, asm.Half),
		store(ipFragment, wire16(dontFragment), asm.Half),
		store(ipTTL, outerTTL, asm.Byte),
		store(ipProtocol, unix.IPPROTO_UDP, asm.Byte),
		store(ipChecksum, 0, asm.Half),
		store(ipSource, wire32(cfg.Local), asm.Word),
	}, sumHeader(asm.R1, asm.R2, asm.RFP, stackHeader), asm.Instructions{
		asm.Xor.Imm(asm.R1, math.MaxUint16),
		asm.StoreMem(asm.RFP, stackHeader+ipChecksum, asm.R1, asm.Half),
	})
}

// findRoute asks the routing table, policy rules and learnt path MTUs included,
// as for the socket's datagrams, and writes the next hop to the stack. What does
// not go by the underlay, or does not fit, is user space's with its flow.
//
// So is, but alone, what goes to a neighbour that is not known yet. Had it to
// wait for that, it would then be sent by the route that it still has, the inner
// one (neigh_update in net/core/neighbour.c). The socket's datagram has it found.
//
// The kernel answers only where forwarding is on (bpf_ipv4_fib_lookup in
// net/core/filter.c), which weft sees to.
//
//	struct bpf_fib_lookup fib = {AF_INET, IPPROTO_UDP, header.udp.source, header.udp.dest,
//		overhead + length, LOOPBACK_IFINDEX, .ipv4_src = LOCAL, .ipv4_dst = peer->public};
//	u64 code = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
//	if (code == BPF_FIB_LKUP_RET_NO_NEIGH)
//		goto user;
//	if (code || fib.ifindex != UNDERLAY || fib.family != AF_INET)
//		goto keep;
//	struct bpf_redir_neigh next = {AF_INET, .ipv4_nh = fib.ipv4_dst};
func findRoute(cfg Config) (code asm.Instructions) {
	store := func(field int16, value int32, size asm.Size) asm.Instruction {
		return asm.StoreImm(asm.RFP, stackFIB+field, int64(value), size)
	}
	for field := int16(0); field < fibLen; field += 4 {
		code = append(code, store(field, 0, asm.Word))
	}
	code = append(code,
		store(fibFamily, unix.AF_INET, asm.Byte),
		store(fibProtocol, unix.IPPROTO_UDP, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, stackUDP+udpSource, asm.Half),
		asm.StoreMem(asm.RFP, stackFIB+fibSport, asm.R1, asm.Half),
		store(fibDport, wire16(cfg.Port), asm.Half),
		asm.Mov.Reg(asm.R1, regLength),
		asm.Add.Imm(asm.R1, overhead),
		asm.StoreMem(asm.RFP, stackFIB+fibTotLen, asm.R1, asm.Half),
		store(fibInterface, loopback, asm.Word),
		store(fibSource, wire32(cfg.Local), asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, stackHeader+ipDestination, asm.Word),
		asm.StoreMem(asm.RFP, stackFIB+fibDest, asm.R1, asm.Word),

		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackFIB),
		asm.Mov.Imm(asm.R3, fibLen),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnFibLookup.Call(),
		asm.JEq.Imm(asm.R0, unix.BPF_FIB_LKUP_RET_NO_NEIGH, labelUser),
		asm.JNE.Imm(asm.R0, 0, labelKeep),
		asm.LoadMem(asm.R1, asm.RFP, stackFIB+fibInterface, asm.Word),
		asm.JNE.Imm(asm.R1, int32(cfg.Underlay), labelKeep),
		asm.LoadMem(asm.R1, asm.RFP, stackFIB+fibFamily, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.AF_INET, labelKeep), // by an IPv6 router
	)
	for field := int16(0); field < nextHopLen; field += 4 {
		code = append(code, asm.StoreImm(asm.RFP, stackNext+field, 0, asm.Word))
	}
	return append(code,
		asm.StoreImm(asm.RFP, stackNext+nextHopFamily, unix.AF_INET, asm.Word),
		asm.LoadMem(asm.R1, asm.RFP, stackFIB+fibDest, asm.Word),
		asm.StoreMem(asm.RFP, stackNext+nextHopAddr, asm.R1, asm.Word),
	)
}

// makeRoom makes room for the outer headers. The flags have the kernel remember
// where the inner ones are, so that checksums yet to be filled in (and a device
// that cannot do that behind outer headers) are taken care of.
//
// It fails, having changed nothing, for what is some tunnel's packet already:
// one may not be remembered within another.
//
//	if (bpf_skb_adjust_room(skb, overhead, BPF_ADJ_ROOM_MAC, flags))
//		goto keep;
func makeRoom() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, overhead),
		asm.Mov.Imm(asm.R3, unix.BPF_ADJ_ROOM_MAC),
		asm.Mov.Imm(asm.R4, unix.BPF_F_ADJ_ROOM_ENCAP_L3_IPV4|unix.BPF_F_ADJ_ROOM_ENCAP_L4_UDP|
			unix.BPF_F_ADJ_ROOM_FIXED_GSO),
		asm.FnSkbAdjustRoom.Call(),
		asm.JNE.Imm(asm.R0, 0, labelKeep),
	}
}

// putHeader writes the headers, before which bpf_redirect_neigh wants to find an
// Ethernet header, to be thrown away. There is no way back: what fails, for want
// of memory, is dropped. A mark is not to mean something to the underlay, too.
//
//	if (bpf_skb_change_head(skb, ETH_HLEN, 0) ||
//	    bpf_skb_store_bytes(skb, ETH_HLEN, &header, sizeof(header), 0))
//		goto drop;
//	skb->mark = 0;
func putHeader() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, etherLen),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeHead.Call(),
		asm.JNE.Imm(asm.R0, 0, labelDrop),

		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, etherLen),
		asm.Mov.Reg(asm.R3, asm.RFP),
		asm.Add.Imm(asm.R3, stackHeader),
		asm.Mov.Imm(asm.R4, overhead),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkbStoreBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, labelDrop),

		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(regSkb, skbMark, asm.R1, asm.Word),
	}
}

// send has the kernel put the neighbour's address before the packet and send
// it, and look after the neighbour as ever. Without the next hop it would look up
// the route itself, and before Linux 6.18 forget to release the inner one.
//
//	return bpf_redirect_neigh(UNDERLAY, &next, sizeof(next), 0);
func send(cfg Config) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(cfg.Underlay)),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackNext),
		asm.Mov.Imm(asm.R3, nextHopLen),
		asm.Mov.Imm(asm.R4, 0),
		asm.FnRedirectNeigh.Call(),
		asm.Return(),
	}
}

// drop counts and drops.
//
//	__sync_fetch_and_add(&node.drops, 1);
//	return TCX_DROP;
func drop(m *shared) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, m.node.FD(), nodeDrops),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, tcxDrop),
		asm.Return(),
	}
}
