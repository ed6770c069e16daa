package assist

import (
	"bytes"
	"encoding/binary"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// waiting is a record that waits in a ring.
type waiting struct {
	pkt  []byte // that Take is to give; nil: none
	size int    // of the record
	busy bool
}

// length is what a record takes of a ring.
func (w waiting) length() uintptr { return uintptr(w.size+15) &^ 7 }

// taker takes from a ring, and knows what it has to get: all that waits, in order.
type taker struct {
	ring  *Ring
	waits []waiting
	at    uintptr // of the first that waits
}

// take has Take fill an arena and packets of these lengths, and fails unless they are
// what is to be had.
func (k *taker) take(t testing.TB, arena, packets int) (n int, more bool) {
	t.Helper()
	var want []waiting
	used, passed, wantMore := 0, 0, false
	for _, w := range k.waits {
		if w.busy {
			break
		}
		if w.pkt != nil {
			if wantMore = len(want) == packets || len(w.pkt) > arena-used; wantMore {
				break
			}
			want = append(want, w)
			used = min((used+len(w.pkt)+63)/64*64, arena)
		}
		k.at += w.length()
		passed++
	}
	k.waits = k.waits[passed:]

	guarded := bytes.Repeat([]byte{0xa5}, arena+64)
	room := guarded[:arena:arena]
	got := make([][]byte, packets)
	n, more = k.ring.Take(room, got)
	if n != len(want) || more != wantMore {
		t.Fatalf("%d packets, more: %v; want %d, %v", n, more, len(want), wantMore)
	}
	next := 0
	for i, w := range want {
		at := arena - cap(got[i])
		if !bytes.Equal(got[i], w.pkt) {
			t.Fatalf("packet %d of %d is %x, want %x", i, n, got[i], w.pkt)
		}
		if len(w.pkt) > 0 && (at%64 != 0 || at < next || &got[i][0] != &room[at]) {
			t.Fatalf("packet %d of %d is at %d of the arena, where it is free from %d on", i, n, at, next)
		}
		next = at + len(w.pkt)
	}
	if slices.ContainsFunc(got[n:], func(b []byte) bool { return b != nil }) {
		t.Fatalf("there are packets beyond the %d", n)
	}
	if !bytes.Equal(guarded[arena:], bytes.Repeat([]byte{0xa5}, 64)) {
		t.Fatal("it wrote beyond the arena")
	}
	free := k.at
	if n > 0 {
		free-- // so that nobody is woken
	}
	if at := atomic.LoadUintptr(position(k.ring.consumer)); at != free {
		t.Fatalf("the ring is free up to %d, want %d", at, free)
	}
	return n, more
}

// memoryRing is a ring that no kernel has a part in.
type memoryRing struct {
	taker
	mask     uintptr
	produced uintptr // up to where there are records
}

// newMemoryRing makes a ring of so many bytes, a power of two, the next record of which
// is at a position.
func newMemoryRing(size int, at uintptr) *memoryRing {
	page := os.Getpagesize()
	producer := make([]byte, page+size)
	r := &Ring{consumer: make([]byte, page), producer: producer, records: producer[page:], taken: at}
	*position(r.consumer), *position(r.producer) = at, at
	return &memoryRing{taker{ring: r, at: at}, uintptr(size) - 1, at}
}

// reserve makes a busy record, as __bpf_ringbuf_reserve does, and returns its header, nil
// if there is no room, and what writes its bytes. It may be called beside Take.
func (m *memoryRing) reserve(size int) (header *uint32, write func(b []byte)) {
	w := waiting{size: size}
	taken := atomic.LoadUintptr(position(m.ring.consumer))
	if m.produced+w.length()-taken > m.mask {
		return nil, nil
	}
	begin := m.produced + recordHeader
	header = (*uint32)(unsafe.Pointer(&m.ring.records[m.produced&m.mask]))
	atomic.StoreUint32(header, uint32(size)|unix.BPF_RINGBUF_BUSY_BIT)
	m.produced += w.length()
	atomic.StoreUintptr(position(m.ring.producer), m.produced)
	return header, func(b []byte) {
		for i := range b {
			m.ring.records[(begin+uintptr(i))&m.mask] = b[i]
		}
	}
}

// put makes a record that holds pkt, and has it wait.
func (m *memoryRing) put(t testing.TB, size int, pkt []byte, flags uint32, want []byte) {
	t.Helper()
	header, write := m.reserve(size)
	if header == nil {
		t.Fatalf("no room for %d bytes", size)
	}
	write(pkt)
	atomic.StoreUint32(header, uint32(size)|flags)
	m.waits = append(m.waits, waiting{want, size, flags&unix.BPF_RINGBUF_BUSY_BIT != 0})
}

// ipOf is so many bytes of a packet whose header says another length.
func ipOf(n, says int) []byte {
	pkt := bytes.Repeat([]byte{byte(n)}, n)
	binary.BigEndian.PutUint16(pkt[ipLength:], uint16(says))
	return pkt
}

func TestTake(t *testing.T) {
	t.Parallel()
	const busy, discard = unix.BPF_RINGBUF_BUSY_BIT, unix.BPF_RINGBUF_DISCARD_BIT
	full, long, short, none := ipOf(128, 128), ipOf(128, 129), ipOf(128, 28), ipOf(128, 0)
	type record struct {
		pkt   []byte
		flags uint32
		want  []byte
	}
	type take struct {
		arena, packets int
		n              int
		more           bool
	}
	for _, c := range []struct {
		name    string
		records []record
		takes   []take
	}{
		{"nothing", nil, []take{{9216, 4, 0, false}, {0, 0, 0, false}}},
		{"as long as the record", []record{{full, 0, full}}, []take{{9216, 4, 1, false}, {9216, 4, 0, false}}},
		{"shorter than the record", []record{{short, 0, short[:28]}}, []take{{9216, 4, 1, false}}},
		{"said to be longer than the record", []record{{long, 0, long}}, []take{{9216, 4, 1, false}}},
		{"said to be as long as can be", []record{{ipOf(128, 65535), 0, ipOf(128, 65535)}}, []take{{9216, 4, 1, false}}},
		{"said to be nothing", []record{{none, 0, []byte{}}, {short, 0, short[:28]}}, []take{{9216, 4, 2, false}}},
		{"said to be nothing, behind a full arena", []record{{ipOf(100, 100), 0, ipOf(100, 100)}, {none, 0, []byte{}}}, []take{{100, 4, 2, false}}},
		{"busy", []record{{full, busy, nil}, {full, 0, full}}, []take{{9216, 4, 0, false}, {9216, 4, 0, false}}},
		{"busy behind one", []record{{full, 0, full}, {full, busy, nil}}, []take{{9216, 4, 1, false}, {9216, 4, 0, false}}},
		{"busy, and to be discarded", []record{{full, busy | discard, nil}}, []take{{9216, 4, 0, false}}},
		{"discarded", []record{{full, discard, nil}}, []take{{9216, 4, 0, false}}},
		{"discarded amid others", []record{{full, 0, full}, {full, discard, nil}, {short, 0, short[:28]}}, []take{{9216, 4, 2, false}}},
		{"discarded, and no room", []record{{full, discard, nil}, {full, 0, full}}, []take{{127, 4, 0, true}, {128, 4, 1, false}}},
		{"discarded when there is no room", []record{{full, 0, full}, {full, discard, nil}}, []take{{128, 1, 1, false}}},
		{"room for just one", []record{{full, 0, full}, {full, 0, full}}, []take{{128, 4, 1, true}, {128, 4, 1, false}}},
		{"room for one and not quite two", []record{{full, 0, full}, {full, 0, full}}, []take{{255, 4, 1, true}, {256, 4, 1, false}}},
		{"room for two", []record{{full, 0, full}, {full, 0, full}}, []take{{256, 4, 2, false}}},
		{"the second is aligned", []record{{short, 0, short[:28]}, {short, 0, short[:28]}}, []take{{91, 4, 1, true}, {92, 4, 1, false}}},
		{"the second fits, aligned", []record{{short, 0, short[:28]}, {short, 0, short[:28]}}, []take{{92, 4, 2, false}}},
		{"one packet at a time", []record{{short, 0, short[:28]}, {full, 0, full}, {full, 0, full}}, []take{{9216, 1, 1, true}, {9216, 1, 1, true}, {9216, 1, 1, false}, {9216, 1, 0, false}}},
		{"no packets", []record{{full, 0, full}}, []take{{9216, 0, 0, true}, {9216, 1, 1, false}}},
		{"no arena", []record{{full, 0, full}}, []take{{0, 4, 0, true}, {128, 4, 1, false}}},
	} {
		// From everywhere on, among others where positions begin again.
		for _, at := range []uintptr{0, 8, 4096 - 136, 4096 - 128, 4096 - 8, ^uintptr(0) - 135, ^uintptr(0) - 7} {
			m := newMemoryRing(4096, at)
			for _, r := range c.records {
				m.put(t, 128, r.pkt, r.flags, r.want)
			}
			for i, k := range c.takes {
				n, more := m.take(t, k.arena, k.packets)
				if n != k.n || more != k.more {
					t.Errorf("%s, from %d on, take %d: %d packets, more: %v; want %d, %v", c.name, at, i+1, n, more, k.n, k.more)
				}
			}
		}
	}
}

// Whatever is done by both ends, each packet is taken once, in order, whole and to where
// there is room; see taker.take.
func FuzzTake(f *testing.F) {
	f.Add(uint16(0), []byte{0, 124, 0, 0, 3, 20, 9, 0})
	f.Add(uint16(4000), []byte{0, 24, 0, 0, 1, 24, 8, 0, 0, 24, 0, 0, 3, 99, 9, 0, 2, 0, 0, 0, 3, 4, 9, 0, 3, 99, 1, 0})
	f.Add(uint16(65535), []byte{0, 0, 1, 6, 0, 0, 2, 7, 3, 255, 255, 0, 1, 9, 3, 5, 2, 0, 0, 0, 3, 0, 0, 0})
	f.Fuzz(func(t *testing.T, at uint16, ops []byte) {
		m := newMemoryRing(4096, -uintptr(at)&^7)
		type open struct {
			header *uint32
			n      int // in waits, before what has been taken since
			pkt    []byte
			flags  uint32
		}
		var unfinished []open
		passed := 0
		for ; len(ops) >= 4; ops = ops[4:] {
			op, a, b, c := ops[0]%4, int(ops[1]), int(ops[2]), ops[3]
			switch op {
			case 0, 1: // a record, whole or not yet
				size := 4 + (a|b<<8)%1500
				header, write := m.reserve(size)
				if header == nil {
					continue
				}
				record := make([]byte, size)
				for i := range record {
					record[i] = byte(i) ^ byte(m.produced>>3)
				}
				says := []int{size, size + 1, size - 1, size / 2, 0, 65535, int(c), 20}[c>>1&7]
				binary.BigEndian.PutUint16(record[ipLength:], uint16(says))
				write(record)
				o := open{header: header, n: passed + len(m.waits), pkt: record[:min(says, size)], flags: uint32(size)}
				if c&1 != 0 {
					o.pkt, o.flags = nil, o.flags|unix.BPF_RINGBUF_DISCARD_BIT
				}
				m.waits = append(m.waits, waiting{size: size, busy: true})
				unfinished = append(unfinished, o)
				if op == 1 {
					continue
				}
				fallthrough
			case 2: // which is finished now
				if len(unfinished) == 0 {
					continue
				}
				i := int(c) % len(unfinished)
				o := unfinished[i]
				unfinished = slices.Delete(unfinished, i, i+1)
				atomic.StoreUint32(o.header, o.flags)
				w := &m.waits[o.n-passed]
				w.pkt, w.busy = o.pkt, false
			case 3:
				before := len(m.waits)
				m.take(t, a|b&7<<8, b>>3)
				passed += before - len(m.waits)
			}
		}
	})
}

// One end makes records while the other one takes them, from a ring that is mostly full:
// what is taken was written before, and is not written to before it was copied. That is
// for the race detector to see, too.
func TestTakeBesideProducer(t *testing.T) {
	t.Parallel()
	const records = 30000
	m := newMemoryRing(4096, ^uintptr(100<<10-1))
	sizes := []int{128, 256, 512, 1024}
	go func() {
		for n := 0; n < records; {
			size := sizes[n%3+n/3%2]
			header, write := m.reserve(size)
			if header == nil {
				runtime.Gosched()
				continue
			}
			write(numbered(size-n%100, n))
			atomic.StoreUint32(header, uint32(size))
			n++
		}
	}()
	arena, packets := make([]byte, 4096), make([][]byte, 5)
	for n := 0; n < records; {
		got, _ := m.ring.Take(arena, packets)
		for _, pkt := range packets[:got] {
			if want := numbered(sizes[n%3+n/3%2]-n%100, n); !bytes.Equal(pkt, want) {
				t.Fatalf("packet %d is %x, want %x", n, pkt, want)
			}
			n++
		}
		if got == 0 {
			runtime.Gosched()
		}
	}
	if n, more := m.ring.Take(arena, packets); n != 0 || more {
		t.Errorf("%d packets too many", n)
	}
}

// numbered is packet n of a flow, like innerPacket but for its length and payload.
func numbered(length, n int) []byte {
	pkt := make([]byte, length, length+8)
	copy(pkt, innerHeaders)
	binary.BigEndian.PutUint16(pkt[ipLength:], uint16(length))
	binary.BigEndian.PutUint16(pkt[ipLen+udpLength:], uint16(length-ipLen))
	for at, word := overhead, uint64(n); at < length; at += 8 {
		binary.BigEndian.PutUint64(pkt[at:at+8], word)
		word = word*0x9e3779b97f4a7c15 + uint64(length)
	}
	return pkt
}

// innerHeaders are those of innerPacket, up to the payload.
const innerHeaders = "\x45\xba\x00\x24\x12\x34\x40\x00\x3f\x11\x16\xcd\x08\x00\x01\x81\x0a\x05\x02\x81" + "\x13\x88\x13\x89\x00\x10\x00\x00"
