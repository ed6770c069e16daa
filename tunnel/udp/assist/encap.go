package assist

import (
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
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
	loopback = 1 // LOOPBACK_IFINDEX in net/flow.h: what local sockets' packets arrive by
	outerTTL = 64
)

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

// buildIP writes the outer IP header to the stack; R1 is the inner TOS.
//
//	header.ip = {4, 5, tos & 3, htons(overhead + length), 0, htons(IP_DF), 64, IPPROTO_UDP, 0, LOCAL, peer->public};
//	header.ip.check = ~sum(header.ip);
func buildIP(cfg Config) asm.Instructions {
	return append(asm.Instructions{
		asm.And.Imm(asm.R1, ecnMask),
		asm.Mov.Reg(asm.R2, regLength),
		asm.Add.Imm(asm.R2, overhead),
	}, putIP(cfg, stackHeader)...)
}

// putIP completes an IP header on the stack, which has its destination already;
// R1 is its TOS, R2 the length of the packet. The ID may be 0 where DF is set (RFC
// 6864).
func putIP(cfg Config, at int16) asm.Instructions {
	store := func(field int16, value int32, size asm.Size) asm.Instruction {
		return asm.StoreImm(asm.RFP, at+field, int64(value), size)
	}
	return slices.Concat(asm.Instructions{
		store(0, versionAndLength, asm.Byte),
		asm.StoreMem(asm.RFP, at+ipTOS, asm.R1, asm.Byte),
		asm.HostTo(asm.BE, asm.R2, asm.Half),
		asm.StoreMem(asm.RFP, at+ipLength, asm.R2, asm.Half),
		store(ipID, 0, asm.Half),
		store(ipFragment, wire16(dontFragment), asm.Half),
		store(ipTTL, outerTTL, asm.Byte),
		store(ipProtocol, unix.IPPROTO_UDP, asm.Byte),
		store(ipChecksum, 0, asm.Half),
		store(ipSource, wire32(cfg.Local), asm.Word),
	}, sumHeader(asm.R1, asm.R2, asm.RFP, at), asm.Instructions{
		asm.Xor.Imm(asm.R1, math.MaxUint16),
		asm.StoreMem(asm.RFP, at+ipChecksum, asm.R1, asm.Half),
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
//		fib.tot_len, LOOPBACK_IFINDEX, .ipv4_src = LOCAL, .ipv4_dst = peer->public};
//	u64 code = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
//	if (code == BPF_FIB_LKUP_RET_NO_NEIGH)
//		goto leave;
//	if (code || fib.ifindex != UNDERLAY || fib.family != AF_INET)
//		goto keep;
//	struct bpf_redir_neigh next = {AF_INET, .ipv4_nh = fib.ipv4_dst};
func findRoute(cfg Config) (code asm.Instructions) {
	store := func(field int16, value int32, size asm.Size) asm.Instruction {
		return asm.StoreImm(asm.RFP, stackFIB+field, int64(value), size)
	}
	for field := int16(0); field < fibLen; field += 4 {
		if field != fibDport { // with tot_len, see onlyFitting
			code = append(code, store(field, 0, asm.Word))
		}
	}
	code = append(code,
		store(fibFamily, unix.AF_INET, asm.Byte),
		store(fibProtocol, unix.IPPROTO_UDP, asm.Byte),
		asm.LoadMem(asm.R1, asm.RFP, stackUDP+udpSource, asm.Half),
		asm.StoreMem(asm.RFP, stackFIB+fibSport, asm.R1, asm.Half),
		store(fibDport, wire16(cfg.Port), asm.Half),
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
		asm.JEq.Imm(asm.R0, unix.BPF_FIB_LKUP_RET_NO_NEIGH, labelLeave),
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
// that cannot do that behind outer headers) are taken care of, and superpackets
// are cut behind both.
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
