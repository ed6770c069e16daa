package udp

import (
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

// ICMP errors per second and in a burst, of one kind and one thread: enough to
// tell every flow of a busy node, too few to be a means of attack.
const (
	icmpRate  = 100
	icmpBurst = 50
)

// icmpWriter tells local senders, through the TUN, what became of their
// packets, as a router does.
type icmpWriter struct {
	tun    tunPort
	buf    []byte // a vnet header, always zero, and the packet
	offset int    // of the packet in buf: 0 without vnet headers
	iov    []unix.Iovec

	// One for each kind: a container that tries every address of the network
	// must not keep others' flows from learning their MTU.
	unreachables, tooBigs *rate.Limiter
}

func newICMPWriter(tun tunPort, vnetHdr bool) *icmpWriter {
	w := &icmpWriter{tun: tun, iov: make([]unix.Iovec, 1)}
	w.unreachables, w.tooBigs = rate.NewLimiter(icmpRate, icmpBurst), rate.NewLimiter(icmpRate, icmpBurst)
	if vnetHdr {
		w.offset = packet.VnetHdrLen
	}
	w.buf = make([]byte, w.offset+packet.MaxICMPError)
	return w
}

// unreachable says that nobody leases the destination of b.
func (w *icmpWriter) unreachable(b []byte, info *packet.Info, table *tunnel.Table) {
	if from := tunnelAddress(table, info); from.IsValid() && w.unreachables.Allow() {
		w.write(packet.Unreachable(w.buf[w.offset:], b, info, from))
	}
}

// tooBig says that b does not fit a way that takes mtu bytes.
func (w *icmpWriter) tooBig(b []byte, info *packet.Info, table *tunnel.Table, mtu int) {
	if from := tunnelAddress(table, info); from.IsValid() && w.tooBigs.Allow() {
		w.write(packet.TooBig(w.buf[w.offset:], b, info, from, mtu))
	}
}

// write writes an error of n bytes, unless there must be none. Like any ICMP
// error it may get lost.
func (w *icmpWriter) write(n int, ok bool) {
	if !ok {
		return
	}
	w.iov[0].Base = unsafe.SliceData(w.buf)
	w.iov[0].SetLen(w.offset + n)
	_ = w.tun.writev(w.iov)
}

// tunnelAddress is this node's tunnel address of the packet's family: the
// network address of its subnet.
func tunnelAddress(table *tunnel.Table, info *packet.Info) netip.Addr {
	if info.Version == 4 {
		return table.Own().IPv4.Addr()
	}
	return table.Own().IPv6.Addr()
}
