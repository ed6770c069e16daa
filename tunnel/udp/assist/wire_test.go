package assist

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

// frames sends and receives whole packets at a device.
type frames struct {
	t  *testing.T
	fd int
}

// vnetHeader says before a packet how much of it the kernel should keep in one
// piece: struct virtio_net_hdr without num_buffers.
const vnetHeader = 10

// frames opens a packet socket on a device.
func (h *host) frames(device string) *frames {
	h.t.Helper()
	f := &frames{t: h.t}
	check(h.t, h.Do(func() (err error) {
		link, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		all := uint16(wire16(unix.ETH_P_ALL))
		if f.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, int(all)); err != nil {
			return err
		}
		h.t.Cleanup(func() { unix.Close(f.fd) })
		if err = unix.SetsockoptInt(f.fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(f.fd, unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1); err != nil {
			return err
		}
		if err = unix.SetsockoptInt(f.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 16<<20); err != nil {
			return err
		}
		if err = unix.SetsockoptTimeval(f.fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 20}); err != nil {
			return err
		}
		return unix.Bind(f.fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: link.Index})
	}))
	return f
}

// send sends one packet, of which the first bytes, at least, are in one piece:
// if it is longer than a page, the rest is not.
func (f *frames) send(pkt []byte, first int) {
	f.t.Helper()
	header := make([]byte, vnetHeader)
	binary.NativeEndian.PutUint16(header[2:], uint16(first)) // hdr_len
	_, err := unix.Write(f.fd, append(header, pkt...))
	check(f.t, err)
}

// datagram waits for a frame with a datagram of the tunnel's.
func (f *frames) datagram() []byte {
	f.t.Helper()
	for buf := make([]byte, 1<<16); ; {
		n, err := unix.Read(f.fd, buf)
		if err != nil {
			f.t.Fatalf("no datagram of the tunnel's comes: %v", err)
		}
		if b := buf[min(vnetHeader, n):n]; len(b) >= innerIP && b[12] == 8 && b[13] == 0 && binary.BigEndian.Uint16(b[outerUDP+udpDestination:]) == testPort {
			return bytes.Clone(b)
		}
	}
}

// innerUDP is a packet from host 1 to host 2 whose sums are right.
func innerUDP(tos byte, sport uint16, payload int) []byte {
	b := make([]byte, overhead+payload)
	b[0], b[ipTOS], b[ipTTL], b[ipProtocol] = versionAndLength, tos, 9, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[ipLength:], uint16(len(b)))
	src, dst := inner(1).As4(), inner(2).As4()
	copy(b[ipSource:], src[:])
	copy(b[ipDestination:], dst[:])
	fillSum(b, 0)
	binary.BigEndian.PutUint16(b[ipLen+udpSource:], sport)
	binary.BigEndian.PutUint16(b[ipLen+udpDestination:], 4000)
	binary.BigEndian.PutUint16(b[ipLen+udpLength:], uint16(udpLen+payload))
	return b // without a UDP checksum
}

// What a kernel sends, byte for byte.
func TestWire(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	out, wire := a.frames("flannel0"), b.frames("eth0")
	for _, c := range []struct {
		name    string
		tos     byte
		payload int
		outer   string // IP and UDP header
	}{
		{"empty", 0, 0, "4500 0038 0000 4000 40 11 b521 c00002c9 c00002ca 205d 205d 0024 0000"},
		{"DSCP stays inside", 0xb8, 4, "4500 003c 0000 4000 40 11 b51d c00002c9 c00002ca 205d 205d 0028 0000"},
		{"ECT(1)", 0x01, 4, "4501 003c 0000 4000 40 11 b51c c00002c9 c00002ca 205d 205d 0028 0000"},
		{"ECT(0)", 0x02, 4, "4502 003c 0000 4000 40 11 b51b c00002c9 c00002ca 205d 205d 0028 0000"},
		{"CE", 0xff, 4, "4503 003c 0000 4000 40 11 b51a c00002c9 c00002ca 205d 205d 0028 0000"},
		{"as long as can be", 0, 1444, "4500 05dc 0000 4000 40 11 af7d c00002c9 c00002ca 205d 205d 05c8 0000"},
	} {
		pkt := innerUDP(c.tos, 1, c.payload)
		out.send(pkt, 0)
		frame := wire.datagram()
		if got, want := frame[outerIP:innerIP], unhex(t, c.outer); !bytes.Equal(got, want) {
			t.Errorf("%s: headers\n%x, want\n%x", c.name, got, want)
		}
		if !bytes.Equal(frame[innerIP:], pkt) {
			t.Errorf("%s: inner packet\n%x, want\n%x", c.name, frame[innerIP:], pkt)
		}
	}
}

// A flow leaves from the source port that the engine, too, would choose.
func TestSourcePorts(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, 2, 1500)
	a, b := hosts[0], hosts[1]
	a.attach(4)
	peer := a.peer(b)
	out, wire := a.frames("flannel0"), b.frames("eth0")
	for _, takes := range []bool{false, true} {
		peer.SourcePorts = takes
		a.set(peer)
		used := map[uint16]bool{}
		for sport := uint16(1); sport <= 32; sport++ {
			pkt := innerUDP(0, sport, 0)
			out.send(pkt, 0)
			got, want := binary.BigEndian.Uint16(wire.datagram()[outerUDP+udpSource:]), uint16(testPort)
			if takes {
				var info packet.Info
				info.Parse(pkt)
				want += uint16(uint64(packet.FlowHash(pkt, &info)) * 4 >> 32)
			}
			if got != want {
				t.Fatalf("flow %d, which may spread: %v: from port %d, want %d", sport, takes, got, want)
			}
			used[got] = true
		}
		if want := map[bool]int{false: 1, true: 4}[takes]; len(used) != want {
			t.Errorf("peer takes further source ports: %v: from %d of them, want %d", takes, len(used), want)
		}
	}
}

// Headers that lie in pages of memory: what sends may have left them there.
func TestScatteredPackets(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 9000)
	peer := a.peer(b)
	peer.Limit = 8972
	a.set(peer)
	wire := b.frames("eth0")
	pkt := innerUDP(0, 1, 8000)
	a.frames("flannel0").send(pkt, ipLen) // the ports are elsewhere
	frame := wire.datagram()
	if !bytes.Equal(frame[innerIP:], pkt) {
		t.Errorf("%x, want %x", frame[innerIP:], pkt)
	}
	a.untouched()

	taken := func() uint64 { _, rx := b.assist.Traffic(subnet(1)); return rx.Packets }
	waitFor(t, "what was sent by host 1's kernel", func() bool { return taken() == 1 })
	a.frames("eth0").send(frame, etherLen)
	waitFor(t, "a frame of which only the Ethernet header is in one piece", func() bool { return taken() == 2 })
	b.untouched()
}

// A packet longer than the kernel makes with the outer headers is user space's,
// whatever fits the underlay, and not dropped half-way.
func TestLongPackets(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 20000)
	peer := a.peer(b)
	peer.Limit = 19972
	a.set(peer)
	out := a.frames("flannel0")
	var want Count
	left := 0
	for _, length := range [][2]int{{maxLimit - 1, maxLimit + 2}, {15500, 15600}, {16000, 16070}} {
		for n := length[0]; n < length[1]; n++ {
			out.send(innerUDP(0, uint16(n), n-overhead), 0) // each is a flow
			if n > maxLimit {
				left++
				continue
			}
			want.Packets++
			want.Bytes += uint64(n)
		}
	}
	if tx, _ := a.assist.Traffic(subnet(2)); tx != want || a.assist.Drops() != 0 {
		t.Errorf("the kernel has sent %v, want %v, and dropped %d", tx, want, a.assist.Drops())
	}
	waitFor(t, "the others in user space", func() bool {
		sent, _ := a.took()
		left -= len(sent)
		return left == 0
	})
}

// What host 3 sends by its own address, and what it sends in a VLAN, is not the
// kernel's.
func TestLeftToSocket(t *testing.T) {
	t.Parallel()
	hosts := newHosts(t, 3, 1500)
	a, b, c := hosts[0], hosts[1], hosts[2]
	for _, h := range []*host{a, b} {
		h.attach(1)
	}
	a.set(a.peer(b))
	b.set(b.peer(a), b.peer(c))
	wire := b.frames("eth0")
	a.frames("flannel0").send(innerUDP(0, 1, 1000), 0)
	frame := wire.datagram()
	taken := func(h *host) uint64 { _, rx := b.assist.Traffic(subnet(h.number)); return rx.Packets }
	waitFor(t, "host 1's packet", func() bool { return taken(a) == 1 })
	b.untouched()

	// gets waits until the socket got the inner packet, and the kernel nothing.
	gets := func(what string) {
		t.Helper()
		waitFor(t, what, func() bool {
			_, got := b.took()
			return len(got) == 1 && bytes.Equal(got[0], frame[innerIP:])
		})
		if taken(a) != 1 || taken(c) != 0 {
			t.Errorf("%s: the kernel took it", what)
		}
	}
	stranger := bytes.Clone(frame)
	public := outer(3).As4()
	copy(stranger[outerIP+ipSource:], public[:])
	fillSum(stranger, outerIP)
	c.frames("eth0").send(stranger, 0)
	gets("another node's packet")

	// passes sends a frame that gets nowhere else, and one to be taken.
	passes := func(what string, send func(*frames)) {
		t.Helper()
		before := taken(a)
		out := a.frames("eth0")
		send(out)
		out.send(frame, 0)
		waitFor(t, "the frame after "+what, func() bool { return taken(a) > before })
		time.Sleep(10 * time.Millisecond)
		if n := taken(a); n != before+1 {
			t.Errorf("%s was taken, too", what)
		}
	}
	// The switch and the device pass tags on; no VLAN interface takes this one.
	passes("a tagged frame", func(out *frames) {
		out.send(bytes.Join([][]byte{frame[:12], {0x81, 0, 0, 7}, frame[12:]}, nil), 0)
	})
	b.untouched()
	// A superpacket whose sum is yet to be made, of something that is 0.
	passes("a superpacket", func(out *frames) {
		header := []byte{unix.VIRTIO_NET_HDR_F_NEEDS_CSUM, unix.VIRTIO_NET_HDR_GSO_UDP_L4}
		for _, v := range []uint16{innerIP, 500, outerUDP, udpChecksum} { // hdr_len, gso_size, csum_start, csum_offset
			header = binary.NativeEndian.AppendUint16(header, v)
		}
		_, err := unix.Write(out.fd, append(header, frame...))
		check(t, err)
	})
}

// A packet of another tunnel, whose inner sums are yet to be filled in, cannot be
// remembered as such within this one.
func TestTunnelInTunnel(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	check(t, a.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")) // it would say hello
	check(t, a.Sysctl("net/ipv6/conf/default/disable_ipv6", "1")) // whose reports have their sums: the kernel would carry them
	a.ip("link", "add", "other0", "type", "vxlan", "id", "7", "local", inner(1).String(), "remote", inner(2).String(), "dstport", "4790")
	check(t, a.AddAddr("other0", pfx("10.99.0.1/24")))
	a.ip("neigh", "add", "10.99.0.2", "lladdr", "02:00:00:00:00:02", "dev", "other0")
	var c net.Conn
	check(t, a.Do(func() (err error) { c, err = net.Dial("udp4", "10.99.0.2:4000"); return err }))
	defer c.Close()
	_, err := c.Write([]byte("weft"))
	check(t, err)
	var sent [][]byte
	waitFor(t, "the packet in user space", func() bool {
		s, _ := a.took()
		sent = append(sent, s...)
		return len(sent) > 0
	})
	if !bytes.HasSuffix(sent[0], []byte("weft")) {
		t.Errorf("user space has %x", sent[0])
	}
	if tx, _ := a.assist.Traffic(subnet(2)); tx.Packets != 0 || a.assist.Drops() != 0 {
		t.Errorf("the kernel has sent %d and dropped %d", tx.Packets, a.assist.Drops())
	}
	b.untouched()
}

// The first packet to a neighbour that is not known is not lost.
func TestUnknownNeighbour(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	a.ip("neigh", "flush", "dev", "eth0")
	c := a.listen()
	to := net.UDPAddrFromAddrPort(netip.AddrPortFrom(inner(2), 4000))
	_, err := c.WriteTo([]byte("weft"), to)
	check(t, err)
	waitFor(t, "the packet in user space", func() bool { sent, _ := a.took(); return len(sent) == 1 })
	a.meet(b)
	_, err = c.WriteTo([]byte("weft"), to)
	check(t, err)
	waitFor(t, "the next one", func() bool { _, rx := b.assist.Traffic(subnet(1)); return rx.Packets == 1 })
	a.untouched()
}

// Superpackets go to user space, whole.
func TestSuperpackets(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	var l net.Listener
	check(t, b.Do(func() (err error) { l, err = net.Listen("tcp4", netip.AddrPortFrom(inner(2), 0).String()); return err }))
	defer l.Close()
	var c net.Conn
	check(t, a.Do(func() (err error) { c, err = net.DialTimeout("tcp4", l.Addr().String(), 20*time.Second); return err }))
	defer c.Close()
	_, err := c.Write(make([]byte, 10000))
	check(t, err)
	waitFor(t, "a superpacket", func() bool {
		sent, _ := a.took()
		var header packet.VnetHdr
		return len(sent) > 0 && header.Decode(sent[0]) && header.GSOType == packet.GSOTCPv4 && len(sent[0]) > 1500+packet.VnetHdrLen
	})
}

// A mark means something to the inner packet's rules, not to the outer one's.
func TestMarkIsCleared(t *testing.T) {
	t.Parallel()
	a, b := newPair(t, 1500)
	marks, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	check(t, err)
	defer marks.Close()
	// Adds up the marks of what leaves by eth0, and 1 for each datagram.
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbProtocol, asm.Word),
		asm.JNE.Imm(asm.R2, wire16(unix.ETH_P_IP), labelUser),
		asm.LoadMem(asm.R2, asm.R1, skbMark, asm.Word),
		asm.Add.Imm(asm.R2, 1),
		asm.LoadMapValue(asm.R3, marks.FD(), 0),
		asm.AddAtomic.Mem(asm.R3, asm.R2, asm.DWord, 0),
		asm.Mov.Imm(asm.R0, tcxNext).WithSymbol(labelUser),
		asm.Return(),
	}})
	check(t, err)
	defer program.Close()
	check(t, a.Do(func() error {
		eth, err := net.InterfaceByName("eth0")
		check(t, err)
		l, err := link.AttachTCX(link.TCXOptions{Interface: eth.Index, Program: program, Attach: ebpf.AttachTCXEgress})
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	}))
	out := a.frames("flannel0")
	check(t, unix.SetsockoptInt(out.fd, unix.SOL_SOCKET, unix.SO_MARK, 1000))
	out.send(innerUDP(0, 1, 4), 0)
	waitFor(t, "the packet", func() bool { _, rx := b.assist.Traffic(subnet(1)); return rx.Packets == 1 })
	var sum uint64
	check(t, marks.Lookup(uint32(0), &sum))
	if sum == 0 || sum >= 1000 {
		t.Errorf("marks and datagrams add up to %d", sum)
	}
}
