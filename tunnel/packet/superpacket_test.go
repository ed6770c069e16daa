package packet

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// whole is a TCP packet as a kernel passes on a superpacket: its checksum is
// unfinished.
func whole(s spec) []byte {
	_, pkt := super(s.build(), 1, false)
	return pkt
}

func TestTCPSuperpacket(t *testing.T) {
	const mtu = 1400
	for _, c := range []struct {
		name    string
		pkt     []byte
		packets int // 0: it cannot be cut; -1: it is none
		bytes   int
		header  int
	}{
		{"two packets", whole(spec{payload: bytesOf(1361)}), 2, 40*2 + 1361, 40},
		{"two full ones", whole(spec{payload: bytesOf(2 * 1360)}), 2, 2 * 1400, 40},
		{"as many as can be", whole(spec{tcpOptions: timestamps, df: true, flags: tcpACK | tcpPSH, payload: bytesOf(65495 - 52)}), 49, 49*52 + 65443, 52},
		{"FIN and CE", whole(spec{tos: CE, flags: tcpACK | tcpFIN, payload: bytesOf(5000)}), 4, 4*40 + 5000, 40},
		{"fits", whole(spec{payload: bytesOf(1360)}), -1, 0, 0},
		{"finished", spec{payload: bytesOf(5000)}.build(), -1, 0, 0},
		{"UDP", func() []byte { _, p := super(spec{udp: true, payload: bytesOf(5000)}.build(), 1, false); return p }(), -1, 0, 0},
		{"IPv6", whole(spec{src: "fd00::1", dst: "fd00::2", payload: bytesOf(5000)}), -1, 0, 0},
		{"SYN", whole(spec{flags: tcpSYN, payload: bytesOf(5000)}), 0, 0, 0},
		{"RST", whole(spec{flags: tcpRST | tcpACK, payload: bytesOf(5000)}), 0, 0, 0},
		{"URG", whole(spec{flags: tcpURG | tcpACK, payload: bytesOf(5000)}), 0, 0, 0},
		{"CWR", whole(spec{flags: tcpCWR | tcpACK, payload: bytesOf(5000)}), 0, 0, 0},
		{"IP options", whole(spec{ipOptions: []byte{1, 1, 1, 0}, payload: bytesOf(5000)}), 0, 0, 0},
		{"no payload", whole(spec{tcpOptions: timestamps}), -1, 0, 0},
	} {
		info := mustParse(t, c.pkt)
		s, ok := TCPSuperpacket(c.pkt, &info, mtu)
		if ok != (c.packets >= 0) || s.Packets != max(c.packets, 0) {
			t.Errorf("%s: %+v, %v", c.name, s, ok)
		}
		if s.Packets == 0 {
			continue
		}
		want := Superpacket{
			Hdr:     VnetHdr{Flags: 1, GSOType: 1, HdrLen: uint16(c.header), GSOSize: uint16(mtu - c.header), CsumStart: 20, CsumOffset: 16},
			Packets: c.packets, Bytes: c.bytes,
		}
		if s != want {
			t.Errorf("%s: %+v, want %+v", c.name, s, want)
		}
		pkts := cut(t, NewSegmenter(128), s.Hdr, bytes.Clone(c.pkt))
		total := 0
		for _, p := range pkts {
			checkPacket(t, p)
			total += len(p)
		}
		if len(pkts) != s.Packets || total != s.Bytes {
			t.Errorf("%s: cut into %d packets of %d bytes in all, announced %+v", c.name, len(pkts), total, s)
		}
	}
	tiny := whole(spec{payload: bytesOf(100)})
	info := mustParse(t, tiny)
	if s, ok := TCPSuperpacket(tiny, &info, 40); s.Packets != 0 || !ok {
		t.Errorf("no payload fits the MTU: %+v, %v", s, ok)
	}
}

// What is taken for a superpacket is cut into as many packets as is said, which
// fit and have right checksums.
func FuzzTCPSuperpacket(f *testing.F) {
	for _, s := range []spec{{payload: bytesOf(200)}, {tcpOptions: timestamps, df: true, payload: bytesOf(100)}, {flags: tcpSYN, payload: bytesOf(100)}} {
		f.Add(s.build(), uint16(70), true)
		f.Add(s.build(), uint16(70), false)
	}
	f.Fuzz(func(t *testing.T, pkt []byte, mtu uint16, unfinished bool) {
		pkt = withLength(pkt)
		var info Info
		if len(pkt) > maxPacketLen || info.Parse(pkt) != OK {
			return
		}
		if at := info.Transport + tcpChecksum; unfinished && info.Version == 4 && info.Protocol == ProtoTCP && at+2 <= len(pkt) {
			binary.BigEndian.PutUint16(pkt[at:], slowPseudo(pkt, ProtoTCP, info.Transport))
		}
		before := bytes.Clone(pkt)
		s, ok := TCPSuperpacket(pkt, &info, int(mtu))
		if !bytes.Equal(pkt, before) {
			t.Fatal("it is changed")
		}
		if !ok || s.Packets == 0 {
			return
		}
		if len(pkt) <= int(mtu) || s.Packets < 2 {
			t.Fatalf("%d bytes for %d: %+v", len(pkt), mtu, s)
		}
		pkts := cut(t, NewSegmenter(128), s.Hdr, pkt)
		total := 0
		for _, p := range pkts {
			if len(p) > int(mtu) {
				t.Errorf("a packet of %d bytes for %d", len(p), mtu)
			}
			info := mustParse(t, p)
			if sum := slowTransportSum(p, ProtoTCP, info.Transport); sum != 0xffff {
				t.Errorf("a wrong checksum: %#x", sum)
			}
			total += len(p)
		}
		if len(pkts) != s.Packets || total != s.Bytes {
			t.Errorf("%d packets of %d bytes in all, announced %+v", len(pkts), total, s)
		}
	})
}
