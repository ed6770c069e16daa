package udp

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel/packet"
)

const (
	// maxHeld is how many packets are collected before they are delivered.
	maxHeld = 1024

	// singlyFor is how long no superpackets of a protocol are made after the
	// kernel refused one whose packets it took singly.
	singlyFor = time.Minute
)

// delivery writes received packets to one queue of the TUN, those of one flow
// joined. It belongs to one thread.
type delivery struct {
	tun       tunPort
	vnetHdr   bool
	mtu, most int // of the device; the longest packet that one of the underlay's may hold
	counters  *counters
	trouble   *trouble
	coalescer *packet.Coalescer

	tcp, udp           bool      // what the TUN takes superpackets of
	tcpSince, udpSince time.Time // when to try again; zero: now

	run    packet.Run
	single [][]byte     // scratch: the packets of a run that was refused
	iovecs []unix.Iovec // scratch: one write
	noHdr  []byte       // a vnet header, always zero

	superHdr []byte // scratch: one vnet header
}

func newDelivery(tun tunPort, vnetHdr, tcp, udp bool, trouble *trouble) *delivery {
	d := &delivery{
		tun: tun, vnetHdr: vnetHdr, tcp: tcp, udp: udp, trouble: trouble,
		counters:  new(counters),
		coalescer: packet.NewCoalescer(maxHeld),
		iovecs:    make([]unix.Iovec, 0, 256),
		single:    make([][]byte, 0, 128),
		noHdr:     make([]byte, packet.VnetHdrLen),
		superHdr:  make([]byte, packet.VnetHdrLen),
	}
	d.coalescer.Enable(tcp, udp)
	return d
}

// begin precedes the packets of a receive.
func (d *delivery) begin() {
	if d.tcpSince.IsZero() && d.udpSince.IsZero() {
		return
	}
	now := time.Now()
	if now.After(d.tcpSince) {
		d.tcpSince = time.Time{}
	}
	if now.After(d.udpSince) {
		d.udpSince = time.Time{}
	}
	d.coalescer.Enable(d.tcp && d.tcpSince.IsZero(), d.udp && d.udpSince.IsZero())
}

// add takes a packet, which must not change before flush.
func (d *delivery) add(pkt []byte, info *packet.Info) error {
	if d.coalescer.Add(pkt, info) {
		return nil
	}
	if err := d.flush(); err != nil {
		return err
	}
	d.coalescer.Add(pkt, info)
	return nil
}

// flush writes all packets. What the TUN does not take is dropped and counted;
// an error means that the device is gone.
func (d *delivery) flush() error {
	defer d.coalescer.Reset()
	for d.coalescer.Next(&d.run) {
		errno := d.write(d.run.Pieces)
		if errno == 0 {
			d.counters.out.add(1, d.run.Packets)
			continue
		}
		if d.run.Packets > 1 && !deleted(errno) && errno != unix.EIO {
			if err := d.writeSingly(errno); err != nil {
				return err
			}
			continue
		}
		if err := d.refused(errno, d.run.Packets); err != nil {
			return err
		}
	}
	return nil
}

// write writes the pieces of one packet or superpacket, the vnet header first.
func (d *delivery) write(pieces [][]byte) unix.Errno {
	if !d.vnetHdr {
		pieces = pieces[1:] // of a single packet it is the header alone
	}
	d.iovecs = d.iovecs[:0]
	for _, p := range pieces {
		v := unix.Iovec{Base: unsafe.SliceData(p)}
		v.SetLen(len(p))
		d.iovecs = append(d.iovecs, v)
	}
	for {
		if errno := d.tun.writev(d.iovecs); errno != unix.EINTR {
			return errno
		}
	}
}

// writeSingly writes the packets of a superpacket that was refused. If they
// are taken, superpackets of this protocol are not tried again for a while.
func (d *delivery) writeSingly(because unix.Errno) error {
	d.single = d.coalescer.AppendPackets(d.single[:0])
	allTaken := true
	for _, pkt := range d.single {
		pieces := [2][]byte{d.noHdr, pkt}
		if errno := d.write(pieces[:]); errno != 0 {
			allTaken = false
			if err := d.refused(errno, 1); err != nil {
				return err
			}
			continue
		}
		d.counters.out.add(1, 1)
	}
	clear(d.single)
	shortage := because == unix.ENOMEM || because == unix.ENOBUFS // says nothing of superpackets
	if allTaken && !shortage {
		d.writeNoMore(because)
	}
	return nil
}

// writeNoMore stops making superpackets like the present run.
func (d *delivery) writeNoMore(because unix.Errno) {
	var hdr packet.VnetHdr
	hdr.Decode(d.run.Pieces[0])
	protocol, since := "TCP", &d.tcpSince
	if hdr.GSOType == packet.GSOUDPL4 {
		protocol, since = "UDP", &d.udpSince
	}
	first := since.IsZero() // the batch may have more of them
	*since = time.Now().Add(singlyFor)
	if !first {
		return
	}
	d.trouble.warn("the TUN refuses superpackets, writing single packets for a while", "protocol", protocol, "error", because, "for", singlyFor)
}

// refused counts packets that the TUN did not take.
func (d *delivery) refused(errno unix.Errno, packets int) error {
	switch {
	case deleted(errno):
		return fmt.Errorf("write to the TUN (was the device deleted?): %w", errno)
	case errno == unix.EIO:
		d.counters.drop(deviceDown, packets)
	default:
		d.counters.drop(writeRefused, packets)
	}
	return nil
}
