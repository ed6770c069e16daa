package udp

import (
	"net/netip"
	"time"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/probe"
)

// openInterval is how long the socket may have sent nothing to a peer that the
// kernel sends to. Connection tracking forgets a flow that was not answered after
// 30 s (nf_conntrack_udp_timeout).
const openInterval = 15 * time.Second

// openAtOnce bounds how many peers are sent to at a time, a second before the next.
const openAtOnce = 1000

// opener keeps the way open for what peers send to this host's socket. The host's
// own connection tracking does not see what its kernel sends by the assist; a
// firewall that lets in answers only would take a peer's superpackets for none.
type opener struct {
	echo *echo
	sent map[*tunnel.PeerState]lastSent
}

// lastSent are the packets sent to a peer as they were last counted, by the kernel
// and by the socket, and when the socket is known to have sent one.
type lastSent struct {
	kernel, socket uint64
	at             time.Time
}

func newOpener(port uint16, ports [2]udpPort) *opener {
	e := newEcho(port, nil)
	e.ports = ports
	return &opener{echo: e, sent: make(map[*tunnel.PeerState]lastSent)}
}

// due counts anew what was sent to a peer, and tells whether it is time for the
// socket to send something.
func (o *opener) due(p *tunnel.Peer, kernel uint64, now time.Time) bool {
	socket := p.State.Tx.Packets.Load()
	last, ok := o.sent[p.State]
	if !ok {
		last.socket = socket // sent nobody knows when
	}
	due := kernel != last.kernel && socket == last.socket && now.Sub(last.at) >= openInterval
	if due || socket != last.socket {
		last.at = now
	}
	o.sent[p.State] = lastSent{kernel, socket, last.at}
	return due
}

// open has the socket send something to a peer, if it has not lately, so that
// the answer to a trial is let in.
func (o *opener) open(own netip.Addr, p *tunnel.Peer, now time.Time) {
	if last, ok := o.sent[p.State]; !ok || now.Sub(last.at) >= openInterval {
		o.sent[p.State] = lastSent{last.kernel, p.State.Tx.Packets.Load(), now}
		o.send(own, p)
	}
}

// send sends a probe that nobody waits for the answer of.
func (o *opener) send(own netip.Addr, p *tunnel.Peer) {
	// It is sent again if it gets lost: not at once, but often enough.
	_ = o.echo.send(probe.Build(o.echo.packet[:], own, p.Subnet.IPv4.Addr(), 0), p)
}

// forget forgets peers of former tables, once they are the most.
func (o *opener) forget(table *tunnel.Table) {
	if len(o.sent) > 2*len(table.Peers()) {
		clear(o.sent)
	}
}

// keepOpen has the socket send to the peers that only the kernel has sent to for
// a while.
func (a *assisted) keepOpen(now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	own := a.table.Own().IPv4
	if a.off != nil || !own.IsValid() {
		return
	}
	a.opener.forget(a.table)
	left := openAtOnce
	for _, p := range a.table.Peers() {
		if left == 0 {
			return
		}
		if !takesAssist(p) || !a.opener.due(p, a.traffic(p).tx.Packets, now) {
			continue
		}
		left--
		a.opener.send(own.Addr(), p)
	}
}
