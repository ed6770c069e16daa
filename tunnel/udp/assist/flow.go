package assist

import (
	"time"

	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// A flow that sends superpackets is user space's until it has been silent for
// flowSilence: so long no packet takes there. When it sent last is kept in an
// array by the flow's hash, 0 for never; flows that share a place only make each
// other slower.
const (
	flowSilence = 100 * time.Millisecond
	flowPlaces  = 8192 // a power of two
)

// labelKeep is where a packet goes to user space and keeps its flow there,
// labelLone is what follows onlyLoneFlows.
const (
	labelKeep = "keep"
	labelLone = "lone"
)

// hashFlow sets dst to packet.FlowHash of the packet, so that a flow leaves from
// the same source port whichever way it goes.
//
//	u64 h = ip->protocol;
//	if (h == IPPROTO_TCP || h == IPPROTO_UDP)
//		h |= le32toh(*(u32 *)ports) << 8;
//	h = (h ^ le64toh(*(u64 *)&ip->saddr)) * 0x9e3779b97f4a7c15;
//	hash = (h ^ h >> 29) >> 32;
func hashFlow(dst asm.Register) asm.Instructions {
	const labelPorts, labelMix = "hash_ports", "hash_mix"
	var multiplier uint64 = 0x9e3779b97f4a7c15
	code := asm.Instructions{
		loadPacket(dst, ipProtocol, asm.Byte),
		asm.JEq.Imm(dst, unix.IPPROTO_TCP, labelPorts),
		asm.JNE.Imm(dst, unix.IPPROTO_UDP, labelMix),
	}
	code = append(code, at(labelPorts, asm.Instructions{
		loadPacket(asm.R1, ipLen, asm.Word),
		asm.HostTo(asm.LE, asm.R1, asm.Word),
		asm.LSh.Imm(asm.R1, 8),
		asm.Or.Reg(dst, asm.R1),
	})...)
	return append(code, at(labelMix, asm.Instructions{
		loadPacket(asm.R1, ipSource, asm.DWord),
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

// onlyLoneFlows leaves superpackets to user space, and what belongs to a flow of
// such. It sets last to where the flow's time is.
//
//	u64 *last = &flows[hash & (flowPlaces - 1)];
//	if (skb->gso_size)
//		goto keep;
//	if (!*last)
//		goto lone;
//	if ((s64)(bpf_ktime_get_ns() - *last) < flowSilence)	// another CPU may be ahead
//		goto keep;
//	*last = 0;
//	lone:
func onlyLoneFlows(m *shared, hash, last asm.Register) asm.Instructions {
	return asm.Instructions{
		asm.Mov.Reg(asm.R1, hash),
		asm.And.Imm(asm.R1, flowPlaces-1),
		asm.LSh.Imm(asm.R1, 3),
		asm.LoadMapValue(last, m.flows.FD(), 0),
		asm.Add.Reg(last, asm.R1),

		loadSkb(asm.R1, skbGSOSize),
		asm.JNE.Imm(asm.R1, 0, labelKeep),

		asm.LoadMem(asm.R1, last, 0, asm.DWord),
		asm.JEq.Imm(asm.R1, 0, labelLone),
		asm.FnKtimeGetNs.Call(),
		asm.LoadMem(asm.R1, last, 0, asm.DWord),
		asm.Sub.Reg(asm.R0, asm.R1),
		asm.JSLT.Imm(asm.R0, int32(flowSilence), labelKeep),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(last, 0, asm.R1, asm.DWord),
	}
}

// keepFlow is labelKeep; what follows it ends the program.
//
//	*last = bpf_ktime_get_ns();
func keepFlow(last asm.Register) asm.Instructions {
	return at(labelKeep, asm.Instructions{
		asm.FnKtimeGetNs.Call(),
		asm.StoreMem(last, 0, asm.R0, asm.DWord),
	})
}
