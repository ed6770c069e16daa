package assist

import (
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
)

// A flood's packets do not leave by the TUN but are copied to a ring, one for each
// seat, and end there: on the CPU of who sends them, which has them in its cache. To
// read them from the TUN costs user space a system call for each, and a struct sk_buff
// that another CPU has made and has to get back. What does not fit the ring is lost,
// as what the queue of a TUN has no room for.
const (
	ringName = "weft_ring"
	ringLen  = 1 << 20 // bytes, a power of two: 7710 of the smallest records

	// MaxRingPacket is the longest packet in a ring, in bytes: longer ones, of
	// underlays with an MTU that hardly any has, leave by the TUN.
	MaxRingPacket = 9216
)

// recordSizes are those of records: a helper takes no others than constants.
var recordSizes = []int32{128, 256, 512, 1024, 1536, 4096, MaxRingPacket}

// labelRing is where a flood's packet goes, with its seat in R1.
const labelRing = "ring"

func newRing() (*ebpf.Map, error) {
	return ebpf.NewMap(&ebpf.MapSpec{Name: ringName, Type: ebpf.RingBuf, MaxEntries: ringLen})
}

// toRing copies a packet to the ring of its seat and ends it. To redirect it to no
// interface frees it as one that was sent: one that was dropped would be an error to a
// sender on this host. It wakes who waits if that has found nothing (see Ring.Take).
//
// User space can finish a UDP checksum, but not that of a packet in this packet, as of
// a VXLAN in a container: where it is only the kernel knows. The helper that cuts a
// packet refuses to cut off such a checksum (__bpf_skb_min_len in net/core/filter.c),
// and does no harm to a packet that ends here. What it refuses leaves by the TUN, which
// says where the checksum is.
//
//	ring:
//	switch (seat) { case 1: ring = &ring0; break; … default: goto user; }
//	if (skb->len < sizeof(struct iphdr))	// it is not; the verifier asks
//		goto user;
//	size = the first of 128, 256, … that is not less than skb->len, or goto user;
//	void *record = bpf_ringbuf_reserve(ring, size, 0);
//	if (!record)
//		goto full;
//	if (bpf_skb_load_bytes(skb, 0, record, skb->len) ||
//	    bpf_skb_change_tail(skb, sizeof(struct iphdr) + sizeof(struct udphdr), 0))
//		goto left;
//	bpf_ringbuf_submit(record, 0);
//	return bpf_redirect(0, 0);
//	full:
//	__sync_fetch_and_add(&floods.lost, 1);
//	return TCX_DROP;
//	left:
//	bpf_ringbuf_discard(record, 0);
//	goto user;
func toRing(cfg Config, m *shared) asm.Instructions {
	const (
		labelSize    = "ring_size"
		labelReserve = "ring_reserve"
		labelFull    = "ring_full"
		labelLeft    = "ring_left"
		regRecord    = asm.R8
	)
	seatLabel := func(seat int) string { return fmt.Sprintf("ring_seat_%d", seat) }
	code := at(labelRing, asm.Instructions{asm.Mov.Imm(asm.R3, 0)})
	for seat := range cfg.Floods {
		code = append(code, asm.JEq.Imm(asm.R1, int32(seat+1), seatLabel(seat)))
	}
	code = append(code, asm.Ja.Label(labelUser))
	for seat := range cfg.Floods {
		code = append(code, asm.LoadMapPtr(asm.R1, m.rings[seat].FD()).WithSymbol(seatLabel(seat)), asm.Ja.Label(labelSize))
	}
	code = append(code, at(labelSize, asm.Instructions{
		loadSkb(regLength, skbLen),
		asm.JLT.Imm(regLength, ipLen, labelUser),
	})...)
	for _, size := range recordSizes {
		code = append(code, asm.Mov.Imm(asm.R2, size), asm.JLE.Imm(regLength, size, labelReserve))
	}
	code = append(code, asm.Ja.Label(labelUser))
	code = append(code, at(labelReserve, asm.Instructions{
		asm.FnRingbufReserve.Call(),
		asm.JEq.Imm(asm.R0, 0, labelFull),
		asm.Mov.Reg(regRecord, asm.R0),
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, regRecord),
		asm.Mov.Reg(asm.R4, regLength),
		asm.FnSkbLoadBytes.Call(),
		asm.JNE.Imm(asm.R0, 0, labelLeft),
		asm.Mov.Reg(asm.R1, regSkb),
		asm.Mov.Imm(asm.R2, ipLen+udpLen),
		asm.Mov.Imm(asm.R3, 0),
		asm.FnSkbChangeTail.Call(),
		asm.JNE.Imm(asm.R0, 0, labelLeft),
		asm.Mov.Reg(asm.R1, regRecord),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufSubmit.Call(),
		asm.Mov.Imm(asm.R1, 0),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRedirect.Call(),
		asm.Return(),
	})...)
	code = append(code, at(labelFull, asm.Instructions{
		asm.LoadMapValue(asm.R1, m.floods.FD(), floodsLost),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, tcxDrop),
		asm.Return(),
	})...)
	return append(code, at(labelLeft, asm.Instructions{
		asm.Mov.Reg(asm.R1, regRecord),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnRingbufDiscard.Call(),
		asm.Ja.Label(labelUser),
	})...)
}
