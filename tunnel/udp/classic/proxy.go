package classic

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/packet"
)

// proxy is the loop that carries packets, the counterpart of run_proxy in
// flannel's pkg/backend/udp/proxy_amd64.c: one thread, one buffer, one packet
// for each system call. The buffer holds one packet at a time.
type proxy struct {
	tun, socket int // descriptors, non-blocking
	stop        int // an eventfd: readable once the loop is to end
	port        uint16
	closing     *atomic.Bool
	table       *atomic.Pointer[tunnel.Table]
	drops       dropCounters

	// busySince is when the loop last gave a sign of life, in nanoseconds
	// after epoch; 0 while it waits.
	busySince atomic.Int64

	buf  []byte
	icmp [packet.MaxICMPError]byte
	info packet.Info
	to   unix.SockaddrInet4
	from unix.RawSockaddrInet4
}

var epoch = time.Now()

// aliveEvery is how many rounds of the loop there are to a sign of life.
const aliveEvery = 64

// run ends when closing is set, or with the error that keeps it from going on.
func (p *proxy) run() error {
	fds := []unix.PollFd{
		{Fd: int32(p.tun), Events: unix.POLLIN},
		{Fd: int32(p.socket), Events: unix.POLLIN},
		{Fd: int32(p.stop), Events: unix.POLLIN},
	}
	for !p.closing.Load() {
		p.busySince.Store(0)
		if _, err := unix.Poll(fds, -1); err != nil && err != unix.EINTR {
			return fmt.Errorf("poll: %w", err)
		}
		// As long as one of the two has packets, reads that find the other
		// empty are cheaper than poll.
		for n := 0; !p.closing.Load(); n++ {
			if n%aliveEvery == 0 {
				p.busySince.Store(int64(time.Since(epoch)))
			}
			sent, err := p.tunToUDP()
			if err != nil {
				return err
			}
			received, err := p.udpToTUN()
			if err != nil {
				return err
			}
			if !sent && !received {
				break
			}
		}
	}
	return nil
}

// tunToUDP carries one packet outwards; false if there was none.
func (p *proxy) tunToUDP() (bool, error) {
	n, err := unix.Read(p.tun, p.buf)
	switch {
	case errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EINTR):
		return false, nil
	case err != nil:
		return false, fmt.Errorf("read from the TUN (was the device deleted?): %w", err)
	}
	b, table := p.buf[:n], p.table.Load()
	switch {
	case !table.HasLease():
		return true, p.drops.count(noLease)
	case p.info.Parse(b) != packet.OK:
		return true, p.drops.count(malformed)
	case p.info.Version != 4:
		return true, p.drops.count(notIPv4)
	}
	peer := table.Lookup(p.info.Dst)
	if peer == nil {
		// Flannel says so too. Like any ICMP error it may get lost.
		if n, ok := packet.Unreachable(p.icmp[:], b, &p.info, table.Own().IPv4.Addr()); ok {
			_, _ = unix.Write(p.tun, p.icmp[:n])
		}
		return true, p.drops.count(noPeer)
	}
	p.to.Port, p.to.Addr = int(p.port), peer.Endpoint.As4()
	if err := unix.Sendto(p.socket, b, 0, &p.to); err != nil {
		return true, p.drops.count(sendFailed)
	}
	peer.State.Tx.Count(1, n)
	return true, nil
}

// udpToTUN carries one packet inwards; false if there was none. What does not
// come from a leased address, or claims a subnet of others, is dropped; that
// is more than flannel checks.
func (p *proxy) udpToTUN() (bool, error) {
	fromLen := uint32(unix.SizeofSockaddrInet4)
	// unix.Recvfrom would allocate the address.
	n, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(p.socket), uintptr(unsafe.Pointer(&p.buf[0])), uintptr(len(p.buf)), 0,
		uintptr(unsafe.Pointer(&p.from)), uintptr(unsafe.Pointer(&fromLen)))
	switch errno {
	case 0:
	case unix.EAGAIN, unix.EINTR:
		return false, nil
	default:
		return false, fmt.Errorf("receive: %w", errno)
	}
	b, table := p.buf[:n], p.table.Load()
	switch {
	case !table.HasLease():
		return true, p.drops.count(noLease)
	case p.info.Parse(b) != packet.OK:
		return true, p.drops.count(malformed)
	case p.info.Version != 4:
		return true, p.drops.count(notIPv4)
	}
	peer := table.Lookup(p.info.Src)
	switch {
	case peer == nil || !peer.At(netip.AddrFrom4(p.from.Addr)):
		return true, p.drops.count(spoofed)
	case !table.Owns(p.info.Dst):
		return true, p.drops.count(notForUs)
	}
	if _, err := unix.Write(p.tun, b); err != nil {
		if errors.Is(err, unix.EBADFD) {
			return true, fmt.Errorf("write to the TUN (was the device deleted?): %w", err)
		}
		return true, p.drops.count(writeRefused)
	}
	peer.State.Rx.Count(1, len(b))
	return true, nil
}

// reason says why a packet was dropped.
type reason int

const (
	noLease      reason = iota // this node holds no lease
	malformed                  // no well-formed IP packet
	notIPv4                    // IPv6, which the engine does not carry
	noPeer                     // nobody leases the destination
	sendFailed                 // refused by the socket
	spoofed                    // the sender has no lease on the source
	notForUs                   // the destination is not of this node's subnet
	writeRefused               // refused by the device
	numReasons
)

var reasonNames = [numReasons]string{
	"no_lease", "malformed", "not_ipv4", "tx_no_peer", "tx_send_failed", "rx_spoofed_source", "rx_not_for_us", "rx_write_refused",
}

type dropCounters [numReasons]atomic.Uint64

// count returns nil, for it is no error that packets are dropped.
func (d *dropCounters) count(r reason) error {
	d[r].Add(1)
	return nil
}

func (d *dropCounters) byName() map[string]uint64 {
	m := make(map[string]uint64)
	for r := range d {
		if n := d[r].Load(); n > 0 {
			m[reasonNames[r]] = n
		}
	}
	return m
}
