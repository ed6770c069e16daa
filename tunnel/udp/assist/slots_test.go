package assist

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestOwnSubnet(t *testing.T) {
	for _, c := range []struct {
		subnet, addr string
		in           bool
	}{
		{"10.5.1.0/24", "10.5.1.0", true},
		{"10.5.1.0/24", "10.5.1.255", true},
		{"10.5.1.77/24", "10.5.1.255", true},
		{"10.5.1.0/24", "10.5.2.0", false},
		{"10.5.128.0/17", "10.5.255.1", true},
		{"10.5.128.0/17", "10.5.127.1", false},
		{"200.1.2.3/32", "200.1.2.3", true},
		{"200.1.2.3/32", "200.1.2.2", false},
		{"0.0.0.0/0", "255.0.0.1", true},
		{"", "0.0.0.0", false},
		{"", "0.0.0.1", false},
		{"", "1.0.0.0", false},
		{"", "255.255.255.255", false},
	} {
		var subnet netip.Prefix
		if c.subnet != "" {
			subnet = pfx(c.subnet)
		}
		own, a := ownSubnet(subnet), addr(c.addr).As4()
		// As onlyOwn has it.
		if in := binary.NativeEndian.Uint32(a[:])&uint32(own>>32) == uint32(own); in != c.in {
			t.Errorf("%q has %s: %v, want %v", c.subnet, c.addr, in, c.in)
		}
	}
}

func TestWireOrder(t *testing.T) {
	var b [4]byte
	binary.NativeEndian.PutUint16(b[:], uint16(wire16(0x1234)))
	if [2]byte(b[:]) != [2]byte{0x12, 0x34} {
		t.Errorf("wire16: %x", b[:2])
	}
	binary.NativeEndian.PutUint32(b[:], uint32(wire32(addr("192.0.2.200"))))
	if b != [4]byte{192, 0, 2, 200} {
		t.Errorf("wire32: %x", b)
	}
	binary.NativeEndian.PutUint32(b[:], uint32(wireWord(0xf2345678)))
	if b != [4]byte{0xf2, 0x34, 0x56, 0x78} {
		t.Errorf("wireWord: %x", b)
	}
}

// A mark has no bits by which others' rules do anything.
func TestNewMark(t *testing.T) {
	for random, want := range map[uint32]uint32{0: 2, 0xffffffff: 0xfff03ffe, 0x12345678: 0x1230167a} {
		if got := newMark(random); got != want {
			t.Errorf("%#x gives %#x, want %#x", random, got, want)
		}
	}
}

// What the programs count is read without leaving garbage: it is asked of each
// peer many times a second.
func TestTraffic(t *testing.T) {
	labtest.RequireRoot(t)
	m, err := newShared(Config{})
	check(t, err)
	defer m.close()
	memory, err := m.slots.Memory()
	check(t, err)
	s := slots{memory: memory}
	s.take(1400)
	n := s.take(1400)
	for field, v := range map[int64]uint64{slotTxPackets: 3, slotTxBytes: 1 << 40, slotTxSuperpackets: 4, slotRxPackets: 5, slotRxBytes: 7000} {
		store64(memory, int64(n)*slotLen+field, v)
	}
	if tx, rx := s.traffic(n); tx != (Count{3, 1 << 40}) || rx != (Count{5, 7000}) {
		t.Errorf("sent %+v, received %+v", tx, rx)
	}
	if supers := s.superpackets(n); supers != 4 {
		t.Errorf("sent %d superpackets", supers)
	}
	if allocs := testing.AllocsPerRun(100, func() { s.traffic(n); s.superpackets(n) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}

// A peer's superpackets are the kernel's for as long as it has been said, of that
// peer.
func TestSetSuperpackets(t *testing.T) {
	labtest.RequireRoot(t)
	subnet, other := pfx("10.5.2.0/24"), pfx("10.5.3.0/24")
	a := newAssist(t, ingressConfig, ingressOwn, ingressPeers...)
	want := func(when string, limit int, on, others bool) {
		t.Helper()
		for p, on := range map[netip.Prefix]bool{subnet: on, other: others} {
			n, ok := a.peers.slot(p)
			var b [slotLen]byte
			_, err := a.peers.slots.memory.ReadAt(b[:], int64(n)*slotLen)
			check(t, err)
			if is := binary.NativeEndian.Uint32(b[slotSuperpackets:]) != 0; !ok || is != on {
				t.Errorf("%s: superpackets to %v: %v, want %v", when, p, is, on)
			}
		}
		n, _ := a.peers.slot(subnet)
		if got := a.peers.slots.limit(n); got != limit {
			t.Errorf("%s: limit %d, want %d", when, got, limit)
		}
	}
	want("at first", 1400, false, false)
	a.SetSuperpackets(pfx("10.5.2.77/24"), true)
	want("when on", 1400, true, false)
	a.SetSuperpackets(pfx("10.5.4.0/24"), true) // user space's
	a.SetSuperpackets(pfx("10.5.9.0/24"), true) // nobody's
	a.SetLimit(subnet, 1300)
	want("with another limit", 1300, true, false)
	check(t, a.Set(ingressOwn, ingressPeers))
	want("after Set", 1400, true, false)
	a.SetSuperpackets(other, true)
	a.SetSuperpackets(subnet, false)
	want("when off", 1400, false, true)
	a.SetSuperpackets(subnet, true)

	moved := slices.Clone(ingressPeers)
	moved[0].Public = addr("192.0.2.222")
	check(t, a.Set(ingressOwn, moved))
	want("at another address", 1400, false, true)
	a.SetSuperpackets(subnet, true)
	check(t, a.Set(ingressOwn, moved[1:]))
	a.SetSuperpackets(subnet, true) // nobody's
	check(t, a.Set(ingressOwn, moved))
	want("when it was gone", 1400, false, true)
}
