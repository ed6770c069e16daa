package subnet

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"testing"
)

func subnets(t testing.TB, keys ...string) []Subnet {
	t.Helper()
	var s []Subnet
	for _, k := range keys {
		s = append(s, mustKey(t, k))
	}
	return s
}

// TestAllocate lists every subnet that can be chosen: one for each value that
// the random source may return.
func TestAllocate(t *testing.T) {
	const base = `{"Network":"10.5.0.0/16","SubnetMin":"10.5.8.0","SubnetMax":"10.5.11.0"}`
	tests := []struct {
		name  string
		taken []string
		want  []string
	}{
		{"empty", nil, []string{"10.5.8.0/24", "10.5.9.0/24", "10.5.10.0/24", "10.5.11.0/24"}},
		{"first", []string{"10.5.8.0-24"}, []string{"10.5.9.0/24", "10.5.10.0/24", "10.5.11.0/24"}},
		{"last", []string{"10.5.11.0-24"}, []string{"10.5.8.0/24", "10.5.9.0/24", "10.5.10.0/24"}},
		{"middle, unsorted, twice", []string{"10.5.10.0-24", "10.5.9.0-24", "10.5.10.0-24"}, []string{"10.5.8.0/24", "10.5.11.0/24"}},
		{"longer lease", []string{"10.5.9.64-26"}, []string{"10.5.8.0/24", "10.5.10.0/24", "10.5.11.0/24"}},
		{"shorter lease", []string{"10.5.8.0-23"}, []string{"10.5.10.0/24", "10.5.11.0/24"}},
		{"nested leases", []string{"10.5.8.0-23", "10.5.8.0-24", "10.5.8.4-30"}, []string{"10.5.10.0/24", "10.5.11.0/24"}},
		{"outside the range", []string{"10.5.7.0-24", "10.5.12.0-24", "10.6.8.0-24", "192.168.0.0-16"}, []string{"10.5.8.0/24", "10.5.9.0/24", "10.5.10.0/24", "10.5.11.0/24"}},
		{"over the start", []string{"10.5.0.0-20"}, nil},
		{"over all", []string{"10.0.0.0-8"}, nil},
		{"full", []string{"10.5.8.0-24", "10.5.9.0-24", "10.5.10.0-24", "10.5.11.0-24"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, taken := mustConfig(t, base), subnets(t, tt.taken...)
			var got []string
			for i := uint64(0); ; i++ {
				var count uint64
				s, err := allocate(c, taken, func(n uint64) uint64 {
					count = n
					return i
				})
				if err != nil {
					if full := (*FullError)(nil); !errors.As(err, &full) {
						t.Fatal(err)
					}
					break
				}
				got = append(got, s.IPv4.String())
				if i+1 == count {
					break
				}
			}
			if fmt.Sprint(got) != fmt.Sprint(tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestAllocateDualStack(t *testing.T) {
	c := mustConfig(t, dualStack)
	zero := func(uint64) uint64 { return 0 }
	got, err := allocate(c, subnets(t, "10.5.8.0-24&fd00:5:0:9::-64", "10.5.10.0-24&fd00:5:0:8::-64"), zero)
	if want := mustKey(t, "10.5.9.0-24&fd00:5:0:a::-64"); err != nil || got != want {
		t.Errorf("got %s, error %v; want %s", got, err, want)
	}
	_, err = allocate(c, subnets(t, "10.5.1.0-24&fd00:5::-60"), zero)
	full := &FullError{}
	if !errors.As(err, &full) || full.Network != c.IPv6Network || full.Leases != 1 || full.Possible != 8 {
		t.Errorf("got error %v, want the IPv6 network full", err)
	}
}

func TestAllocateFullSays(t *testing.T) {
	c := mustConfig(t, `{"Network":"10.5.0.0/16"}`)
	var taken []Subnet
	for i := 1; i < 256; i++ {
		taken = append(taken, mustKey(t, fmt.Sprintf("10.5.%d.0-24", i)))
	}
	_, err := allocate(c, taken, rand.Uint64N)
	if want := "network 10.5.0.0/16 full: 255 leases of 255 possible"; err == nil || err.Error() != want {
		t.Errorf("got error %v, want %q", err, want)
	}
}

// TestAllocateHuge uses ranges of more subnets than a number of 64 bits counts.
func TestAllocateHuge(t *testing.T) {
	c := mustConfig(t, `{"Network":"128.0.0.0/1","SubnetLen":30,"EnableIPv6":true,"IPv6Network":"8000::/1","IPv6SubnetLen":126}`)
	if c.IPv4.Possible() != 1<<29-1 || c.IPv6.Possible() != 1<<63-1 {
		t.Errorf("possible: %d, %d", c.IPv4.Possible(), c.IPv6.Possible())
	}
	taken := subnets(t, "128.0.0.0-2&8000::-2")
	for _, rnd := range []func(uint64) uint64{rand.Uint64N, func(n uint64) uint64 { return n - 1 }} {
		s, err := allocate(c, nil, rnd)
		if err != nil || !c.Fits(s) {
			t.Errorf("got %s, error %v", s, err)
		}
		// The IPv6 subnets that are ever chosen are all taken.
		full := &FullError{}
		if _, err := allocate(c, taken, rnd); !errors.As(err, &full) || full.Network != c.IPv6Network {
			t.Errorf("got error %v, want the IPv6 network full", err)
		}
	}
}

// TestAllocateMany fills most of a /8 with leases of several lengths and takes
// what is left, one by one.
func TestAllocateMany(t *testing.T) {
	c := mustConfig(t, `{"Network":"10.0.0.0/8","SubnetLen":20}`)
	r := rand.New(rand.NewPCG(1, 2))
	var taken []Subnet
	for i := range 16384 {
		addr := netip.AddrFrom4([4]byte{10, byte(i >> 6), byte(i<<2) &^ 3, 0})
		taken = append(taken, Subnet{IPv4: netip.PrefixFrom(addr, 22+r.IntN(9))})
	}
	r.Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
	if _, err := allocate(c, taken, r.Uint64N); err == nil {
		t.Fatal("a full network gave a subnet")
	}
	taken = taken[:10000]
	for {
		s, err := allocate(c, taken, r.Uint64N)
		if err != nil {
			break
		}
		for _, o := range taken {
			if s.Overlaps(o) {
				t.Fatalf("%s overlaps %s", s, o)
			}
		}
		if !c.Fits(s) {
			t.Fatalf("%s does not fit", s)
		}
		taken = append(taken, s)
	}
	if len(taken) == 10000 {
		t.Error("nothing was left: the test tests nothing")
	}
}
