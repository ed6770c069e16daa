package assist

import (
	"errors"
	"fmt"
	"math/bits"
	"os"
	"sync/atomic"
	"unsafe"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Ring is where the packets of a flood wait for user space: an eBPF ring buffer
// (kernel/bpf/ringbuf.c) in memory that both share, so that to take them is no system
// call. It is for one goroutine.
//
// Each record has a header of 8 bytes, the first four of which are its length and two
// flags, and is a packet from its IP header on, with what is left of its size (see
// toRing) behind it. Positions count bytes from the beginning of time.
type Ring struct {
	buffer   *ebpf.Map
	consumer []byte // a page, with the position of the next record to take; see Take
	producer []byte // a page, with that of the next one to come, and the records
	records  []byte // of producer; one may go on at their beginning
	taken    uintptr
}

const recordHeader = 8

// CheckRings tells why there can be no rings. Positions are the kernel's unsigned longs:
// once they go beyond 32 bits, after minutes, a kernel of 32 bits since 6.10 finds no
// room any more (pending_pos), and a program of 32 bits on another one writes half of
// its position only.
func CheckRings() error {
	if bits.UintSize < 64 {
		return errors.New("needs a program of 64 bits")
	}
	return nil
}

// openRing maps a ring buffer into memory. The kernel would map the records twice, one
// behind the other, but that counts twice as memory of this process.
func openRing(buffer *ebpf.Map) (_ *Ring, err error) {
	r := new(Ring)
	if r.buffer, err = buffer.Clone(); err != nil {
		return nil, err
	}
	page, size := os.Getpagesize(), int(buffer.MaxEntries())
	r.consumer, err = unix.Mmap(r.FD(), 0, page, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		r.producer, err = unix.Mmap(r.FD(), int64(page), page+size, unix.PROT_READ, unix.MAP_SHARED)
	}
	if err != nil {
		r.Close()
		return nil, fmt.Errorf("map the eBPF ring buffer %s: %w", ringName, err)
	}
	r.records = r.producer[page:]
	return r, nil
}

// FD is readable while there is something to take, and after Take has taken something
// until it has found nothing. The next packet then wakes who waits for it.
func (r *Ring) FD() int { return r.buffer.FD() }

// RingSilence is how long there was nothing to take when a flood is over. Until then who
// takes packets comes back by himself, and wakes cost nothing.
const RingSilence = floodSilence

// Take copies packets into arena, each at a multiple of 64 bytes, and sets the first n
// of packets to them. There is more if one of the two was too small for all, of which
// arena must have room for one at least: MaxRingPacket bytes.
//
// The checksum of a packet's transport may be unfinished: see packet.FinishChecksum.
//
// The kernel wakes who waits, by an interrupt, when there is a packet just where the
// consumer's position is (bpf_ringbuf_commit). So that is one byte short until there
// was nothing to take: else the first packet after each Take would do it.
func (r *Ring) Take(arena []byte, packets [][]byte) (n int, more bool) {
	there := atomic.LoadUintptr(position(r.producer))
	mask := uintptr(len(r.records) - 1)
	for at := 0; r.taken != there; {
		// The kernel has written all of a record when it is busy no more.
		header := atomic.LoadUint32((*uint32)(unsafe.Pointer(&r.records[r.taken&mask])))
		if header&unix.BPF_RINGBUF_BUSY_BIT != 0 {
			break
		}
		size := int(header &^ unix.BPF_RINGBUF_DISCARD_BIT)
		if header&unix.BPF_RINGBUF_DISCARD_BIT == 0 {
			begin := (r.taken + recordHeader) & mask // 8 bytes are in one piece
			length := min(int(r.records[begin+ipLength])<<8|int(r.records[begin+ipLength+1]), size)
			if more = n == len(packets) || len(arena)-at < length; more {
				break
			}
			pkt := arena[at : at+length]
			first := copy(pkt, r.records[begin:])
			copy(pkt[first:], r.records)
			packets[n] = pkt
			n++
			at = min((at+length+63)&^63, len(arena))
		}
		r.taken += uintptr(recordHeader+size+7) &^ 7
	}
	consumed := r.taken
	if n > 0 {
		consumed--
	}
	// Unless it changes, its cache line stays with those who produce.
	if at := position(r.consumer); *at != consumed {
		atomic.StoreUintptr(at, consumed)
	}
	return n, more
}

// position is what a page begins with, an unsigned long.
func position(page []byte) *uintptr { return (*uintptr)(unsafe.Pointer(&page[0])) }

// Close gives the memory back. Nobody must Take any more.
func (r *Ring) Close() error {
	errs := []error{r.buffer.Close()}
	for _, m := range [][]byte{r.consumer, r.producer} {
		if m != nil {
			errs = append(errs, unix.Munmap(m))
		}
	}
	return errors.Join(errs...)
}
