package assist

import (
	"encoding/binary"
	"net/netip"
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
}

// What the programs count is read without leaving garbage: it is asked of each
// peer many times a second.
func TestTraffic(t *testing.T) {
	labtest.RequireRoot(t)
	m, err := newShared()
	check(t, err)
	defer m.close()
	memory, err := m.slots.Memory()
	check(t, err)
	s := slots{memory: memory}
	s.take(1400)
	n := s.take(1400)
	for field, v := range map[int64]uint64{slotTxPackets: 3, slotTxBytes: 1 << 40, slotRxPackets: 5, slotRxBytes: 7000} {
		store64(memory, int64(n)*slotLen+field, v)
	}
	if tx, rx := s.traffic(n); tx != (Count{3, 1 << 40}) || rx != (Count{5, 7000}) {
		t.Errorf("sent %+v, received %+v", tx, rx)
	}
	if allocs := testing.AllocsPerRun(100, func() { s.traffic(n) }); allocs != 0 {
		t.Errorf("%v allocations", allocs)
	}
}
