package udp

import (
	"errors"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
	"github.com/weftnet/weft/tunnel/probe"
)

// Probes answered per second and in a burst, by each receiving thread. That must
// be more than all peers may ask: to a node which they all send packets to, a
// thousand send 10,000 a second, and those that are not answered would leave it.
const (
	echoRate  = 20000
	echoBurst = 20000
)

// echo sends probes and answers those of others, and their trials. Each thread
// has its own, with its own scratch memory.
type echo struct {
	ports      [2]udpPort // by outer family, nil without a socket
	remotePort uint16
	answers    *rate.Limiter
	notify     func() // a peer has answered

	packet  [probe.Len]byte
	name    [nameSpace]byte
	control sendControl
	iov     unix.Iovec
	msg     [1]unix.Mmsghdr
}

func newEcho(remotePort uint16, notify func()) *echo {
	return &echo{remotePort: remotePort, answers: rate.NewLimiter(echoRate, echoBurst), notify: notify}
}

// took takes a packet from a peer to this node's tunnel address if it is a
// probe: such a packet goes no further. Probes are the engines' business: one
// from a container, of which there might be more than can be answered, is a
// packet like any other. The nil echo takes none.
//
// So it does with a trial, which goes unanswered: it was to come by the TUN.
func (e *echo) took(pkt []byte, peer *tunnel.Peer) bool {
	if e == nil || !fromEngine(pkt, peer) {
		return false
	}
	kind, nonce, ok := probe.Read(pkt)
	switch {
	case !ok:
		_, ok = probe.ReadTrial(pkt)
		return ok
	case kind == probe.Reply:
		// That a trial was answered is no news of the path: nobody is waked.
		if peer.State.Echoes.Note(nonce) {
			e.notify()
		} else {
			peer.State.Trials.Note(nonce)
		}
	case e.answers.Allow():
		probe.Answer(pkt)
		// Like any datagram it may get lost; the peer asks again.
		_ = e.send(pkt, peer)
	}
	return true
}

// fromEngine: a packet of IPv4 comes from the peer's tunnel address.
func fromEngine(pkt []byte, peer *tunnel.Peer) bool {
	return netip.AddrFrom4([4]byte(pkt[12:16])) == peer.Subnet.IPv4.Addr()
}

// tookTrial takes a packet that came out of the TUN whole if it is a peer's trial
// (package probe): the kernel has put it there. The nil echo takes none.
func (e *echo) tookTrial(hdr packet.VnetHdr, pkt []byte, info *packet.Info, table *tunnel.Table) bool {
	if e == nil || hdr.GSOType != packet.GSOTCPv4 || info.Dst != table.Own().IPv4.Addr() {
		return false
	}
	peer := table.Lookup(info.Src)
	if peer == nil || !fromEngine(pkt, peer) {
		return false
	}
	nonce, ok := probe.ReadTrial(pkt)
	if ok && e.answers.Allow() {
		// Like the answer to a probe it may get lost.
		_ = e.send(probe.BuildReply(e.packet[:], info.Dst, info.Src, nonce), peer)
	}
	return ok
}

// ask sends a probe to a peer and returns its number. An error says that none
// was sent, for reasons of this host.
func (e *echo) ask(own netip.Addr, peer *tunnel.Peer) (seq uint64, err error) {
	seq, nonce := peer.State.Echoes.Next()
	return seq, e.send(probe.Build(e.packet[:], own, peer.Subnet.IPv4.Addr(), nonce), peer)
}

// send sends an inner packet on its own.
func (e *echo) send(pkt []byte, peer *tunnel.Peer) error {
	family := 0
	if peer.Endpoint.Is6() {
		family = 1
	}
	port := e.ports[family]
	if port == nil {
		return errNoSocket
	}
	e.control.wire(family == 1)
	e.iov.Base = unsafe.SliceData(pkt)
	e.iov.SetLen(len(pkt))
	h := &e.msg[0].Hdr
	h.Name = &e.name[0]
	h.Namelen = uint32(putSockaddr(&e.name, peer.Endpoint, e.remotePort))
	h.Iov = &e.iov
	h.SetIovlen(1)
	h.Control = &e.control.b[0]
	h.SetControllen(controlTOS)
	var errno unix.Errno
	for range 1 + maxRetries {
		// An ICMP error about an earlier packet is reported by the next call on
		// the socket. Those who read the error queue have it all the same.
		if _, errno = port.sendmmsg(e.msg[:]); errno == 0 {
			return nil
		}
		if errno == unix.EAGAIN {
			break
		}
	}
	return errno
}

var errNoSocket = errors.New("no socket of the peer's address family")
