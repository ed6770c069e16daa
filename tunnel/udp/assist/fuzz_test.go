package assist

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel/packet"
)

// What may be carried, said by the rules rather than by the programs' way of
// checking them.

// owner returns the peer with the longest prefix, if it has a public address.
func owner(peers []Peer, a netip.Addr) (longest Peer, ok bool) {
	for _, p := range peers {
		if p.Subnet.Contains(a) && (!longest.Subnet.IsValid() || p.Subnet.Bits() > longest.Subnet.Bits()) {
			longest = p
		}
	}
	return longest, longest.Public.IsValid()
}

func addrAt(b []byte, at int) netip.Addr { return netip.AddrFrom4([4]byte(b[at:])) }

func word(b []byte, at int) int { return int(binary.BigEndian.Uint16(b[at:])) }

// plain reports whether b is an IPv4 packet of its header's length, without
// options, and no fragment.
func plain(b []byte) bool {
	return len(b) >= 24 && b[0] == 0x45 && word(b, 2) == len(b) && word(b, 6)&0x3fff == 0
}

func mayEnter(frame []byte, cfg Config, own netip.Prefix, peers []Peer) bool {
	if len(frame) < 66 || [6]byte(frame) != [6]byte{} || word(frame, 12) != 0x0800 {
		return false
	}
	ip, udp, inner := frame[14:], frame[34:], frame[42:]
	if !plain(ip) || !plain(inner) || packet.Sum(ip[:20], 0) != 0xffff || ip[1]&3 != inner[1]&3 {
		return false
	}
	if ip[9] != 17 || addrAt(ip, 16) != cfg.Local || word(udp, 2) != int(cfg.Port) || word(udp, 4) != len(udp) || word(udp, 6) != 0 {
		return false
	}
	to := addrAt(inner, 16)
	if probe := to == own.Addr() && inner[9] == 17 && word(inner, 22) == 8286; probe || !own.Contains(to) {
		return false
	}
	peer, ok := owner(peers, addrAt(inner, 12))
	return ok && peer.Public == addrAt(ip, 12)
}

func mayLeave(pkt []byte, own netip.Prefix, peers []Peer) bool {
	if !plain(pkt) || !own.Contains(addrAt(pkt, 12)) {
		return false
	}
	peer, ok := owner(peers, addrAt(pkt, 16))
	return ok && len(pkt) <= peer.Limit
}

// mend sets right what arbitrary bytes rarely have right, bit by bit of how.
func mend(frame []byte, how byte) {
	for bit, at := range []int{outerIP + ipLength, outerUDP + udpLength, innerIP + ipLength} {
		if start := []int{outerIP, outerUDP, innerIP}[bit]; how>>bit&1 == 1 && len(frame) >= at+2 {
			binary.BigEndian.PutUint16(frame[at:], uint16(len(frame)-start))
		}
	}
	if how>>3&1 == 1 {
		fillSum(frame, outerIP)
	}
}

// The ingress program takes what it may, and nothing else.
func FuzzIngress(f *testing.F) {
	labtest.RequireRoot(f)
	a := newAssist(f, ingressConfig, ingressOwn, ingressPeers...)
	f.Add(unhex(f, datagram), byte(0), uint32(0))
	f.Add(unhex(f, datagram), byte(15), uint32(0))
	f.Add(append(unhex(f, datagram), make([]byte, 1300)...), byte(15), uint32(0))
	f.Add(changed(f, unhex(f, datagram), []change{{58, "0a050100"}, {64, "205e"}}), byte(15), uint32(0))
	f.Add(changed(f, unhex(f, datagram), []change{{26, "00000000"}, {54, "0a050401"}}), byte(15), uint32(0))
	f.Fuzz(func(t *testing.T, frame []byte, how byte, gsoSize uint32) {
		if len(frame) < etherLen+ipLen || len(frame) > 3000 {
			return // of which the kernel makes no packet in one piece
		}
		mend(frame, how)
		want := int32(tcxNext)
		if gsoSize == 0 && mayEnter(frame, ingressConfig, ingressOwn, ingressPeers) {
			want = tcxRedirect
		}
		if got := verdict(t, a.programs.ingress, frame, gsoSize); got != want {
			t.Fatalf("%x: %s, want %s", frame, verdictNames[got], verdictNames[want])
		}
	})
}

// The egress program, too.
func FuzzEgress(f *testing.F) {
	h := newEgressHost(f)
	f.Add(unhex(f, innerPacket), true, uint32(0))
	f.Add(unhex(f, innerPacket), true, uint32(8))
	f.Add(changed(f, unhex(f, innerPacket), []change{{18, "03"}}), true, uint32(0))
	f.Add(append(unhex(f, innerPacket), make([]byte, 1366)...), true, uint32(0))
	f.Fuzz(func(t *testing.T, pkt []byte, length bool, gsoSize uint32) {
		if len(pkt) < etherLen+ipLen || len(pkt) > 3000 {
			return
		}
		copy(pkt[12:], []byte{8, 0}) // see innerPacket
		if length {
			binary.BigEndian.PutUint16(pkt[ipLength:], uint16(len(pkt)))
		}
		want := int32(tcxNext)
		if gsoSize == 0 && mayLeave(pkt, egressOwn, egressPeers) {
			want = tcxRedirect
		}
		h.t = t // no longer f
		h.forget()
		if got := h.verdict(pkt, gsoSize); got != want {
			t.Fatalf("%x: %s, want %s", pkt, verdictNames[got], verdictNames[want])
		}
	})
}
