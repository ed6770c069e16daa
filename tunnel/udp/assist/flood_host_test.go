package assist

import (
	"encoding/binary"
	"testing"
)

// newFloodHost makes an egressHost with so many seats.
func newFloodHost(t testing.TB, seats int) *egressHost {
	t.Helper()
	h := newEgressHost(t)
	h.cfg.Floods = seats
	h.replace(egress(h.cfg, h.programs.shared))
	return h
}

// floodState is what there is of a flow.
type floodState struct {
	began       uint64
	count, seat uint32
}

func (h *egressHost) floodAt(place uint32) (s floodState) {
	var b [floodLen]byte
	h.floods.ReadAt(b[:], int64(place)*floodLen)
	return floodState{binary.NativeEndian.Uint64(b[:]), binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])}
}

func (h *egressHost) setFlood(place uint32, s floodState) {
	at := int64(place) * floodLen
	store64(h.floods, at, s.began)
	store32(h.floods, at+8, s.count)
	store32(h.floods, at+12, s.seat)
}

// renewed are the times of all seats.
func (h *egressHost) renewed() (all [MaxFloods]uint64) {
	for i := range all {
		all[i] = load64(h.floods, floodSeats+8*int64(i))
	}
	return all
}

func (h *egressHost) setRenewed(all [MaxFloods]uint64) {
	for i, at := range all {
		store64(h.floods, floodSeats+8*int64(i), at)
	}
}

// inOneTick sets something and then does something until both lie between two ticks, so
// that the program's time is the one that set was given.
func (h *egressHost) inOneTick(set func(now uint64), do func()) (now uint64) {
	for {
		now = coarseTime()
		set(now)
		if do(); coarseTime() == now {
			return now
		}
	}
}

// taken takes all that waits in the rings, by seat.
func (h *egressHost) taken() (all [MaxFloods][][]byte) {
	h.t.Helper()
	for i, r := range h.Rings() {
		all[i] = takeAll(h.t, r)
	}
	return all
}

// sent counts what the kernel sent to innerPacket's peer.
func (h *egressHost) sent() uint64 {
	tx, _ := h.Traffic(egressPeers[0].Subnet)
	return tx.Packets
}

// onlyIn is what taken gives if a packet is in the ring of a seat and in no other; 0: in
// none.
func onlyIn(seat uint32, pkt []byte) (all [MaxFloods][][]byte) {
	if seat > 0 {
		all[seat-1] = [][]byte{pkt}
	}
	return all
}

// setFloods makes all places alike.
func (h *egressHost) setFloods(s floodState) { setFloods(h.floods, s) }

func setFloods(floods memory, s floodState) {
	var all []byte
	for range flowPlaces {
		all = binary.NativeEndian.AppendUint64(all, s.began)
		all = binary.NativeEndian.AppendUint32(all, s.count)
		all = binary.NativeEndian.AppendUint32(all, s.seat)
	}
	floods.WriteAt(all, 0)
}

// counted are the places at which there is another count.
func (h *egressHost) counted(before uint32) (places []uint32) {
	all := make([]byte, floodSeats)
	h.floods.ReadAt(all, 0)
	for i := range uint32(flowPlaces) {
		if binary.NativeEndian.Uint32(all[i*floodLen+8:]) != before {
			places = append(places, i)
		}
	}
	return places
}
