package assist

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"

	"github.com/weftnet/weft/bench/lab"
	"github.com/weftnet/weft/bench/lab/labtest"
)

// sums is what a program has seen of packets of so many bytes, of which the kernel
// has the sum (CHECKSUM_COMPLETE).
type sums struct{ Kernel, Packet, Count uint64 }

// sumsOf watches packets that arrive by a device: the sum that the kernel has of
// the last one, and the one that it should have.
func (h *host) sumsOf(device string, bytes int32) (read func() sums) {
	h.t.Helper()
	m, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 24, MaxEntries: 1})
	check(h.t, err)
	h.t.Cleanup(func() { m.Close() })
	program := loadTest(h.t, slices.Concat(asm.Instructions{
		asm.Mov.Reg(regSkb, asm.R1),
		asm.Mov.Imm(asm.R2, 0),
		asm.FnCsumUpdate.Call(),
		asm.JSLT.Imm(asm.R0, 0, labelUser), // the kernel has none
		asm.Mov.Reg(asm.R8, asm.R0),
		loadSkb(asm.R1, skbLen),
		asm.JNE.Imm(asm.R1, bytes, labelUser),
	}, readable("readable", bytes, labelUser), asm.Instructions{
		asm.Mov.Imm(asm.R1, 0),
		asm.Mov.Imm(asm.R2, 0),
		asm.Mov.Reg(asm.R3, regPacket),
		asm.Mov.Imm(asm.R4, bytes),
		asm.Mov.Imm(asm.R5, 0),
		asm.FnCsumDiff.Call(),
		asm.LoadMapValue(asm.R1, m.FD(), 0),
		asm.StoreMem(asm.R1, 0, asm.R8, asm.DWord),
		asm.StoreMem(asm.R1, 8, asm.R0, asm.DWord),
		asm.Mov.Imm(asm.R2, 1),
		asm.AddAtomic.Mem(asm.R1, asm.R2, asm.DWord, 16),
	}, leave()))
	check(h.t, h.Do(func() error {
		i, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		l, err := link.AttachTCX(link.TCXOptions{Interface: i.Index, Program: program, Attach: ebpf.AttachTCXIngress, Anchor: link.Head()})
		if err == nil {
			h.t.Cleanup(func() { l.Close() })
		}
		return err
	}))
	return func() (s sums) {
		check(h.t, m.Lookup(uint32(0), &s))
		return s
	}
}

// fold16 makes 16 bits of a sum (RFC 1071).
func fold16(sum uint64) uint16 {
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return uint16(sum)
}

// The sum of the whole packet that a network card has made is right behind the
// detour, too. Here it is VXLAN with checksums that is the card: the kernel knows
// the sum of what was in it.
func TestDetourSums(t *testing.T) {
	t.Parallel()
	h := &host{Namespace: labtest.Namespace(t, "host1"), t: t, number: 1, super: true}
	other := &host{Namespace: labtest.Namespace(t, "host2"), t: t, number: 2}
	check(t, lab.Veth(lab.End{In: h.Namespace, Device: "wire"}, lab.End{In: other.Namespace, Device: "wire"}, 1600))
	for _, o := range []*host{h, other} {
		local, remote := fmt.Sprintf("198.51.100.%d", o.number), fmt.Sprintf("198.51.100.%d", 3-o.number)
		check(t, o.AddAddr("wire", netip.PrefixFrom(addr(local), 24)))
		check(t, o.SetFeatures("wire", map[string]bool{"tx-checksum-ip-generic": false})) // or nobody makes them
		o.ip("link", "add", "eth0", "mtu", "1500", "type", "vxlan", "id", "1", "local", local, "remote", remote, "dstport", "4789", "udpcsum", "dev", "wire")
		o.ip("link", "set", "eth0", "up")
	}
	check(t, h.AddAddr("eth0", netip.PrefixFrom(outer(1), 24)))
	h.openUserSpace(1472)
	h.attach(1)
	check(t, h.assist.Superpackets())
	h.set(h.peer(other))
	detours := make([]uint64, flowPlaces)
	for i := range detours {
		detours[i] = now(t) + uint64(time.Hour)
	}
	check(t, h.assist.programs.detours.Put(uint32(0), detours))

	frame := unhex(t, tcpDatagram)
	copy(frame, h.link("eth0").Attrs().HardwareAddr)
	local, to := outer(1).As4(), inner(1).As4()
	copy(frame[outerIP+ipDestination:], local[:])
	copy(frame[innerIP+ipDestination:], to[:])
	fillSum(frame, innerIP)
	length := int32(binary.BigEndian.Uint16(frame[innerIP+ipLength:]))
	before, after := h.sumsOf("eth0", int32(len(frame))), h.sumsOf("flannel0", length)
	out := other.frames("eth0")
	for i, tos := range []byte{2, 3, 0xff} { // as it was sent, and marked on the way
		frame[outerIP+ipTOS] = tos
		frame[len(frame)-1] = byte(i) // not always the same sum
		fillSum(frame, outerIP)
		out.send(frame, 0)
		waitFor(t, "a packet behind the detour with its sum", func() bool { return after().Count == uint64(i+1) })
		if before().Count != uint64(i+1) {
			t.Errorf("TOS %#x: the kernel knew no sum of the datagram", tos)
		}
		if s := after(); fold16(s.Kernel) != fold16(s.Packet) {
			t.Errorf("TOS %#x: the kernel has the sum %#x, it is %#x", tos, fold16(s.Kernel), fold16(s.Packet))
		}
	}
	h.untouched()
}
