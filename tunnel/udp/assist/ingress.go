package assist

import (
	"math"
	"slices"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/probe"
)

// Where the ingress program finds things in a frame: the outer headers, the
// inner packet. It runs for each packet that enters by the underlay, and keeps
const (
	outerIP  = etherLen
	outerUDP = outerIP + ipLen
	innerIP  = outerUDP + udpLen

	regInnerLength = asm.R8 // bytes of the inner packet
	regRxSlot      = asm.R9 // the peer's slot
)

// labelData is what follows onlyData, labelDirect what follows onlyDirect.
const (
	labelData   = "data"
	labelDirect = "direct"
)

// ingress is the program that decapsulates. Most of what it sees is none of the
// tunnel's, so what tells that comes first.
func ingress(cfg Config, m *shared) asm.Instructions {
	return entering(cfg, m, slices.Concat(
		onlyTCPs(),
		at(labelRoom, makeGPERoom()),
		putGPE(),
		addCounted(regRxSlot, stackRxPackets, stackRxBytes, slotRxPackets, slotRxBytes, labelAway),
		at(labelAway, sendAway()),
		drop(m),
	))
}

// entering has the given instructions, which end the program, run for a packet
// that is to make the detour. Until there nothing is changed.
func entering(cfg Config, m *shared, away asm.Instructions) asm.Instructions {
	return slices.Concat(
		asm.Instructions{asm.Mov.Reg(regSkb, asm.R1)},
		onlyIPv4(),
		readable("outer_readable", innerIP, labelUser),
		onlyTo(cfg),
		onlyHost(),
		onlyPlain(outerIP),
		onlyIntact(),
		onlyKernels(),
		readable("inner_readable", innerIP+ipLen+portsLen, labelUser),
		onlyOneLength(),
		onlyPlain(innerIP),
		onlyOwn(m, innerIP+ipDestination, labelUser),
		onlyData(),
		at(labelData, findPeer(m, innerIP+ipSource, labelUser)),
		onlyFrom(),
		findSlot(m, regRxSlot, labelUser),
		onlyDirect(m),
		at(labelDirect, onlyUnmarked()),
		takeHeader(),
		count(regRxSlot, regInnerLength, slotRxPackets, slotRxBytes),
		deliver(cfg),
		detour(cfg, m),
		away,
		leave(),
	)
}

// onlyTo passes datagrams to the socket's address and port.
//
//	if (ip->protocol != IPPROTO_UDP || udp->dest != htons(PORT) || ip->daddr != LOCAL)
//		goto user;
func onlyTo(cfg Config) asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, outerIP+ipProtocol, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_UDP, labelUser),
		loadPacket(asm.R1, outerUDP+udpDestination, asm.Half),
		asm.JNE.Imm(asm.R1, wire16(cfg.Port), labelUser),
		loadPacket(asm.R1, outerIP+ipDestination, asm.Word),
		asm.JNE.Imm32(asm.R1, wire32(cfg.Local), labelUser),
	}
}

// onlyHost leaves alone what is in a VLAN, and so another interface's, and what
// is not to this host's link-layer address: the stack would drop it.
//
//	if (skb->vlan_present || skb->pkt_type != PACKET_HOST)
//		goto user;
func onlyHost() asm.Instructions {
	return asm.Instructions{
		loadSkb(asm.R1, skbVLANPresent),
		asm.JNE.Imm(asm.R1, 0, labelUser),
		loadSkb(asm.R1, skbPacketType),
		asm.JNE.Imm(asm.R1, unix.PACKET_HOST, labelUser),
	}
}

// onlyIntact checks the outer header's sum as the stack would (ip_rcv_core in
// net/ipv4/ip_input.c).
//
//	if (sum(ip) != 0xffff)
//		goto user;
func onlyIntact() asm.Instructions {
	return append(sumHeader(asm.R1, asm.R2, regPacket, outerIP),
		asm.JNE.Imm(asm.R1, math.MaxUint16, labelUser))
}

// onlyKernels passes what a kernel has sent, which is what has no UDP checksum.
//
//	if (udp->check)
//		goto user;
func onlyKernels() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, outerUDP+udpChecksum, asm.Half),
		asm.JNE.Imm(asm.R1, 0, labelUser),
	}
}

// onlyOneLength leaves to user space a frame about whose length the frame
// itself, the outer IP and UDP headers and the inner IP header do not all agree.
// No frame is as short as to need padding. regInnerLength is then the inner packet's
// length.
//
//	u64 length = ntohs(ip->tot_len);
//	if (skb->len != ETH_HLEN + length || ntohs(udp->len) != length - ipLen ||
//	    ntohs(inner->tot_len) != length - overhead)
//		goto user;
//	length -= overhead;
func onlyOneLength() asm.Instructions {
	return asm.Instructions{
		loadPacket(regInnerLength, outerIP+ipLength, asm.Half),
		asm.HostTo(asm.BE, regInnerLength, asm.Half),
		loadSkb(asm.R1, skbLen),
		asm.Sub.Imm(asm.R1, etherLen),
		asm.JNE.Reg(asm.R1, regInnerLength, labelUser),
		asm.Sub.Imm(regInnerLength, ipLen),
		loadPacket(asm.R1, outerUDP+udpLength, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JNE.Reg(asm.R1, regInnerLength, labelUser),
		asm.Sub.Imm(regInnerLength, udpLen),
		loadPacket(asm.R1, innerIP+ipLength, asm.Half),
		asm.HostTo(asm.BE, asm.R1, asm.Half),
		asm.JNE.Reg(asm.R1, regInnerLength, labelUser),
	}
}

// onlyUnmarked leaves to user space what met congestion on its way, or whose ECN
// field was changed there to anything else: what then becomes of the inner field
// is said by RFC 6040, section 4.2. It was equal when the datagram was sent.
//
//	if ((ip->tos ^ inner->tos) & 3)
//		goto user;
func onlyUnmarked() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R1, outerIP+ipTOS, asm.Byte),
		loadPacket(asm.R2, innerIP+ipTOS, asm.Byte),
		asm.Xor.Reg(asm.R1, asm.R2),
		asm.JSet.Imm(asm.R1, ecnMask, labelUser),
	}
}

// onlyData leaves probes to user space (package probe); R1 is the own subnet's
// address, which is the tunnel address.
//
//	if (inner->daddr == (u32)own && inner->protocol == IPPROTO_UDP && dport == htons(probe.Port))
//		goto user;
//	data:
func onlyData() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R2, innerIP+ipDestination, asm.Word),
		asm.JNE.Reg32(asm.R2, asm.R1, labelData),
		loadPacket(asm.R1, innerIP+ipProtocol, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_UDP, labelData),
		loadPacket(asm.R1, innerIP+ipLen+udpDestination, asm.Half),
		asm.JEq.Imm(asm.R1, wire16(probe.Port), labelUser),
	}
}

// onlyFrom lets nobody in who does not belong: the datagram must come from the
// public address, in R1, of the peer whose subnet the inner source lies in.
//
//	if (ip->saddr != peer->public)
//		goto user;
func onlyFrom() asm.Instructions {
	return asm.Instructions{
		loadPacket(asm.R2, outerIP+ipSource, asm.Word),
		asm.JNE.Reg32(asm.R2, asm.R1, labelUser),
	}
}

// takeHeader takes the outer headers away. What the network card said of the
// outer checksum is forgotten; a checksum that is yet to be filled in stays so.
// If it fails it has changed nothing.
//
//	if (bpf_skb_adjust_room(skb, -overhead, BPF_ADJ_ROOM_MAC, BPF_F_ADJ_ROOM_FIXED_GSO))
//		goto user;
func takeHeader() asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, -overhead),
		asm.Mov.Imm(asm.R3, unix.BPF_ADJ_ROOM_MAC),
		asm.Mov.Imm(asm.R4, unix.BPF_F_ADJ_ROOM_FIXED_GSO),
		asm.FnSkbAdjustRoom.Call(),
		asm.JNE.Imm(asm.R0, 0, labelUser),
	}
}

// deliver has the packet arrive by the TUN, whatever the TUN's MTU: the kernel does
// not ask for that on the way in (__bpf_rx_skb_no_mac in net/core/filter.c), as it
// does not for what user space writes.
//
//	return bpf_redirect(TUN, BPF_F_INGRESS);
func deliver(cfg Config) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Imm(asm.R1, int32(cfg.TUN)),
		asm.Mov.Imm(asm.R2, unix.BPF_F_INGRESS),
		asm.FnRedirect.Call(),
		asm.Return(),
	}
}
