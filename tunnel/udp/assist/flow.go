package assist

import (
	"math/bits"
	"slices"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// A flow that goes the slower way, on the way out user space and on the way in
// the detour, does so until it has been silent for flowSilence: so long no packet
// takes there. When its last packet went that way is kept in an array by the
// flow's hash, one for either direction, 0 for never; flows that share a place
// only make each other slower.
const (
	flowSilence = 100 * time.Millisecond
	flowPlaces  = 8192 // a power of two
)

// labelKeep is where a packet goes to user space and keeps its flow there,
// labelLeave where it does so if it is a superpacket, labelLone is what follows
// onlyLoneFlows.
const (
	labelKeep  = "keep"
	labelLeave = "leave"
	labelLone  = "lone"
)

// hashFlow sets dst to packet.FlowHash of the packet whose IP header is at the
// given offset, so that a flow leaves from the same source port whichever way it
// goes.
//
//	u64 h = ip->protocol;
//	if (h == IPPROTO_TCP || h == IPPROTO_UDP)
//		h |= le32toh(*(u32 *)ports) << 8;
//	h = (h ^ le64toh(*(u64 *)&ip->saddr)) * 0x9e3779b97f4a7c15;
//	hash = (h ^ h >> 29) >> 32;
func hashFlow(dst asm.Register, ip int16) asm.Instructions {
	const labelPorts, labelMix = "hash_ports", "hash_mix"
	var multiplier uint64 = 0x9e3779b97f4a7c15
	code := asm.Instructions{
		loadPacket(dst, ip+ipProtocol, asm.Byte),
		asm.JEq.Imm(dst, unix.IPPROTO_TCP, labelPorts),
		asm.JNE.Imm(dst, unix.IPPROTO_UDP, labelMix),
	}
	code = append(code, at(labelPorts, asm.Instructions{
		loadPacket(asm.R1, ip+ipLen, asm.Word),
		asm.HostTo(asm.LE, asm.R1, asm.Word),
		asm.LSh.Imm(asm.R1, 8),
		asm.Or.Reg(dst, asm.R1),
	})...)
	return append(code, at(labelMix, asm.Instructions{
		loadPacket(asm.R1, ip+ipSource, asm.DWord),
		asm.HostTo(asm.LE, asm.R1, asm.DWord),
		asm.Xor.Reg(dst, asm.R1),
		asm.LoadImm(asm.R1, int64(multiplier), asm.DWord),
		asm.Mul.Reg(dst, asm.R1),
		asm.Mov.Reg(asm.R1, dst),
		asm.RSh.Imm(asm.R1, 29),
		asm.Xor.Reg(dst, asm.R1),
		asm.RSh.Imm(dst, 32),
	})...)
}

// placeOf sets place to a flow's place in a map that begins with flowPlaces of them,
// of size bytes each, a power of two; it loses the hash.
//
//	void *place = places + (hash & (flowPlaces - 1)) * size;
func placeOf(place, hash asm.Register, places *ebpf.Map, size uint) asm.Instructions {
	return asm.Instructions{
		asm.And.Imm(hash, flowPlaces-1),
		asm.LSh.Imm(hash, int32(bits.TrailingZeros(size))),
		asm.LoadMapValue(place, places.FD(), 0),
		asm.Add.Reg(place, hash),
	}
}

// onlyLoneFlows leaves to user space what belongs to a flow that goes by it. It
// sets last to where the flow's time is. A trial is no part of what may share
// its place.
//
//	u64 *last = &flows[hash & (flowPlaces - 1)];
//	if (!*last)
//		goto lone;
//	if ((s64)(bpf_ktime_get_ns() - *last) < flowSilence) {	// another CPU may be ahead
//		if (skb->mark != MARK)
//			goto keep;
//		goto lone;
//	}
//	*last = 0;
//	lone:
func onlyLoneFlows(m *shared, hash, last asm.Register) asm.Instructions {
	const labelSilent = "silent"
	return slices.Concat(asm.Instructions{
		asm.Mov.Reg(asm.R1, hash),
	}, placeOf(last, asm.R1, m.flows, 8), asm.Instructions{
		asm.LoadMem(asm.R1, last, 0, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, labelLone),
		asm.FnKtimeGetNs.Call(),
		asm.LoadMem(asm.R1, last, 0, asm.DWord),
		asm.Sub.Reg(asm.R0, asm.R1),
		asm.JSGE.Imm(asm.R0, int32(flowSilence), labelSilent),
		loadSkb(asm.R1, skbMark),
		asm.JNE.Imm32(asm.R1, int32(m.mark), labelKeep),
		asm.Ja.Label(labelLone),
	}, at(labelSilent, asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(last, 0, asm.R1, asm.DWord),
	}))
}

// leaveOrKeep is labelLeave and labelKeep; leave follows it. What no flow is kept
// for is a trial that has arrived and is on its way to user space (see arrival).
//
//	leave:
//	if (!skb->gso_size || skb->mark == TRIAL)
//		goto user;
//	keep:
//	*last = bpf_ktime_get_ns();
func leaveOrKeep(m *shared, last asm.Register) asm.Instructions {
	return append(at(labelLeave, asm.Instructions{
		loadSkb(asm.R1, skbGSOSize),
		asm.JEq.Imm(asm.R1, 0, labelUser),
		loadSkb(asm.R1, skbMark),
		asm.JEq.Imm32(asm.R1, int32(m.trialMark()), labelUser),
	}), at(labelKeep, asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(last, 0, asm.R0, asm.DWord),
	})...)
}
