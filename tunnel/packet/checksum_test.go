package packet

import (
	"math/rand/v2"
	"testing"
)

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
	} {
		if got := Sum(c.b, c.initial); got != c.want {
			t.Errorf("Sum(% x, %#x) = %#04x, want %#04x", c.b, c.initial, got, c.want)
		}
	}
}

// Every length up to 1,024 at every alignment, with random bytes and with all
// ones, which carry the most.
func TestSumAgainstReference(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	random, ones := make([]byte, 1100), make([]byte, 1100)
	for i := range random {
		random[i], ones[i] = byte(rnd.Uint32()), 0xff
	}
	for name, buf := range map[string][]byte{"random": random, "ones": ones} {
		for align := range 16 {
			for n := range 1025 {
				b, initial := buf[align:align+n], uint16(rnd.Uint32())
				if got, want := Sum(b, initial), slowSum(b, initial); got != want {
					t.Fatalf("%s, alignment %d, length %d, initial %#x: got %#04x, want %#04x", name, align, n, initial, got, want)
				}
			}
		}
	}
}

func TestSumOfParts(t *testing.T) {
	b := bytesOf(65535)
	want := slowSum(b, 0)
	for _, at := range []int{0, 2, 20, 1400, 65534} {
		if got := Sum(b[at:], Sum(b[:at], 0)); got != want {
			t.Errorf("split at %d: got %#04x, want %#04x", at, got, want)
		}
	}
}

func FuzzSum(f *testing.F) {
	f.Add([]byte{1, 2, 3}, uint16(7))
	f.Add(bytesOf(300), uint16(0xffff))
	f.Fuzz(func(t *testing.T, b []byte, initial uint16) {
		if got, want := Sum(b, initial), slowSum(b, initial); got != want {
			t.Fatalf("got %#04x, want %#04x", got, want)
		}
	})
}
