package assist

import (
	"bytes"
	"encoding/binary"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// datagramTo is a frame as a host's kernel would send it to another host.
func datagramTo(h, o *host, inner []byte) []byte {
	frame := make([]byte, innerIP, innerIP+len(inner))
	copy(frame, o.link("eth0").Attrs().HardwareAddr)
	copy(frame[6:], h.link("eth0").Attrs().HardwareAddr)
	copy(frame[12:], []byte{8, 0, versionAndLength, 0})
	frame[outerIP+ipTTL], frame[outerIP+ipProtocol] = outerTTL, unix.IPPROTO_UDP
	src, dst := outer(h.number).As4(), outer(o.number).As4()
	copy(frame[outerIP+ipSource:], src[:])
	copy(frame[outerIP+ipDestination:], dst[:])
	binary.BigEndian.PutUint16(frame[outerUDP:], testPort)
	binary.BigEndian.PutUint16(frame[outerUDP+udpDestination:], testPort)
	frame = append(frame, inner...)
	mend(frame, 1|2|8)
	return frame
}

// UDP's superpackets are user space's, though the kernel would take their outer
// headers off: what it then delivers is still a tunnel's.
func TestUDPSuperpacketsAreLeft(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	pkt := innerUDP(0, 1, 2000)
	a.frames("eth0").sendWith(packet.VnetHdr{
		Flags: packet.FlagNeedsCsum, GSOType: packet.GSOUDPL4,
		HdrLen: innerIP, GSOSize: 1000, CsumStart: outerUDP, CsumOffset: udpChecksum,
	}, datagramTo(a, b, pkt))
	waitFor(t, "its first piece at the socket", func() bool {
		_, got := b.took()
		return len(got) > 0 && bytes.Equal(got[0], pkt[:1000])
	})
	if _, rx := b.assist.Traffic(subnet(1)); rx != (Count{}) {
		t.Errorf("the kernel took %v", rx)
	}
}

// A packet that no helper makes room in (BPF_SKB_MAX_LEN in net/core/filter.c) is
// user space's, as it was.
func TestTooLongForTheDetour(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 20000)
	times := make([]uint64, flowPlaces)
	for i := range times {
		times[i] = now(t) + uint64(time.Hour)
	}
	check(t, b.assist.programs.detours.Put(uint32(0), times))
	pkt := innerTCP(0, 1, 0x10, nil, 17000)
	a.frames("eth0").send(datagramTo(a, b, pkt), innerIP+ipLen+tcpLen)
	waitFor(t, "it at the socket", func() bool {
		_, got := b.took()
		return len(got) == 1 && bytes.Equal(got[0], pkt)
	})
	if _, rx := b.assist.Traffic(subnet(1)); rx != (Count{}) || b.assist.Drops() != 0 {
		t.Errorf("the kernel took %v, and dropped %d", rx, b.assist.Drops())
	}
}
