// Package classic is the udp backend as flannel's worked: one packet for each
// system call, copied between a TUN and a UDP socket by one thread that polls.
// It is here to be compared with, by the benchmarks (--udp-engine=classic), and
// not to be used.
//
// It speaks flannel's wire format and is a flannel node to others: its lease
// announces nothing, and it carries IPv4 over IPv4 alone. It differs from
// flannel's in what costs little beside a system call: packets are checked
// against the leases, and their TTL is left alone, as in package udp.
package classic

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"sync/atomic"
	"time"

	"github.com/songgao/water"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/tunnel"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/udp"
)

// Backend is the classic engine of one node.
type Backend struct {
	cfg     Config
	log     *slog.Logger
	port    uint16
	mtu     int
	own     subnet.Lease
	peers   []subnet.Lease
	table   atomic.Pointer[tunnel.Table]
	closing atomic.Bool
	failed  chan error // capacity 1: the first failure

	net     *netstate.Reconciler
	proxy   *proxy // -1 for descriptors that are not open
	started atomic.Bool
	done    chan struct{} // closed when proxy.run has returned
}

var _ tunnel.Backend = (*Backend)(nil)

// New checks the configuration; it changes nothing on the host.
func New(cfg Config) (*Backend, error) {
	if cfg.Device == "" {
		cfg.Device = udp.DefaultDevice
	}
	port, mtu, err := cfg.settings()
	if err != nil {
		return nil, err
	}
	b := &Backend{cfg: cfg, log: cfg.Log, port: uint16(port), mtu: mtu, failed: make(chan error, 1), done: make(chan struct{})}
	b.proxy = &proxy{tun: -1, socket: -1, stop: -1, port: b.port, closing: &b.closing, table: &b.table, buf: make([]byte, maxMTU)}
	b.table.Store(tunnel.NewTable(tunnel.Self{}, nil, nil))
	return b, nil
}

// Data announces nothing: to other nodes this is a flannel node.
func (b *Backend) Data() (typ string, v4, v6 json.RawMessage) { return "udp", nil, nil }

// MTU is the device's.
func (b *Backend) MTU() int { return b.mtu }

// Start implements tunnel.Backend. Sockets and device are opened in the
// network namespace of the calling goroutine's thread.
func (b *Backend) Start(ctx context.Context, own subnet.Lease) (err error) {
	if !own.Subnet.IPv4.IsValid() {
		return errors.New("start the classic udp backend: the lease has no IPv4 subnet")
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("start the classic udp backend: %w", err)
			b.release(false)
		}
	}()
	if b.proxy.stop, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return fmt.Errorf("make eventfd: %w", err)
	}
	if b.proxy.socket, err = openSocket(b.cfg.Underlay.IPv4, b.port); err != nil {
		return err
	}
	if b.proxy.tun, err = openTUN(b.cfg.Device); err != nil {
		return err
	}
	if b.net, err = netstate.New(b.log); err != nil {
		return err
	}
	if err := b.net.Apply(b.cfg.networkState(b.mtu, own.Subnet)); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	b.own = own
	b.replaceTable()
	b.started.Store(true)
	go func() {
		defer close(b.done)
		runtime.LockOSThread() // as flannel does
		defer runtime.UnlockOSThread()
		if err := b.proxy.run(); err != nil {
			b.failed <- err
		}
	}()
	b.log.Warn("the classic udp engine is for comparisons: slow, and IPv4 only", "device", b.cfg.Device, "mtu", b.mtu, "port", b.port)
	return nil
}

// openTUN makes the device. Its descriptor is taken from water's file, because
// that file would also have Go's poller woken for every packet.
func openTUN(name string) (fd int, err error) {
	device, err := water.New(water.Config{DeviceType: water.TUN, PlatformSpecificParams: water.PlatformSpecificParams{Name: name}})
	if err != nil {
		return -1, fmt.Errorf("make TUN %s (needs root and /dev/net/tun; does another weftd or flanneld run?): %w", name, err)
	}
	defer device.Close()
	file, ok := device.ReadWriteCloser.(*os.File)
	if !ok {
		return -1, fmt.Errorf("make TUN %s: water gives no file", name)
	}
	if fd, err = unix.FcntlInt(file.Fd(), unix.F_DUPFD_CLOEXEC, 0); err != nil {
		return -1, fmt.Errorf("duplicate the descriptor of TUN %s: %w", name, err)
	}
	if err := unix.SetNonblock(fd, true); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("make TUN %s non-blocking: %w", name, err)
	}
	return fd, nil
}

// openSocket opens the UDP socket, its buffers of the kernel's default size as
// flannel's are.
func openSocket(addr netip.Addr, port uint16) (fd int, err error) {
	fd, err = unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_UDP)
	if err != nil {
		return -1, fmt.Errorf("open UDP socket: %w", err)
	}
	// DF is set, and a forged ICMP error cannot lower the path MTU.
	err = unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_PROBE)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrInet4{Port: int(port), Addr: addr.As4()})
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("bind UDP socket to %v (does another weftd or flanneld run?): %w", netip.AddrPortFrom(addr, port), err)
	}
	return fd, nil
}

// SetOwn implements tunnel.Backend.
func (b *Backend) SetOwn(own subnet.Lease) error {
	if b.net == nil {
		return errors.New("set the own lease: not started")
	}
	b.own = own
	b.replaceTable()
	if !own.Subnet.IPv4.IsValid() {
		return nil // device and routes stay, what they bring is dropped
	}
	if err := b.net.Apply(b.cfg.networkState(b.mtu, own.Subnet)); err != nil {
		return fmt.Errorf("set the tunnel address and routes: %w", err)
	}
	return nil
}

// SetPeers implements tunnel.Backend.
func (b *Backend) SetPeers(peers []subnet.Lease) {
	b.peers = peers
	b.replaceTable()
}

// replaceTable makes the peer table anew. What the peers announced is left
// out: towards this engine they are all flannel nodes.
func (b *Backend) replaceTable() {
	peers := slices.Clone(b.peers)
	for i := range peers {
		peers[i].Attrs.BackendData = nil
	}
	self := tunnel.Self{Own: b.own, Network: b.cfg.Network, IPv4: true}
	b.table.Store(tunnel.NewTable(self, peers, b.table.Load()))
}

// Status implements tunnel.Backend.
func (b *Backend) Status() tunnel.Status {
	table := b.table.Load()
	s := tunnel.Status{
		Type: "udp", Device: b.cfg.Device, MTU: b.mtu,
		Capabilities: []tunnel.Capability{{Name: "batching", Why: "the classic engine has none"}},
		Peers:        make([]tunnel.PeerStatus, 0, len(table.Peers())),
		Skipped:      table.Skipped(),
		Drops:        b.proxy.drops.byName(),
	}
	for _, p := range table.Peers() {
		s.Peers = append(s.Peers, tunnel.PeerStatus{
			Subnet: p.Subnet.IPv4.String(), NodeID: p.NodeID, Path: "udp", PathMTU: b.cfg.Underlay.MTU,
			Endpoint:  netip.AddrPortFrom(p.Endpoint, b.port).String(),
			TxPackets: p.State.Tx.Packets.Load(), TxBytes: p.State.Tx.Bytes.Load(),
			RxPackets: p.State.Rx.Packets.Load(), RxBytes: p.State.Rx.Bytes.Load(),
		})
	}
	return s
}

// stuckAfter is how long the loop may give no sign of life.
const stuckAfter = time.Second

// Health implements tunnel.Backend.
func (b *Backend) Health() error {
	if !b.started.Load() {
		return errors.New("not started")
	}
	select {
	case <-b.done:
		return errors.New("the classic engine has ended")
	default:
	}
	since := time.Duration(b.proxy.busySince.Load())
	if stuck := time.Since(epoch) - since; since != 0 && stuck > stuckAfter {
		return fmt.Errorf("the classic engine has made no progress for %v", stuck.Round(100*time.Millisecond))
	}
	return nil
}

// Failed implements tunnel.Backend.
func (b *Backend) Failed() <-chan error { return b.failed }

// Close implements tunnel.Backend. The device goes, and with it its routes;
// the unreachable routes stay.
func (b *Backend) Close() error {
	b.release(true)
	return nil
}

// release undoes Start, as far as that went. The loop ends before its
// descriptors are closed, whose numbers may be other files' the moment after.
func (b *Backend) release(keepRoutes bool) {
	if b.net != nil {
		if !keepRoutes {
			_ = b.net.Apply(netstate.State{}) // what remains goes with the device
		}
		b.net.Close()
		b.net = nil
	}
	b.closing.Store(true)
	if b.started.Load() {
		// An eventfd takes a number in the machine's byte order: this is not
		// zero in either.
		_, _ = unix.Write(b.proxy.stop, []byte{1, 0, 0, 0, 0, 0, 0, 1})
		<-b.done
	}
	for _, fd := range []*int{&b.proxy.tun, &b.proxy.socket, &b.proxy.stop} {
		if *fd >= 0 {
			unix.Close(*fd)
		}
		*fd = -1
	}
}
