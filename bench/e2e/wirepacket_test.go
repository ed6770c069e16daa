package e2e

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// ipPacket is an IP packet taken apart. The code is apart from weft's own, so
// that both cannot err alike.
type ipPacket struct {
	src, dst netip.Addr
	tos, ttl uint8
	df       bool // IPv4; always true for IPv6
	fragment bool
	protocol uint8
	payload  []byte // from the transport header on

	unchecked bool // UDP without a checksum
}

// Fields of IPv4's flags and fragment offset.
const (
	dontFragmentBit = 1 << 14
	fragmentBits    = 1<<13 | (1<<13 - 1) // more fragments, or an offset
)

// dissect takes an IP packet apart and checks every length and checksum: b must
// be one whole packet and nothing more. A fragment's transport checksum, which
// is over all fragments, is not looked at. With an error about what is behind
// the IP header, the header's fields are there all the same.
func dissect(b []byte) (p ipPacket, err error) {
	if len(b) == 0 {
		return p, fmt.Errorf("no packet")
	}
	switch b[0] >> 4 {
	case 4:
		err = p.dissectIPv4(b)
	case 6:
		err = p.dissectIPv6(b)
	default:
		err = fmt.Errorf("IP version %d", b[0]>>4)
	}
	if err == nil && !p.fragment {
		err = p.checkTransport()
	}
	if err != nil {
		return p, fmt.Errorf("%w: %x", err, b[:min(len(b), 80)])
	}
	return p, nil
}

func (p *ipPacket) dissectIPv4(b []byte) error {
	if len(b) < 20 {
		return fmt.Errorf("%d bytes", len(b))
	}
	header, total := int(b[0]&15)*4, int(binary.BigEndian.Uint16(b[2:]))
	switch {
	case header != 20:
		return fmt.Errorf("an IPv4 header of %d bytes", header)
	case total != len(b):
		return fmt.Errorf("total length %d of %d bytes", total, len(b))
	case onesSum(b[:header], 0) != 0xffff:
		return fmt.Errorf("wrong checksum of the IPv4 header")
	}
	flags := binary.BigEndian.Uint16(b[6:])
	*p = ipPacket{
		src: netip.AddrFrom4([4]byte(b[12:])), dst: netip.AddrFrom4([4]byte(b[16:])),
		tos: b[1], ttl: b[8], protocol: b[9], payload: b[header:],
		df: flags&dontFragmentBit != 0, fragment: flags&fragmentBits != 0,
	}
	return nil
}

// dissectIPv6 knows no extension header but that of fragments.
func (p *ipPacket) dissectIPv6(b []byte) error {
	if len(b) < 40 {
		return fmt.Errorf("%d bytes", len(b))
	}
	if length := int(binary.BigEndian.Uint16(b[4:])); length != len(b)-40 {
		return fmt.Errorf("payload length %d of %d bytes", length, len(b)-40)
	}
	*p = ipPacket{
		src: netip.AddrFrom16([16]byte(b[8:])), dst: netip.AddrFrom16([16]byte(b[24:])),
		tos: b[0]<<4 | b[1]>>4, ttl: b[7], protocol: b[6], payload: b[40:], df: true,
	}
	if p.protocol == unix.IPPROTO_FRAGMENT {
		p.fragment = true
	}
	return nil
}

// checkTransport checks what TCP, UDP and ICMP say of themselves.
func (p *ipPacket) checkTransport() error {
	least := map[uint8]int{unix.IPPROTO_TCP: 20, unix.IPPROTO_UDP: 8, unix.IPPROTO_ICMP: 8, unix.IPPROTO_ICMPV6: 8}[p.protocol]
	if least == 0 || len(p.payload) < least {
		return fmt.Errorf("protocol %d with %d bytes", p.protocol, len(p.payload))
	}
	if p.protocol == unix.IPPROTO_UDP {
		if length := int(binary.BigEndian.Uint16(p.payload[4:])); length != len(p.payload) {
			return fmt.Errorf("UDP length %d of %d bytes", length, len(p.payload))
		}
		if binary.BigEndian.Uint16(p.payload[6:]) == 0 {
			if p.src.Is6() {
				return fmt.Errorf("UDP without a checksum") // RFC 8200, section 8.1
			}
			p.unchecked = true
			return nil
		}
	}
	sum := uint16(0)
	if p.protocol != unix.IPPROTO_ICMP { // it alone has no pseudo-header
		pseudo := append(p.src.AsSlice(), p.dst.AsSlice()...)
		pseudo = append(pseudo, 0, p.protocol)
		sum = onesSum(binary.BigEndian.AppendUint16(pseudo, uint16(len(p.payload))), 0)
	}
	if onesSum(p.payload, sum) != 0xffff {
		return fmt.Errorf("wrong checksum of protocol %d", p.protocol)
	}
	return nil
}

// udp returns the ports and the payload of a UDP datagram.
func (p *ipPacket) udp() (from, to uint16, payload []byte) {
	return binary.BigEndian.Uint16(p.payload), binary.BigEndian.Uint16(p.payload[2:]), p.payload[8:]
}

// onesSum is the one's complement sum of RFC 1071.
func onesSum(b []byte, initial uint16) uint16 {
	sum := uint32(initial)
	for i, v := range b {
		if i%2 == 0 {
			sum += uint32(v) << 8
		} else {
			sum += uint32(v)
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// What the captures are judged by can fail.
func TestDissect(t *testing.T) {
	src, dst := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	good := func() []byte {
		b := udpPacket(src, dst, "weft")
		pseudo := binary.BigEndian.AppendUint16(append(append(src.AsSlice(), dst.AsSlice()...), 0, unix.IPPROTO_UDP), uint16(len(b)-20))
		binary.BigEndian.PutUint16(b[26:], ^onesSum(b[20:], onesSum(pseudo, 0)))
		return b
	}
	p, err := dissect(good())
	if err != nil {
		t.Fatal(err)
	}
	if from, to, payload := p.udp(); p.src != src || p.dst != dst || p.ttl != 64 || from != innerPort || to != innerPort || string(payload) != "weft" {
		t.Errorf("%+v", p)
	}
	for name, change := range map[string]func(b []byte) []byte{
		"nothing":           func(b []byte) []byte { return nil },
		"cut short":         func(b []byte) []byte { return b[:len(b)-1] },
		"trailing byte":     func(b []byte) []byte { return append(b, 0) },
		"no IP version":     func(b []byte) []byte { b[0] = 5<<4 | 5; return b },
		"header's checksum": func(b []byte) []byte { b[8]--; return b },
		"content":           func(b []byte) []byte { b[30] ^= 1; return b },
		"UDP length":        func(b []byte) []byte { b[25]--; return b },
		"partial checksum":  func(b []byte) []byte { b[26] ^= 0xff; return b },
	} {
		if p, err := dissect(change(good())); err == nil {
			t.Errorf("%s: %+v", name, p)
		}
	}
	if p, err := dissect(udpPacket(src, dst, "weft")); err != nil || !p.unchecked {
		t.Errorf("without a checksum: %+v, %v", p, err)
	}
}
