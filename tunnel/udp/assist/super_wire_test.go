package assist

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
	"github.com/weftnet/weft/tunnel/packet"
)

// innerTCP is a packet from host 1 to host 2, with the given flags and options, and
// the checksum of one whose segments are yet to be made.
func innerTCP(tos byte, sport uint16, flags byte, options []byte, payload int) []byte {
	headers := ipLen + tcpLen + len(options)
	b := make([]byte, headers+payload)
	b[0], b[ipTOS], b[ipTTL], b[ipProtocol] = versionAndLength, tos, 9, unix.IPPROTO_TCP
	binary.BigEndian.PutUint16(b[ipLength:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[ipID:], 0x1234)
	src, dst := inner(1).As4(), inner(2).As4()
	copy(b[ipSource:], src[:])
	copy(b[ipDestination:], dst[:])
	fillSum(b, 0)
	t := b[ipLen:]
	binary.BigEndian.PutUint16(t, sport)
	binary.BigEndian.PutUint16(t[2:], 4000)
	binary.BigEndian.PutUint32(t[4:], 0xfffffff0) // about to go round
	t[12], t[13] = byte((tcpLen+len(options))/4<<4), flags
	pseudo := binary.BigEndian.AppendUint16([]byte{0, unix.IPPROTO_TCP}, uint16(len(t)))
	binary.BigEndian.PutUint16(t[tcpChecksum:], packet.Sum(pseudo, packet.Sum(b[ipSource:ipSource+8], 0)))
	copy(t[tcpLen:], options)
	for i := range payload {
		b[headers+i] = byte(i * 7)
	}
	return b
}

// timestamps are 12 bytes of options.
var timestamps = []byte{1, 1, 8, 10, 0, 1, 2, 3, 4, 5, 6, 7}

// superHeader is that of a superpacket.
func superHeader(pkt []byte, gsoSize uint16, kind byte) packet.VnetHdr {
	return packet.VnetHdr{
		Flags: packet.FlagNeedsCsum, GSOType: kind,
		HdrLen: uint16(ipLen + pkt[ipLen+12]>>4*4), GSOSize: gsoSize, CsumStart: ipLen, CsumOffset: tcpChecksum,
	}
}

// sendWith sends one packet as its header says.
func (f *frames) sendWith(header packet.VnetHdr, pkt []byte) {
	f.t.Helper()
	b := make([]byte, packet.VnetHdrLen, packet.VnetHdrLen+len(pkt))
	header.Encode(b)
	_, err := unix.Write(f.fd, append(b, pkt...))
	check(f.t, err)
}

// tcp waits for a packet of host 1's TCP, whose IP header is at an offset.
func (f *frames) tcp(offset int) (header packet.VnetHdr, pkt []byte) {
	f.t.Helper()
	for buf := make([]byte, 1<<17); ; {
		n, err := unix.Read(f.fd, buf)
		if err != nil {
			f.t.Fatalf("no TCP packet comes: %v", err)
		}
		header.Decode(buf[:n])
		if b := buf[min(vnetHeader+offset, n):n]; len(b) >= ipLen+tcpLen && b[0] == versionAndLength && b[ipProtocol] == unix.IPPROTO_TCP &&
			[4]byte(b[ipSource:]) == inner(1).As4() {
			return header, bytes.Clone(b)
		}
	}
}

// Superpackets arrive whole, byte for byte, and are counted as what user space would
// cut them into.
func TestSuperpacketWire(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	out, in := a.frames("flannel0"), b.frames("flannel0")
	const psh, cwr = 0x18, 0x90
	const most = 65535 - 42 // bytes of a packet, that there is room for
	for i, c := range []struct {
		name    string
		tos     byte
		flags   byte
		options []byte
		payload int
		gsoSize uint16
		kind    byte
		pieces  uint64
	}{
		{"two segments", 0, psh, nil, 1433, 1432, packet.GSOTCPv4, 2},
		{"of the same length", 2, psh, nil, 2864, 1432, packet.GSOTCPv4, 2},
		{"options", 1, psh, timestamps, 10000, 1420, packet.GSOTCPv4, 8},
		{"CE", 3, psh, timestamps, 10000, 1420, packet.GSOTCPv4, 8},
		{"CWR", 2, cwr, timestamps, 10000, 1420, packet.GSOTCPv4 | packet.GSOECN, 8},
		{"DSCP", 0xb8, psh, timestamps, 10000, 1420, packet.GSOTCPv4, 8},
		{"small segments", 0, psh, nil, 10000, 8, packet.GSOTCPv4, 1250},
		{"the most options", 0, psh, bytes.Repeat([]byte{1}, 40), 30000, 1392, packet.GSOTCPv4, 22},
		{"as long as can be", 0, psh, timestamps, most - 52, 1420, packet.GSOTCPv4, 47},
	} {
		pkt := innerTCP(c.tos, uint16(i+1), c.flags, c.options, c.payload)
		want := superHeader(pkt, c.gsoSize, c.kind)
		txBefore, _ := a.assist.Traffic(subnet(2))
		_, rxBefore := b.assist.Traffic(subnet(1))
		out.sendWith(want, pkt)
		header, got := in.tcp(0)
		header.HdrLen, want.HdrLen = 0, 0 // of what lies in one piece
		if header != want || !bytes.Equal(got, pkt) {
			t.Errorf("%s: it arrived as %+v\n%x, want %+v\n%x", c.name, header, got, want, pkt)
		}
		count := Count{c.pieces, uint64(len(pkt)) + (c.pieces-1)*uint64(ipLen+tcpLen+len(c.options))}
		tx, _ := a.assist.Traffic(subnet(2))
		_, rx := b.assist.Traffic(subnet(1))
		if d := (Count{tx.Packets - txBefore.Packets, tx.Bytes - txBefore.Bytes}); d != count {
			t.Errorf("%s: sent %v, want %v", c.name, d, count)
		}
		if d := (Count{rx.Packets - rxBefore.Packets, rx.Bytes - rxBefore.Bytes}); d != count {
			t.Errorf("%s: received %v, want %v", c.name, d, count)
		}
		if n := a.assist.SuperpacketsSent(subnet(2)); n != uint64(i+1) {
			t.Errorf("%s: %d superpackets were sent, want %d", c.name, n, i+1)
		}
	}
	a.untouched()
	b.untouched()
	// One more byte is user space's.
	pkt := innerTCP(0, 1, psh, timestamps, most-51)
	out.sendWith(superHeader(pkt, 1420, packet.GSOTCPv4), pkt)
	waitFor(t, "the superpacket in user space", func() bool { sent, _ := a.took(); return len(sent) == 1 })
}

// mangleECN has all datagrams of the tunnel's that arrive at a host have an ECN field.
func (h *host) mangleECN(ecn byte) {
	h.t.Helper()
	tos := int16(outerIP)
	program := loadTest(h.t, slices.Concat(asm.Instructions{asm.Mov.Reg(regSkb, asm.R1)},
		onlyIPv4(), readable("outer_readable", innerIP, labelUser), asm.Instructions{
			loadPacket(asm.R1, outerIP+ipProtocol, asm.Byte),
			asm.JNE.Imm(asm.R1, unix.IPPROTO_UDP, labelUser),
			loadPacket(asm.R3, tos, asm.Half),
			asm.Mov.Reg(asm.R4, asm.R3),
			asm.And.Imm(asm.R4, wire16(0xfffc)),
			asm.Or.Imm(asm.R4, wire16(uint16(ecn))),
			asm.StoreMem(regPacket, tos, asm.R4, asm.Half),
			asm.Mov.Reg(asm.R1, regSkb),
			asm.Mov.Imm(asm.R2, outerIP+ipChecksum),
			asm.Mov.Imm(asm.R5, 2),
			asm.FnL3CsumReplace.Call(),
		}, leave()))
	check(h.t, h.Do(func() error {
		eth, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: eth.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		if err == nil {
			h.t.Cleanup(func() { l.Close() })
		}
		return err
	}))
}

// What met congestion on the way tells the inner packet's receiver (RFC 6040), and
// stays in its place among the others.
func TestSuperpacketCongestion(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	b.mangleECN(3)
	out, in := a.frames("flannel0"), b.frames("flannel0")
	for i, tos := range []byte{1, 2, 3, 0xba} {
		pkt := innerTCP(tos, uint16(i+1), 0x18, timestamps, 10000)
		out.sendWith(superHeader(pkt, 1420, packet.GSOTCPv4), pkt)
		_, got := in.tcp(0)
		packet.SetTOS(pkt, tos|3)
		if !bytes.Equal(got, pkt) {
			t.Errorf("TOS %#x: %x, want %x", tos, got, pkt)
		}
		small := innerTCP(tos, uint16(i+1), 0x10, timestamps, 0)
		out.sendWith(packet.VnetHdr{Flags: packet.FlagNeedsCsum, CsumStart: ipLen, CsumOffset: tcpChecksum}, small)
		_, got = in.tcp(0)
		packet.SetTOS(small, tos|3)
		if !bytes.Equal(got, small) {
			t.Errorf("TOS %#x: after it %x, want %x", tos, got, small)
		}
	}
	b.untouched()
}

// bucket has a host's underlay send so many bytes a second after so many at once.
func (h *host) bucket(rate uint64, bytes uint32) {
	h.t.Helper()
	check(h.t, h.Do(func() error {
		return netlink.QdiscReplace(&netlink.Tbf{
			QdiscAttrs: netlink.QdiscAttrs{LinkIndex: h.index("eth0"), Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
			Rate:       rate, Limit: 1 << 20, Buffer: netlink.Xmittime(rate, bytes),
		})
	}))
}

// Small packets of a flow do not pass by its superpackets, which take longer: not
// even if they arrive at once, be they marked on the way or not.
func TestSuperpacketOrder(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	out, in := a.frames("flannel0"), b.frames("flannel0")
	var want []int // bytes of packets
	send := func(sport uint16, tos byte, payload int) {
		pkt := innerTCP(tos, sport, 0x18, nil, payload)
		header := packet.VnetHdr{Flags: packet.FlagNeedsCsum, CsumStart: ipLen, CsumOffset: tcpChecksum}
		if payload > 1432 {
			header = superHeader(pkt, 1432, packet.GSOTCPv4)
		}
		out.sendWith(header, pkt)
		want = append(want, len(pkt))
	}
	for round, ecn := range []byte{0, 2, 3} {
		sport := uint16(round + 1)
		if ecn == 3 {
			b.mangleECN(3)
		}
		a.bucket(25_000, 100_000)                                              // 4 s: of more it makes less
		for _, payload := range []int{50000, 60000, 1, 30000, 2, 3, 5000, 4} { // the first does not wait
			send(sport, ecn, payload)
		}
		a.bucket(1e9, 10_000_000)
		send(sport, ecn, 5)
		var got []int
		for range want {
			_, pkt := in.tcp(0)
			got = append(got, len(pkt))
		}
		if !slices.Equal(got, want) {
			t.Errorf("ECN field %d: packets of %d bytes arrived, want %d", ecn, got, want)
		}
		want = nil
	}
	a.untouched()
	b.untouched()
}

// While there is no device a superpacket's whole flow is user space's, so that none
// of it overtakes there.
func TestSuperpacketOrderWithoutDevice(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	out := a.frames("flannel0")
	plain := packet.VnetHdr{Flags: packet.FlagNeedsCsum, CsumStart: ipLen, CsumOffset: tcpChecksum}
	for i, do := range [][]string{{"link", "set", deviceName, "down"}, {"link", "delete", deviceName}} {
		b.ip(do...)
		header, pkt := super(uint16(i + 1))
		small := innerTCP(0, uint16(i+1), 0x10, timestamps, 0)
		out.sendWith(header, pkt)
		out.sendWith(plain, small)
		var all [][]byte
		waitFor(t, "two packets at the socket", func() bool {
			_, got := b.took()
			all = append(all, got...)
			return len(all) >= 2
		})
		if !slices.EqualFunc(all, [][]byte{pkt, small}, bytes.Equal) {
			t.Errorf("%v: the socket got %x", do, all)
		}
	}
	if _, rx := b.assist.Traffic(subnet(1)); rx != (Count{}) {
		t.Errorf("the kernel took %v", rx)
	}
	a.untouched()
}

// plainCard is a device's lack of everything that would leave a superpacket whole.
var plainCard = map[string]bool{
	"tx-checksum-ip-generic": false, "tx-scatter-gather": false, "tx-generic-segmentation": false,
	"tx-tcp-segmentation": false, "tx-udp-segmentation": false, "tx-gso-list": false,
}

// What has arrived is a superpacket like any other: the kernel that forwards it by
// a device without offloads cuts it as user space would.
func TestSuperpacketForwarded(t *testing.T) {
	t.Parallel()
	a, b := newSuperPair(t, 1500)
	container := labtest.Namespace(t, "container")
	check(t, lab.Veth(lab.End{In: b.Namespace, Device: "c0"}, lab.End{In: container, Device: "eth0"}, 1472))
	check(t, b.SetFeatures("c0", plainCard))
	b.ip("neigh", "add", "10.5.2.7", "lladdr", "02:00:00:00:00:07", "dev", "c0", "nud", "permanent")
	b.ip("route", "add", "10.5.2.7/32", "dev", "c0")
	behind := &host{Namespace: container, t: t}
	out, in := a.frames("flannel0"), behind.frames("eth0")
	for i, options := range [][]byte{nil, timestamps} {
		pkt := innerTCP(2, uint16(i+1), 0x18, options, 20000)
		pkt[ipDestination+3] = 7
		fillSum(pkt, 0)
		sum := pkt[ipLen+tcpChecksum:]
		binary.BigEndian.PutUint16(sum, packet.Sum([]byte{0, 6}, binary.BigEndian.Uint16(sum)))
		header := superHeader(pkt, 1432-uint16(len(options)), packet.GSOTCPv4)
		out.sendWith(header, pkt)
		for j, want := range cut(t, header, pkt) {
			if _, got := in.tcp(etherLen); !bytes.Equal(got, want) {
				t.Fatalf("segment %d: %x, want %x", j, got, want)
			}
		}
	}
	b.untouched()
}

// cut is what the engine's segmenter makes of a superpacket after it was forwarded.
func cut(t *testing.T, header packet.VnetHdr, pkt []byte) (pieces [][]byte) {
	t.Helper()
	pkt = bytes.Clone(pkt)
	pkt[ipTTL]--
	fillSum(pkt, 0)
	var info packet.Info
	if why := info.Parse(pkt); why != packet.OK {
		t.Fatal(why)
	}
	segmenter := packet.NewSegmenter(64)
	if why := segmenter.Load(header, pkt, &info); why != packet.OK {
		t.Fatal(why)
	}
	var segments packet.Segments
	for segmenter.Next(&segments) {
		for i := range segments.Count {
			pieces = append(pieces, bytes.Join(segments.Slice(i, i+1), nil))
		}
	}
	if len(pieces) < 10 {
		t.Fatal(fmt.Sprint("only ", len(pieces), " segments"))
	}
	return pieces
}
