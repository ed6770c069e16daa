package packet

import (
	"bytes"
	"math/rand/v2"
	"runtime"
	"testing"
)

// sumVariant is one way to compute Sum, for b of min bytes or more.
type sumVariant struct {
	name string
	min  int
	sum  func(b []byte, initial uint16) uint16
}

// sumVariants are all that this machine can run.
var sumVariants = func() []sumVariant {
	v := []sumVariant{{"Sum", 0, Sum}, {"generic", 0, sumGeneric}}
	vector := func(b []byte, initial uint16) uint16 {
		return networkOrder(fold(sumVector(b) + uint64(networkOrder(initial))))
	}
	switch {
	case hasVector && runtime.GOARCH == "amd64":
		v = append(v, sumVariant{"AVX2", 32, vector})
	case hasVector && runtime.GOARCH == "arm64":
		v = append(v, sumVariant{"NEON", 16, vector})
	}
	return v
}()

func TestSumKnown(t *testing.T) {
	for _, c := range []struct {
		b       []byte
		initial uint16
		want    uint16
	}{
		{nil, 0, 0},
		{nil, 0xffff, 0xffff},
		{[]byte{0x12}, 0, 0x1200},
		{[]byte{0, 1, 0xf2, 3, 0xf4, 0xf5, 0xf6, 0xf7}, 0, 0xddf2}, // RFC 1071 section 3
		{[]byte{0xff, 0xff, 0, 1}, 0, 1},
		{[]byte{0xff, 0xfe}, 3, 2},
		{make([]byte, 1400), 0, 0},
		{make([]byte, 1401), 0xffff, 0xffff},
		{bytes.Repeat([]byte{0xff}, 1400), 0, 0xffff},
		{bytes.Repeat([]byte{0xff}, 1401), 0, 0xff00},
		{bytes.Repeat([]byte{0x01, 0x00}, 256), 0, 1},
		{append(make([]byte, 1400), 0x12), 0x3400, 0x4600},
	} {
		for _, v := range sumVariants {
			if len(c.b) < v.min {
				continue
			}
			if got := v.sum(c.b, c.initial); got != c.want {
				t.Errorf("%s of %d bytes % .8x with %#x: got %#04x, want %#04x", v.name, len(c.b), c.b, c.initial, got, c.want)
			}
		}
	}
}

// Every length up to 4,096, and the longest of a packet, at every alignment
// within a cache line. Bytes are summed that lie among others like them, so
// that one too many shows.
func TestSumAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for content, next := range map[string]func() byte{
		"random":      func() byte { return byte(rnd.Uint32()) },
		"ones":        func() byte { return 0xff }, // carry the most
		"nearly ones": func() byte { return 0xff - byte(rnd.Uint32()&1) },
		"zeros":       func() byte { return 0 },
	} {
		buf := make([]byte, 64+65536) // of this size, at the start of a page
		for i := range buf {
			buf[i] = next()
		}
		for align := range 64 {
			initial := []uint16{0, 0xffff, uint16(rnd.Uint32())}[align%3]
			even := initial // the sum of b, less an odd last byte
			for n := range 4097 {
				b := buf[align : align+n]
				if n > 0 && n%2 == 0 {
					even = slowSum(b[n-2:], even)
				}
				checkSum(t, content, align, b, initial, slowSum(b[n&^1:], even))
			}
			b := buf[align : align+65535]
			checkSum(t, content, align, b, initial, slowSum(b, initial))
		}
	}
}

func checkSum(t *testing.T, content string, align int, b []byte, initial, want uint16) {
	for _, v := range sumVariants {
		if len(b) < v.min {
			continue
		}
		if got := v.sum(b, initial); got != want {
			t.Fatalf("%s of %s, alignment %d, length %d, initial %#x: got %#04x, want %#04x",
				v.name, content, align, len(b), initial, got, want)
		}
	}
}

func TestSumOfParts(t *testing.T) {
	b := bytesOf(65535)
	want := slowSum(b, 0)
	for _, v := range sumVariants {
		for _, at := range []int{0, 2, 20, 34, 1400, 65500, 65534} {
			if min(at, len(b)-at) < v.min {
				continue
			}
			if got := v.sum(b[at:], v.sum(b[:at], 0)); got != want {
				t.Errorf("%s split at %d: got %#04x, want %#04x", v.name, at, got, want)
			}
		}
	}
}

func TestFold(t *testing.T) {
	for sum, want := range map[uint64]uint16{
		0:                     0,
		0xffff:                0xffff,
		0x1_0000:              1,
		0x1_fffe:              0xffff,
		0xffff_ffff:           0xffff,
		0xffff_0000_0001:      1,
		0x8000_0000_0000_8000: 1,
		1<<64 - 1:             0xffff,
		1<<64 - 2:             0xfffe,
	} {
		if got := fold(sum); got != want {
			t.Errorf("fold(%#x) = %#04x, want %#04x", sum, got, want)
		}
	}
}

// FuzzSum compares all variants with the reference, and so with each other. The
// sum starts at any of the first 64 bytes.
func FuzzSum(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint8(0), uint16(7))
	f.Add(bytesOf(300), uint8(1), uint16(0xffff))
	f.Add(bytes.Repeat([]byte{0xff}, 1503), uint8(37), uint16(0))
	f.Fuzz(func(t *testing.T, b []byte, align uint8, initial uint16) {
		at := min(int(align%64), len(b))
		checkSum(t, "fuzzed bytes", at, b[at:], initial, slowSum(b[at:], initial))
	})
}
