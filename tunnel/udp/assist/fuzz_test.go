package assist

import (
	"encoding/binary"
	"net/netip"
	"reflect"
	"testing"
	"time"

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

// superTCP returns the length of the headers of a TCP superpacket.
func superTCP(b []byte) (headers int, ok bool) {
	if len(b) < 40 || b[9] != packet.ProtoTCP {
		return 0, false
	}
	headers = 20 + int(b[32]>>4)*4
	return headers, headers >= 40 && len(b) > headers
}

// wayIn is which way a frame goes, of which TCP packets made the detour before or
// did not.
func wayIn(frame []byte, gsoSize uint16, lately bool, cfg Config, own netip.Prefix, peers []Peer) int32 {
	if !mayEnter(frame, cfg, own, peers) {
		return tcxNext
	}
	ip, inner := frame[14:], frame[42:]
	_, super := superTCP(inner)
	switch {
	case gsoSize != 0 && !super:
		return tcxNext
	case gsoSize != 0 && addrAt(inner, 16) == own.Addr() && word(inner, 20) == 8286 && word(inner, 22) == 8286:
		return tried
	case gsoSize != 0 || inner[9] == packet.ProtoTCP && lately:
		return detoured
	case ip[1]&3 != inner[1]&3:
		return tcxNext
	}
	return tcxRedirect
}

func mayEnter(frame []byte, cfg Config, own netip.Prefix, peers []Peer) bool {
	if len(frame) < 66 || [6]byte(frame) != [6]byte{} || word(frame, 12) != 0x0800 {
		return false
	}
	ip, udp, inner := frame[14:], frame[34:], frame[42:]
	if !plain(ip) || !plain(inner) || packet.Sum(ip[:20], 0) != 0xffff {
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

// mayLeave: marked is what trials are.
func mayLeave(pkt []byte, gsoSize uint16, marked bool, own netip.Prefix, peers []Peer) bool {
	if !plain(pkt) || !own.Contains(addrAt(pkt, 12)) {
		return false
	}
	peer, ok := owner(peers, addrAt(pkt, 16))
	if !ok || gsoSize == 0 {
		return ok && len(pkt) <= peer.Limit
	}
	headers, super := superTCP(pkt)
	return super && headers+int(gsoSize) <= peer.Limit && (marked || peer.Subnet == takesSuperpackets)
}

// takesSuperpackets is a peer of egressPeers.
var takesSuperpackets = pfx("10.5.2.0/24")

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

// The ingress program takes what it may, by the way that it has to go, and nothing
// else.
func FuzzIngress(f *testing.F) {
	h := newEntering(f)
	udp, tcp := unhex(f, datagram), unhex(f, tcpDatagram)
	f.Add(udp, byte(0), uint16(0), false)
	f.Add(udp, byte(15), uint16(0), true)
	f.Add(append(udp, make([]byte, 1300)...), byte(15), uint16(0), false)
	f.Add(changed(f, udp, []change{{58, "0a050100"}, {64, "205e"}}), byte(15), uint16(0), false)
	f.Add(changed(f, udp, []change{{26, "00000000"}, {54, "0a050401"}}), byte(15), uint16(0), false)
	f.Add(tcp, byte(15), uint16(0), false)
	f.Add(tcp, byte(15), uint16(8), false)
	f.Add(ce(tcp), byte(15), uint16(0), true)
	f.Add(short(tcp), byte(15), uint16(8), true)
	f.Add(changed(f, tcp, []change{{58, "0a050100"}, {62, "205e205e"}}), byte(15), uint16(8), false)
	f.Add(changed(f, tcp, []change{{74, "f0"}}), byte(15), uint16(8), false)
	f.Fuzz(func(t *testing.T, frame []byte, how byte, gsoSize uint16, lately bool) {
		if len(frame) < etherLen+ipLen || len(frame) > 3000 {
			return // of which the kernel makes no packet in one piece
		}
		mend(frame, how)
		want := wayIn(frame, gsoSize, lately, ingressConfig, ingressOwn, ingressPeers)
		h.t = t // no longer f
		h.setTimes(0)
		if lately {
			h.setTimes(now(t) + uint64(time.Hour))
		}
		if got := h.verdict(frame, uint32(gsoSize)); got != want {
			t.Fatalf("%x: %s, want %s", frame, detourNames[got], detourNames[want])
		}
	})
}

// The egress program, too, and of that it leaves UDP floods to user space, by the
// ring of their seat.
func FuzzEgress(f *testing.F) {
	h := newLeaving(f)
	h.SetSuperpackets(takesSuperpackets, true)
	udp, tcp := unhex(f, innerPacket), unhex(f, tcpPacket)
	f.Add(udp, true, uint16(0), false, false)
	f.Add(udp, true, uint16(8), false, false)
	f.Add(changed(f, udp, []change{{18, "03"}}), true, uint16(0), false, false)
	f.Add(append(udp, make([]byte, 1366)...), true, uint16(0), true, false)
	f.Add(tcp, true, uint16(8), false, false)
	f.Add(tcp, true, uint16(1361), false, false)
	f.Add(changed(f, tcp, []change{{18, "06"}}), true, uint16(8), false, false)
	f.Add(changed(f, tcp, []change{{18, "06"}}), true, uint16(8), true, false)
	f.Add(changed(f, tcp, []change{{32, "f0"}}), true, uint16(1321), true, false)
	f.Add(udp, true, uint16(0), false, true)
	f.Add(udp, true, uint16(8), false, true)
	f.Add(changed(f, udp, []change{{18, "03"}}), true, uint16(0), false, true)
	f.Add(tcp, true, uint16(0), false, true)
	f.Add(tcp, true, uint16(8), true, true)
	f.Fuzz(func(t *testing.T, pkt []byte, length bool, gsoSize uint16, marked, floods bool) {
		if len(pkt) < etherLen+ipLen || len(pkt) > 3000 {
			return
		}
		copy(pkt[12:], []byte{8, 0}) // see innerPacket
		if length {
			binary.BigEndian.PutUint16(pkt[ipLength:], uint16(len(pkt)))
		}
		// All flows are floods, or none.
		want, counts, state := int32(tcxNext), 0, floodState{}
		var rings [MaxFloods][][]byte
		if floods {
			state = floodState{now(t) + uint64(time.Hour), 7, 2}
		}
		if mayLeave(pkt, gsoSize, marked, egressOwn, egressPeers) {
			want = carried
			if pkt[9] == packet.ProtoUDP {
				counts = 1
				if floods {
					want, rings[1] = tcxRedirect, [][]byte{pkt}
				}
			}
		}
		var mark uint32
		if marked {
			mark = h.programs.mark
		}
		h.t = t // no longer f
		h.forget()
		h.setFloods(state)
		if got := h.marked(pkt, uint32(gsoSize), mark); got != want {
			t.Fatalf("%x: %d, want %d", pkt, got, want)
		}
		if got := h.taken(); !reflect.DeepEqual(got, rings) {
			t.Fatalf("the rings have %x, want %x", got, rings)
		}
		if got := h.counted(state.count); len(got) != counts {
			t.Fatalf("%x is counted at places %d, want %d", pkt, got, counts)
		}
	})
}
