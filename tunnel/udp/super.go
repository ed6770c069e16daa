package udp

import (
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

// A peer's kernel sends superpackets for our kernel to take whole (trials.go). At
// moments ours cannot: this process or the device it needs has gone or is new,
// or IPsec policies have come. Until the peer's trials have told it, they end at
// the socket, one in each datagram.

// takeSuperpacket delivers a packet longer than the device's MTU, if it is such a
// superpacket; err is delivery's.
func (r *receiver) takeSuperpacket(pkt []byte, peer *tunnel.Peer) (taken bool, err error) {
	super, ok := packet.TCPSuperpacket(pkt, &r.info, r.deliver.mtu)
	switch {
	case !ok:
		return false, nil
	case super.Packets > 0 && r.deliver.takesTCP():
		peer.State.Rx.Count(super.Packets, super.Bytes)
		return true, r.deliver.addSuperpacket(pkt, &super)
	case len(pkt) > r.deliver.most:
		r.counters.drop(uncut, max(super.Packets, 1))
		return true, nil
	}
	return false, nil // it may be a packet of a peer whose device has a larger MTU
}

// takesTCP: the TUN takes superpackets of TCP at present.
func (d *delivery) takesTCP() bool { return d.vnetHdr && d.tcp && d.tcpSince.IsZero() }

// addSuperpacket writes a superpacket, after all packets that were added before.
func (d *delivery) addSuperpacket(pkt []byte, super *packet.Superpacket) error {
	if err := d.flush(); err != nil {
		return err
	}
	super.Hdr.Encode(d.superHdr)
	pieces := [2][]byte{d.superHdr, pkt}
	if errno := d.write(pieces[:]); errno != 0 {
		return d.refused(errno, super.Packets)
	}
	d.counters.out.add(1, super.Packets)
	return nil
}
