package assist

import (
	"bytes"
	"errors"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
	"github.com/weftnet/weft/tunnel/probe"
)

func (h *host) openSender(mark uint32) *sender {
	h.t.Helper()
	var s *sender
	check(h.t, h.Do(func() (err error) { s, err = openSender(mark); return err }))
	h.t.Cleanup(func() { check(h.t, s.close()) })
	return s
}

// index is that of a device.
func (h *host) index(device string) (n int) {
	h.t.Helper()
	check(h.t, h.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err == nil {
			n = ifi.Index
		}
		return err
	}))
	return n
}

// marks attaches a program to what leaves by a device, with a verdict on all of
// it, and returns the mark of the last packet that it saw.
func (h *host) marks(device string, verdict int32) func() uint32 {
	h.t.Helper()
	seen, err := ebpf.NewMap(&ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 4, MaxEntries: 1})
	check(h.t, err)
	program, err := ebpf.NewProgram(&ebpf.ProgramSpec{Type: ebpf.SchedCLS, License: "GPL", Instructions: asm.Instructions{
		asm.LoadMem(asm.R2, asm.R1, skbMark, asm.Word),
		asm.LoadMapValue(asm.R3, seen.FD(), 0),
		asm.StoreMem(asm.R3, 0, asm.R2, asm.Word),
		asm.Mov.Imm(asm.R0, verdict),
		asm.Return(),
	}})
	check(h.t, err)
	var l link.Link
	check(h.t, h.Do(func() error {
		ifi, err := net.InterfaceByName(device)
		if err == nil {
			l, err = link.AttachTCX(link.TCXOptions{Interface: ifi.Index, Program: program, Attach: ebpf.AttachTCXEgress})
		}
		return err
	}))
	h.t.Cleanup(func() { check(h.t, errors.Join(l.Close(), program.Close(), seen.Close())) })
	return func() (mark uint32) {
		check(h.t, seen.Lookup(uint32(0), &mark))
		return mark
	}
}

// newTrial is one of two segments, from host 1 to host 2.
func newTrial(segment int, nonce uint64) []byte {
	trial := make([]byte, probe.TrialLen(segment, 2))
	probe.BuildTrial(trial, inner(1), inner(2), nonce)
	return trial
}

// A trial leaves by the TUN as a superpacket of two segments, with the mark.
func TestTrial(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	const mark = 0xfedcba98 // negative as an int32
	s := h.openSender(mark)
	last := h.marks("flannel0", tcxNext)
	for i, segment := range []int{probe.MinTrialSegment, 576, 1472, 8972, maxLimit} {
		nonce := uint64(i + 1)
		trial := newTrial(segment, nonce)
		check(t, s.send(h.index("flannel0"), trial, segment))
		var sent [][]byte
		waitFor(t, "the trial", func() bool { sent, _ = h.took(); return len(sent) > 0 })
		var header packet.VnetHdr
		header.Decode(sent[0])
		header.HdrLen = 0 // of what lies in one piece
		want := packet.VnetHdr{
			Flags: packet.FlagNeedsCsum, GSOType: packet.GSOTCPv4, GSOSize: uint16(segment - 40),
			CsumStart: 20, CsumOffset: 16,
		}
		if len(sent) != 1 || header != want {
			t.Errorf("%d bytes: %d packets, the first with %+v; want one with %+v", segment, len(sent), header, want)
		}
		pkt := sent[0][packet.VnetHdrLen:]
		if got, ok := probe.ReadTrial(pkt); got != nonce || !ok || !bytes.Equal(pkt, trial) {
			t.Errorf("%d bytes: sent %x, the TUN has %x", segment, trial, pkt)
		}
		if got := last(); got != mark {
			t.Errorf("%d bytes: the mark is %#x, want %#x", segment, got, mark)
		}
	}
}

// What cannot be sent is an error.
func TestTrialNotSent(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	s := h.openSender(1)
	tun := h.index("flannel0")
	trial := newTrial(1472, 1)
	want := func(what string, err unix.Errno) {
		t.Helper()
		if got := s.send(tun, trial, 1472); !errors.Is(got, err) {
			t.Errorf("%s: %v, want %v", what, got, err)
		}
	}
	check(t, s.send(tun, trial, 1472))
	h.marks("flannel0", tcxDrop)
	want("it is dropped on its way out", unix.ENOBUFS)
	h.ip("link", "set", "flannel0", "down")
	want("the TUN is down", unix.ENETDOWN)
	h.ip("link", "delete", "flannel0")
	want("the TUN is gone", unix.ENXIO)
	check(t, s.close())
	check(t, s.close())
	check(t, (*sender)(nil).close())
	want("the socket is closed", unix.EBADF)

	check(t, h.Do(func() error { // on a thread of its own
		if err := keepOnly(unix.CAP_NET_ADMIN); err != nil {
			return err
		}
		if s, err := openSender(1); !errors.Is(err, unix.EPERM) || !strings.Contains(err.Error(), "CAP_NET_RAW") {
			s.close()
			t.Errorf("without CAP_NET_RAW: %v", err)
		}
		return nil
	}))
}

// The socket would keep what it receives in memory, which nobody reads.
func TestSenderReceivesNothing(t *testing.T) {
	t.Parallel()
	h := newHosts(t, 1, 1500)[0]
	s := h.openSender(1)
	tun := h.index("flannel0")
	trial := newTrial(1472, 1)
	for range 3 {
		check(t, s.send(tun, trial, 1472))
		check(t, ping(t, h, inner(1), 56)) // by lo
	}
	stats, err := unix.GetsockoptTpacketStats(s.fd, unix.SOL_PACKET, unix.PACKET_STATISTICS)
	check(t, err)
	_, _, err = unix.Recvfrom(s.fd, make([]byte, 1), 0)
	if stats.Packets != 0 || err != unix.EAGAIN {
		t.Errorf("%d packets came, and reading one: %v", stats.Packets, err)
	}
}

func TestSenderDescriptors(t *testing.T) { // not in parallel: it counts
	h := newHosts(t, 1, 1500)[0]
	tun := h.index("flannel0")
	trial := newTrial(1472, 1)
	before := descriptors(t)
	for range 3 {
		check(t, h.Do(func() error {
			s, err := openSender(1)
			if err != nil {
				return err
			}
			return errors.Join(s.send(tun, trial, 1472), s.close())
		}))
	}
	if after := descriptors(t); after != before {
		t.Errorf("%d descriptors, %d before", after, before)
	}
}

// descriptors counts those of the process.
func descriptors(t *testing.T) int {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	check(t, err)
	return len(entries)
}
