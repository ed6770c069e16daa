package assist

import (
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// A flood is a flow of so many UDP packets that user space is the faster way: what
// the kernel carries costs the sender's CPU all of the work for each single one,
// while user space carries them in batches. So it is left to user space while it
// lasts, by a ring (see toRing), if it finds a seat; there are few, for more floods than
// user space has threads are better off on their senders' CPUs.
//
// Packets are counted by the flow's hash, as in flow.go, and the time is that of the
// kernel's last tick, which takes no more than to read it. Nothing is atomic: CPUs
// that count at once may lose some, which puts off what is decided, and two floods
// that begin at once may take the same seat.
//
// Below some 110 thousand a second the kernel's way takes less of the machine, but
// requests that wait for their answers, one at a time, reach 135 thousand where both
// hosts are on one machine, and are to stay with the kernel, which answers soonest.
//
// When a flood ends, its last packets in the ring may be overtaken by the kernel's, once.
// There are hardly any: it has then sent less than 25 thousand a second for a window at
// least, and user space has caught up, unless the machine keeps it waiting.
const (
	floodWindow  = 20 * time.Millisecond
	floodPackets = 4000 // in a window: so many make a flood
	floodEnds    = 500  // in a window: fewer end it
	floodSilence = 2 * floodWindow
)

// MaxFloods is the most of Config.Floods.
const MaxFloods = 4 // a power of two

// struct floods, the only value of the array "floods", in host byte order:
//
//	struct {
//		struct flood {
//			u64 began;		// when the window did
//			u32 count, seat;	// of the window's packets; from 1 on, 0: it is no flood
//		} places[flowPlaces];
//		u64 renewed[MaxFloods];	// by the flood that has the seat
//		u64 lost;		// packets that a ring had no room for
//	}
const (
	floodBegan = 0
	floodCount = 8
	floodSeat  = 12
	floodLen   = 16

	floodSeats = flowPlaces * floodLen
	floodsLost = floodSeats + 8*MaxFloods
	floodsLen  = floodsLost + 8
)

// Of divertFloods: labelCalm is what follows it.
const (
	labelCalm    = "calm"
	labelAnew    = "calm_anew"
	labelFlood   = "flood"
	labelMore    = "flood_more"
	labelTaken   = "flood_taken"
	labelRenewed = "flood_renewed"
)

// noteHash keeps the flow's hash for divertFloods, if there are seats.
func noteHash(cfg Config) asm.Instructions {
	if cfg.Floods == 0 {
		return nil
	}
	return asm.Instructions{asm.StoreMem(asm.RFP, stackHash, regHash, asm.Word)}
}

// divertFloods leaves to user space the packets of floods, if there are seats. There
// are no superpackets of UDP any more. The route is looked up later, which is most of
// the work and not done for a flood's packets; what has none that the kernel may take
// is user space's, counted or not. The packet stays readable.
//
//	if (ip->protocol != IPPROTO_UDP)
//		goto calm;
//	u64 now = bpf_ktime_get_coarse_ns();
//	struct flood *flood = &floods.places[hash & (flowPlaces - 1)];
//	s64 age = now - flood->began;	// another CPU may be ahead
//	if (flood->seat)
//		goto flood;
//	see countCalm, which ends at calm or taken, or goes on here:
//	anew:
//	flood->seat = 0;
//	flood->began = now;
//	flood->count = 1;
//	goto calm;
//	see countFlood, which ends at anew or ring
//	see toRing, which ends the program
//	calm:
func divertFloods(cfg Config, m *shared) asm.Instructions {
	if cfg.Floods == 0 {
		return nil
	}
	code := asm.Instructions{
		loadPacket(asm.R1, ipProtocol, asm.Byte),
		asm.JNE.Imm(asm.R1, unix.IPPROTO_UDP, labelCalm),
		asm.FnKtimeGetCoarseNs.Call(),
		asm.LoadMem(asm.R1, asm.RFP, stackHash, asm.Word),
	}
	code = append(code, placeOf(asm.R2, asm.R1, m.floods, floodLen)...)
	code = append(code,
		asm.LoadMem(asm.R1, asm.R2, floodBegan, asm.DWord),
		asm.Mov.Reg(asm.R3, asm.R0),
		asm.Sub.Reg(asm.R3, asm.R1),
		asm.LoadMem(asm.R1, asm.R2, floodSeat, asm.Word),
		asm.JNE.Imm(asm.R1, 0, labelFlood),
	)
	code = append(code, countCalm(cfg, m.floods)...)
	code = append(code, at(labelAnew, asm.Instructions{
		asm.StoreImm(asm.R2, floodSeat, 0, asm.Word),
		asm.StoreMem(asm.R2, floodBegan, asm.R0, asm.DWord),
		asm.StoreImm(asm.R2, floodCount, 1, asm.Word),
		asm.Ja.Label(labelCalm),
	})...)
	code = append(code, countFlood(m.floods)...)
	return append(code, toRing(cfg, m)...)
}

// countCalm counts a packet of a flow that is no flood, and takes a seat if it is one
// now. R0 is now, R2 the flow's place and R3 its age.
//
//	if (age >= floodWindow)
//		goto anew;
//	if (++flood->count < floodPackets)
//		goto calm;
//	for (u64 seat = 1; seat <= FLOODS; seat++) {
//		u64 *renewed = &floods.renewed[seat - 1];
//		if ((s64)(now - *renewed) >= floodSilence)
//			goto taken;
//	}
//	goto calm;
func countCalm(cfg Config, floods *ebpf.Map) asm.Instructions {
	code := asm.Instructions{
		asm.JSGE.Imm(asm.R3, int32(floodWindow), labelAnew),
		asm.LoadMem(asm.R1, asm.R2, floodCount, asm.Word),
		asm.Add.Imm(asm.R1, 1),
		asm.StoreMem(asm.R2, floodCount, asm.R1, asm.Word),
		asm.JLT.Imm(asm.R1, floodPackets, labelCalm),
	}
	for seat := range cfg.Floods {
		code = append(code,
			asm.Mov.Imm(asm.R1, int32(seat+1)),
			asm.LoadMapValue(asm.R3, floods.FD(), uint32(floodSeats+8*seat)),
			asm.LoadMem(asm.R4, asm.R3, 0, asm.DWord),
			asm.Mov.Reg(asm.R5, asm.R0),
			asm.Sub.Reg(asm.R5, asm.R4),
			asm.JSGE.Imm(asm.R5, int32(floodSilence), labelTaken),
		)
	}
	return append(code, asm.Ja.Label(labelCalm))
}

// countFlood counts a flood's packet, and sends it to the ring unless the flood is over.
// R0 is now, R1 the seat, R2 the flow's place and R3 its age. A silent flood's seat may
// be another's. From taken on R3 is the seat's time.
//
//	flood:
//	if (age >= floodSilence)
//		goto anew;
//	if (age < floodWindow)
//		goto more;
//	if (flood->count < floodEnds)
//		goto anew;
//	floods.renewed[(seat - 1) & (MaxFloods - 1)] = now;
//	goto renewed;
//	taken:
//	flood->seat = seat;
//	*renewed = now;
//	renewed:
//	flood->began = now;
//	flood->count = 1;
//	goto ring;
//	more:
//	flood->count++;
//	goto ring;
func countFlood(floods *ebpf.Map) (code asm.Instructions) {
	code = append(code, at(labelFlood, asm.Instructions{
		asm.JSGE.Imm(asm.R3, int32(floodSilence), labelAnew),
		asm.JSLT.Imm(asm.R3, int32(floodWindow), labelMore),
		asm.LoadMem(asm.R3, asm.R2, floodCount, asm.Word),
		asm.JLT.Imm(asm.R3, floodEnds, labelAnew),
		asm.Mov.Reg(asm.R4, asm.R1),
		asm.Sub.Imm(asm.R4, 1),
		asm.And.Imm(asm.R4, MaxFloods-1),
		asm.LSh.Imm(asm.R4, 3),
		asm.LoadMapValue(asm.R3, floods.FD(), floodSeats),
		asm.Add.Reg(asm.R3, asm.R4),
		asm.StoreMem(asm.R3, 0, asm.R0, asm.DWord),
		asm.Ja.Label(labelRenewed),
	})...)
	code = append(code, at(labelTaken, asm.Instructions{
		asm.StoreMem(asm.R2, floodSeat, asm.R1, asm.Word),
		asm.StoreMem(asm.R3, 0, asm.R0, asm.DWord),
	})...)
	code = append(code, at(labelRenewed, asm.Instructions{
		asm.StoreMem(asm.R2, floodBegan, asm.R0, asm.DWord),
		asm.StoreImm(asm.R2, floodCount, 1, asm.Word),
		asm.Ja.Label(labelRing),
	})...)
	return append(code, at(labelMore, asm.Instructions{
		asm.LoadMem(asm.R3, asm.R2, floodCount, asm.Word),
		asm.Add.Imm(asm.R3, 1),
		asm.StoreMem(asm.R2, floodCount, asm.R3, asm.Word),
		asm.Ja.Label(labelRing),
	})...)
}

// Floods is how many flows user space carries for the number of their packets, of at
// most so many, and how many packets the rings had no room for. It reads no map by a
// system call.
func (a *Assist) Floods() (n, most int, lost uint64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.programs == nil {
		return 0, 0, 0
	}
	now := coarseTime()
	for seat := range int64(a.cfg.Floods) {
		if int64(now-load64(a.floods, floodSeats+8*seat)) < int64(floodSilence) {
			n++
		}
	}
	return n, a.cfg.Floods, load64(a.floods, floodsLost)
}

// Rings are what the packets of floods wait in, one for each of Config.Floods. They
// are the caller's to take from, without delay, and to close: Close leaves them, with
// what waits there.
func (a *Assist) Rings() []*Ring { return a.rings }

// coarseTime is what bpf_ktime_get_coarse_ns gives, but in a time namespace.
func coarseTime() uint64 {
	var ts unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC_COARSE, &ts) // which every Linux has
	return uint64(ts.Nano())
}
