package assist

import (
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/probe"
)

// A superpacket has in struct sk_buff that it is to be cut behind two pairs of
// headers, and no helper takes that away with the outer ones. The receive path of
// a tunnel device does (iptunnel_pull_offloads in net/ipv4/ip_tunnel_core.c). So
// the ingress program makes VXLAN-GPE of it (draft-ietf-nvo3-vxlan-gpe), which has
// no inner link layer, and sends it to such a device of this host, by lo, from
// where hardly any firewall lets nothing in. The device's program, arrival, hands
// the inner packet to the TUN. The other TCP packets of its flow go the same way,
// so that none of them is faster.
//
//	Ethernet, to and from the address of lo, which is zero
//	IPv4, from this host to this host, TOS as it was
//	UDP, from and to the device's port, without a checksum
//	VXLAN-GPE, 8 bytes: flags I and P, next protocol 1 (IPv4); VNI
//	the inner packet
const (
	gpeLen         = 8
	gpeFlags       = 0x0c000001 // in network byte order, with the next protocol
	detourOverhead = overhead + gpeLen
)

// regRxLast is where the time of the flow is, until keepForDetour.
const regRxLast = asm.R2

// The ingress program's stack on the detour, below the keys of maps.
const (
	stackLast      = -8 - 8             // where the time of the flow is
	stackPort      = stackLast - 8      // the device's port, in network byte order; not 0
	stackMark      = stackPort - 8      // what the packet is to be marked with
	stackRxPackets = stackMark - 8      // what it counts for
	stackRxBytes   = stackRxPackets - 8 // the same
	stackSockets   = stackRxBytes - (socketTupleLen+7)&^7
	stackMACs      = stackSockets - 16
	stackGPE       = stackMACs - (detourOverhead+7)&^7 // the new headers: that of IP,
	stackGPEUDP    = stackGPE + ipLen                  // of UDP
	stackGPEHeader = stackGPEUDP + udpLen              // and of VXLAN-GPE
)

// socketTupleLen is the length of struct bpf_sock_tuple in linux/bpf.h of IPv4:
// addresses and ports, sources first.
const socketTupleLen = 12

// labelSuper and labelDetour are where the detour begins, for superpackets and
// for other packets; the others are what follows a step of it.
const (
	labelSuper  = "super"
	labelDetour = "detour"
	labelMarked = "marked"
	labelRoom   = "room"
	labelAway   = "away"
)

// onlyDirect has TCP superpackets make the detour, and TCP packets of a flow that
// lately made it. Other superpackets it leaves to user space.
//
//	if (inner->protocol != IPPROTO_TCP) {
//		if (skb->gso_size)
//			goto user;
//		goto direct;
//	}
//	u64 *last = &detours[hash & (flowPlaces - 1)];
//	if (skb->gso_size)
//		goto super;
//	if (!*last)
//		goto direct;
//	if ((s64)(bpf_ktime_get_ns() - *last) < flowSilence)	// another CPU may be ahead
//		goto detour;
//	*last = 0;
//	direct:
func onlyDirect(m *shared) asm.Instructions {
	const labelNone = "no_detour"
	return slices.Concat(asm.Instructions{
		loadPacket(asm.R1, innerIP+ipProtocol, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_TCP, labelNone),
	}, hashFlow(asm.R3, innerIP), placeOf(regRxLast, asm.R3, m.detours, 8), asm.Instructions{
		loadSkb(asm.R1, skbGSOSize),
		asm.JNE.Imm(asm.R1, 0, labelSuper),
		asm.LoadMem(asm.R1, regRxLast, 0, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, labelDirect),
	}, keepForDetour(), asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.LoadMem(asm.R2, asm.RFP, stackLast, asm.DWord),
		asm.LoadMem(asm.R1, asm.R2, 0, asm.DWord),
		asm.Sub.Reg(asm.R0, asm.R1),
		asm.JSLT.Imm(asm.R0, int32(flowSilence), labelDetour),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(asm.R2, 0, asm.R1, asm.DWord),
		asm.Ja.Label(labelDirect),

		loadSkb(asm.R1, skbGSOSize).WithSymbol(labelNone),
		asm.JNE.Imm(asm.R1, 0, labelUser),
	})
}

// keepForDetour puts on the stack what onlyDirect knows, before calls lose it.
func keepForDetour() asm.Instructions {
	return asm.Instructions{asm.StoreMem(asm.RFP, stackLast, regRxLast, asm.DWord)}
}

// detour is where onlyDirect sends packets. It makes the new headers.
func detour(cfg Config, m *shared) asm.Instructions {
	return slices.Concat(
		at(labelSuper, keepForDetour()),
		readable("super_readable", innerIP+ipLen+tcpLen, labelUser),
		countPieces(innerIP, regInnerLength, stackRxPackets, stackRxBytes, labelUser),
		markSuper(m),
		at(labelDetour, markOther(m)),
		at(labelMarked, noteDetour()),
		onlyShort(),
		onlyListening(cfg, m),
		buildGPE(cfg, m),
	)
}

// markSuper decides what a superpacket is marked with. A trial (package probe) is
// marked as such, and counts for nothing.
//
//	mark = MARK;
//	if (inner->daddr == (u32)node.own && ports == {probe.Port, probe.Port}) {
//		packets = 0;
//		mark = TRIAL;
//	}
//	goto marked;
func markSuper(m *shared) asm.Instructions {
	return slices.Concat(asm.Instructions{
		asm.StoreImm(asm.RFP, stackMark, int64(int32(m.mark)), asm.Word),
		loadPacket(asm.R1, innerIP+ipLen, asm.Word),
		asm.JNE.Imm32(asm.R1, wireWord(probe.Port<<16|probe.Port), labelMarked),
		asm.LoadMapValue(asm.R1, m.node.FD(), nodeOwn),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.DWord),
		loadPacket(asm.R2, innerIP+ipDestination, asm.Word),
		asm.JNE.Reg32(asm.R1, asm.R2, labelMarked),
	}, storeNumber(stackRxPackets, 0), asm.Instructions{
		asm.StoreImm(asm.RFP, stackMark, int64(int32(m.trialMark())), asm.Word),
		asm.Ja.Label(labelMarked),
	})
}

// markOther is labelDetour: what to mark other packets with and what they count
// for.
//
//	mark = MARK, packets = 1, bytes = length;
func markOther(m *shared) asm.Instructions {
	return append(storeNumber(stackRxPackets, 1),
		asm.StoreImm(asm.RFP, stackMark, int64(int32(m.mark)), asm.Word),
		asm.StoreMem(asm.RFP, stackRxBytes, regInnerLength, asm.DWord),
	)
}

// noteDetour notes that the flow makes the detour: also if it cannot, and is user
// space's. Then its packets are not to pass by its superpackets there, either.
//
//	marked:
//	*last = bpf_ktime_get_ns();
func noteDetour() asm.Instructions {
	return asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.LoadMem(asm.R1, asm.RFP, stackLast, asm.DWord),
		asm.StoreMem(asm.R1, 0, asm.R0, asm.DWord),
	}
}

// onlyShort leaves to user space what has no room for the longer headers.
//
//	if (length > 0xffff - detourOverhead)
//		goto user;
func onlyShort() asm.Instructions {
	return asm.Instructions{asm.JGT.Imm(regInnerLength, math.MaxUint16-detourOverhead, labelUser)}
}

// onlyListening leaves a packet to user space while nothing would take it: while
// there is no device, or it is down, or gone and not yet made anew.
//
//	u16 port = node.detour_port;
//	if (!port)
//		goto user;
//	struct bpf_sock_tuple tuple = {LOCAL, LOCAL, port, port};
//	struct bpf_sock *socket = bpf_sk_lookup_udp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
//	if (!socket)
//		goto user;
//	bpf_sk_release(socket);
func onlyListening(cfg Config, m *shared) asm.Instructions {
	return asm.Instructions{
		asm.LoadMapValue(asm.R1, m.node.FD(), nodeDetourPort),
		asm.LoadMem(asm.R1, asm.R1, 0, asm.Word),
		asm.JEq.Imm(asm.R1, 0, labelUser),
		asm.StoreMem(asm.RFP, stackPort, asm.R1, asm.Half),
		asm.StoreImm(asm.RFP, stackSockets, int64(wire32(cfg.Local)), asm.Word),
		asm.StoreImm(asm.RFP, stackSockets+4, int64(wire32(cfg.Local)), asm.Word),
		asm.StoreMem(asm.RFP, stackSockets+8, asm.R1, asm.Half),
		asm.StoreMem(asm.RFP, stackSockets+10, asm.R1, asm.Half),
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Reg(asm.R2, asm.RFP),
		asm.Add.Imm(asm.R2, stackSockets),
		asm.Mov.Imm(asm.R3, socketTupleLen),
		asm.Mov.Imm(asm.R4, unix.BPF_F_CURRENT_NETNS),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnSkLookupUdp.Call(),
		asm.JEq.Imm(asm.R0, 0, labelUser),
		asm.Mov.Reg(asm.R1, asm.R0),
		asm.FnSkRelease.Call(),
	}
}

// buildGPE writes the headers to the stack. The packet is not read after it.
//
//	macs = {0};
//	gpe.ip = {4, 5, ip->tos, htons(detourOverhead + length), 0, htons(IP_DF), 64, IPPROTO_UDP, 0, LOCAL, LOCAL};
//	gpe.ip.check = ~sum(gpe.ip);
//	gpe.udp = {port, port, htons(detourOverhead - ipLen + length), 0};
//	gpe.header = {htonl(0x0c000001), htonl(VNI << 8)};
func buildGPE(cfg Config, m *shared) asm.Instructions {
	store := func(at int16, value int32, size asm.Size) asm.Instruction {
		return asm.StoreImm(asm.RFP, at, int64(value), size)
	}
	return slices.Concat(asm.Instructions{
		store(stackMACs, 0, asm.Word),
		store(stackMACs+4, 0, asm.Word),
		store(stackMACs+8, 0, asm.Word),
		store(stackGPE+ipDestination, wire32(cfg.Local), asm.Word),
		loadPacket(asm.R1, outerIP+ipTOS, asm.Byte),
		asm.Mov.Reg(asm.R2, regInnerLength),
		asm.Add.Imm(asm.R2, detourOverhead),
	}, putIP(cfg, stackGPE), asm.Instructions{
		asm.LoadMem(asm.R1, asm.RFP, stackPort, asm.Half),
		asm.StoreMem(asm.RFP, stackGPEUDP+udpSource, asm.R1, asm.Half),
		asm.StoreMem(asm.RFP, stackGPEUDP+udpDestination, asm.R1, asm.Half),
		asm.Mov.Reg(asm.R1, regInnerLength),
		asm.Add.Imm(asm.R1, detourOverhead-ipLen),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.StoreMem(asm.RFP, stackGPEUDP+udpLength, asm.R1, asm.Half),
		store(stackGPEUDP+udpChecksum, 0, asm.Half),
		store(stackGPEHeader, wireWord(gpeFlags), asm.Word),
		store(stackGPEHeader+4, wireWord(m.vni<<8), asm.Word),
	})
}

// onlyTCPs leaves to user space a superpacket that is not to be cut as TCP's,
// whatever its headers say. A UDP one would be lost, or cut before the device gets
// it (udp_queue_rcv_skb in net/ipv4/udp.c) into pieces that nobody has looked at.
// To ask for room for nothing tells, for that, without a fixed gso_size, is there
// for TCP only (bpf_skb_net_grow in net/core/filter.c).
//
//	if (skb->gso_size && bpf_skb_adjust_room(skb, 0, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_NO_CSUM_RESET))
//		goto user;
func onlyTCPs() asm.Instructions {
	return asm.Instructions{
		loadSkb(asm.R1, skbGSOSize),
		asm.JEq.Imm(asm.R1, 0, labelRoom),
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Imm(asm.R3, unix.BPF_ADJ_ROOM_NET),
		asm.Mov.Imm(asm.R4, unix.BPF_F_ADJ_ROOM_NO_CSUM_RESET),
		asm.FnSkbAdjustRoom.Call(),
		asm.JNE.Imm(asm.R0, 0, labelUser),
	}
}

// makeGPERoom makes room behind the IP header. If it fails it has changed nothing.
//
//	if (bpf_skb_adjust_room(skb, gpeLen, BPF_ADJ_ROOM_NET, BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET))
//		goto user;
func makeGPERoom() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, gpeLen),
		asm.Mov.Imm(asm.R3, unix.BPF_ADJ_ROOM_NET),
		asm.Mov.Imm(asm.R4, unix.BPF_F_ADJ_ROOM_FIXED_GSO|unix.BPF_F_ADJ_ROOM_NO_CSUM_RESET),
		asm.FnSkbAdjustRoom.Call(),
		asm.JNE.Imm(asm.R0, 0, labelUser),
	}
}

// putGPE writes the headers. A sum of the whole packet that the network card has
// made is of what follows the Ethernet header, and is kept right.
//
//	if (bpf_skb_store_bytes(skb, 0, &macs, 12, 0) ||
//	    bpf_skb_store_bytes(skb, ETH_HLEN, &gpe, sizeof(gpe), BPF_F_RECOMPUTE_CSUM))
//		goto drop;
//	skb->mark = mark;
func putGPE() asm.Instructions {
	store := func(offset, at, length, flags int32) asm.Instructions {
		return asm.Instructions{
			asm.Mov.Reg(asm.R1, regSkb),
			asm.Mov.Imm(asm.R2, offset),
			asm.Mov.Reg(asm.R3, asm.RFP),
			asm.Add.Imm(asm.R3, at),
			asm.Mov.Imm(asm.R4, length),
			asm.Mov.Imm(asm.R5, flags),
			asm.FnSkbStoreBytes.Call(),
			asm.JNE.Imm(asm.R0, 0, labelDrop),
		}
	}
	return slices.Concat(
		store(0, stackMACs, etherLen-2, 0),
		store(etherLen, stackGPE, detourOverhead, unix.BPF_F_RECOMPUTE_CSUM),
		asm.Instructions{
			asm.LoadMem(asm.R1, asm.RFP, stackMark, asm.Word),
			asm.StoreMem(regSkb, skbMark, asm.R1, asm.Word),
		})
}

// sendAway has the packet arrive by lo.
//
//	return bpf_redirect(LOOPBACK_IFINDEX, BPF_F_INGRESS);
func sendAway() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, loopback),
		asm.Mov.Imm(asm.R2, unix.BPF_F_INGRESS),
		asm.FnRedirect.Call(),
		asm.Return(),
	}
}
