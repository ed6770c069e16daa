package assist

import (
	"slices"

	"github.com/cilium/ebpf/asm"
)

// arrival is the program of the device that the detour goes by. What is in the
// packet was looked at by the ingress program; all else that gets here was sent to
// the device's port by somebody else, and is dropped.
func arrival(cfg Config, m *shared) asm.Instructions {
	return slices.Concat(
		asm.Instructions{asm.Mov.Reg(regSkb, asm.R1)},
		handTrial(cfg, m),
		at(labelData, onlyOurs(m)),
		deliver(cfg),
		at(labelStranger, asm.Instructions{asm.Mov.Imm(asm.R0, tcxDrop), asm.Return()}),
	)
}

// labelStranger is where what is not ours is dropped.
const labelStranger = "stranger"

// handTrial has a trial leave by the TUN, to user space: whole, for the TUN takes
// superpackets. Its mark is what the egress program knows it by. What sends it looks
// at its TCP header (qdisc_pkt_len_init in net/core/dev.c), and knows where that is
// from the device's GRO, which must stay on: no IP layer has seen the packet.
//
//	if (skb->mark == TRIAL)
//		return bpf_redirect(TUN, 0);
//	data:
func handTrial(cfg Config, m *shared) asm.Instructions {
	return asm.Instructions{
		loadSkb(asm.R1, skbMark),
		asm.JNE.Imm32(asm.R1, int32(m.trialMark()), labelData),
		asm.Mov.Imm(asm.R1, int32(cfg.TUN)),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	}
}

// onlyOurs drops what the ingress program has not marked, and takes its mark from
// the rest.
//
//	if (skb->mark != MARK)
//		goto stranger;
//	skb->mark = 0;
func onlyOurs(m *shared) asm.Instructions {
	return asm.Instructions{
		loadSkb(asm.R1, skbMark),
		asm.JNE.Imm32(asm.R1, int32(m.mark), labelStranger),
		asm.Mov.Imm(asm.R1, 0),
		asm.StoreMem(regSkb, skbMark, asm.R1, asm.Word),
	}
}
