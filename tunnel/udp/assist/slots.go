package assist

import (
	"encoding/binary"
	"io"
	"net/netip"
)

// slots are the places of limits and counters, in memory that the kernel shares.
// Numbers lie where the processor reads and writes them as a whole.
type slots struct {
	memory memory
	used   uint32   // places from here on were never used
	free   []uint32 // places before, that are free again

	scratch [slotLen]byte // to read into: all peers are asked for often
}

// memory is what the kernel shares of a map, an ebpf.Memory. It has room for all
// that is read and written here.
type memory interface {
	io.ReaderAt
	io.WriterAt
}

// take returns a place with its counters at zero. There is one as long as there
// are at most places of them.
func (s *slots) take(limit uint32) uint32 {
	n := s.used
	if last := len(s.free) - 1; last >= 0 {
		n, s.free = s.free[last], s.free[:last]
	} else {
		s.used++
	}
	s.memory.WriteAt(make([]byte, slotLen), int64(n)*slotLen)
	s.setLimit(n, limit)
	return n
}

// give takes back a place that the kernel finds no longer.
func (s *slots) give(n uint32) { s.free = append(s.free, n) }

func (s *slots) setLimit(n, limit uint32) { s.store32(n, slotLimit, limit) }

func (s *slots) setSuperpackets(n uint32, on bool) {
	var v uint32
	if on {
		v = 1
	}
	s.store32(n, slotSuperpackets, v)
}

func (s *slots) store32(n uint32, field int64, v uint32) {
	store32(s.memory, int64(n)*slotLen+field, v)
}

// limit is what setLimit has set.
func (s *slots) limit(n uint32) int {
	s.memory.ReadAt(s.scratch[:], int64(n)*slotLen)
	return int(binary.NativeEndian.Uint32(s.scratch[slotLimit:]))
}

func (s *slots) traffic(n uint32) (tx, rx Count) {
	s.memory.ReadAt(s.scratch[:], int64(n)*slotLen)
	at := func(field int) uint64 { return binary.NativeEndian.Uint64(s.scratch[field:]) }
	return Count{at(slotTxPackets), at(slotTxBytes)}, Count{at(slotRxPackets), at(slotRxBytes)}
}

// superpackets is how many were sent.
func (s *slots) superpackets(n uint32) uint64 {
	s.memory.ReadAt(s.scratch[:], int64(n)*slotLen)
	return binary.NativeEndian.Uint64(s.scratch[slotTxSuperpackets:])
}

// load64 reads a number, and store64 and store32 write one, that lies within the
// memory.
func load64(m memory, at int64) uint64 {
	var b [8]byte
	m.ReadAt(b[:], at)
	return binary.NativeEndian.Uint64(b[:])
}

func store64(m memory, at int64, v uint64) {
	m.WriteAt(binary.NativeEndian.AppendUint64(nil, v), at)
}

func store32(m memory, at int64, v uint32) {
	m.WriteAt(binary.NativeEndian.AppendUint32(nil, v), at)
}

// ownSubnet is the form of nodeOwn: the address in network byte order in the
// lower half, the mask, too, in the upper. The zero Prefix is one that no address
// lies in.
func ownSubnet(p netip.Prefix) uint64 {
	if !p.IsValid() {
		return 1 // a mask of no bits, and an address that is not 0
	}
	mask := binary.BigEndian.AppendUint32(nil, ^uint32(0)<<(32-p.Bits()))
	addr := p.Masked().Addr().As4()
	return uint64(binary.NativeEndian.Uint32(mask))<<32 | uint64(binary.NativeEndian.Uint32(addr[:]))
}
