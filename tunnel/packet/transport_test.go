package packet

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// checksumAt is where the checksum of a packet is that Parse accepted.
func checksumAt(info *Info) int {
	if info.Protocol == ProtoUDP {
		return info.Transport + udpChecksum
	}
	return info.Transport + tcpChecksum
}

// A checksum of which a kernel has made the pseudo-header's part is finished.
func TestFinishChecksum(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for _, udp := range []bool{false, true} {
		for size := range 200 {
			payload := make([]byte, size)
			for i := range payload {
				payload[i] = byte(random.Uint32())
			}
			right := spec{udp: udp, payload: payload, tcpOptions: []byte{1, 1, 1, 0}, ipOptions: []byte{1, 1, 1, 0}}.build()
			var info Info
			if why := info.Parse(right); why != OK {
				t.Fatal(why)
			}
			pkt := bytes.Clone(right)
			binary.BigEndian.PutUint16(pkt[checksumAt(&info):], slowPseudo(pkt, info.Protocol, info.Transport))
			FinishChecksum(pkt, &info)
			if !bytes.Equal(pkt, right) {
				t.Fatalf("got %x, want %x", pkt, right)
			}
			FinishChecksum(pkt, &info)
			if !bytes.Equal(pkt, right) {
				t.Fatalf("a right one became %x, was %x", pkt, right)
			}
		}
	}
}

// Other packets stay as they are: a wrong checksum stays wrong, and none is
// none.
func TestFinishChecksumLeavesOthers(t *testing.T) {
	wrong := spec{payload: []byte("wrong")}.build()
	wrong[20+tcpChecksum]++
	fragment := spec{udp: true, payload: []byte("fragment")}.build()
	fragment[6] = 0x20 // more fragments
	binary.BigEndian.PutUint16(fragment[20+udpChecksum:], slowPseudo(fragment, ProtoUDP, 20))
	short := spec{payload: make([]byte, 10)}.build()[:30]
	binary.BigEndian.PutUint16(short[2:], 30)
	for name, pkt := range map[string][]byte{
		"wrong":    wrong,
		"none":     spec{udp: true, noChecksum: true}.build(),
		"fragment": fragment,
		"short":    short,
		"IPv6":     spec{src: "fd00::1", dst: "fd00::2", payload: []byte("six")}.build(),
	} {
		var info Info
		if why := info.Parse(pkt); why != OK {
			t.Fatal(name, why)
		}
		before := bytes.Clone(pkt)
		if FinishChecksum(pkt, &info); !bytes.Equal(pkt, before) {
			t.Errorf("%s: %x became %x", name, before, pkt)
		}
	}
}

// A right checksum that has the value of an unfinished one stays.
func TestFinishChecksumByChance(t *testing.T) {
	pkt := spec{udp: true, payload: make([]byte, 2)}.build()
	var info Info
	if why := info.Parse(pkt); why != OK {
		t.Fatal(why)
	}
	pseudo, found := slowPseudo(pkt, ProtoUDP, 20), false
	for word := range 1 << 16 {
		binary.BigEndian.PutUint16(pkt[28:], uint16(word))
		binary.BigEndian.PutUint16(pkt[20+udpChecksum:], pseudo)
		if slowTransportSum(pkt, ProtoUDP, 20) != 0xffff {
			continue
		}
		found = true
		before := bytes.Clone(pkt)
		if FinishChecksum(pkt, &info); !bytes.Equal(pkt, before) {
			t.Errorf("%x became %x", before, pkt)
		}
	}
	if !found {
		t.Error("there is none")
	}
}

// Nothing but the checksum changes, and then it is right.
func FuzzFinishChecksum(f *testing.F) {
	for _, s := range []spec{{payload: []byte("TCP")}, {udp: true, payload: []byte("UDP")}, {udp: true, ipOptions: []byte{1, 1, 1, 0}}} {
		pkt := s.build()
		f.Add(pkt, false)
		f.Add(pkt, true)
	}
	f.Fuzz(func(t *testing.T, pkt []byte, unfinished bool) {
		var info Info
		if info.Parse(pkt) != OK || info.Protocol != ProtoTCP && info.Protocol != ProtoUDP {
			return
		}
		at := checksumAt(&info)
		if unfinished && info.Version == 4 && at+2 <= len(pkt) {
			binary.BigEndian.PutUint16(pkt[at:], slowPseudo(pkt, info.Protocol, info.Transport))
		}
		before := bytes.Clone(pkt)
		if FinishChecksum(pkt, &info); bytes.Equal(pkt, before) {
			return
		}
		if slowTransportSum(pkt, info.Protocol, info.Transport) != 0xffff {
			t.Errorf("%x became %x, whose checksum is wrong", before, pkt)
		}
		copy(pkt[at:at+2], before[at:])
		if !bytes.Equal(pkt, before) {
			t.Errorf("more than the checksum has changed: %x, %x", before, pkt)
		}
	})
}
