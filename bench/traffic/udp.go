package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// EchoOptions says what to send; zero fields have the defaults named.
type EchoOptions struct {
	Count    int           // datagrams; 500
	Size     int           // bytes of payload, at least 8; 1000
	Interval time.Duration // between two of them; 200 µs
}

// EchoResult counts the datagrams of EchoUDP. Each is counted once, where it
// comes twice it is corrupt.
type EchoResult struct {
	Sent     int
	Arrived  int // at the far end, with the right content
	Returned int // at the near end, with the right content
	Corrupt  int // at either end: other content, or seen before
}

// EchoUDP sends datagrams of random content from a namespace to an address of
// another, where each is sent back. Lost datagrams are no error.
func EchoUDP(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, o EchoOptions) (EchoResult, error) {
	o.Count = orDefault(o.Count, 500)
	o.Size = max(8, orDefault(o.Size, 1000))
	o.Interval = orDefault(o.Interval, 200*time.Microsecond)
	server, err := to.ListenPacket(ctx, net.ListenConfig{Control: setOption(roomForWindow)}, "udp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return EchoResult{}, fmt.Errorf("listen in %s: %w", to.Name, err)
	}
	client, err := from.Dial(ctx, net.Dialer{Control: setOption(roomForWindow)}, "udp", server.LocalAddr().String())
	if err != nil {
		server.Close()
		return EchoResult{}, fmt.Errorf("open socket in %s: %w", from.Name, err)
	}
	far := &echoEnd{datagramSize: o.Size, seen: make([]bool, o.Count)}
	near := &echoEnd{datagramSize: o.Size, seen: make([]bool, o.Count), all: make(chan struct{}), window: make(chan struct{}, window)}
	var readers sync.WaitGroup
	readers.Go(func() { far.echo(server.(*net.UDPConn)) })
	readers.Go(func() { near.collect(client) })

	sent, err := sendDatagrams(ctx, client, o, near.window)
	if err == nil {
		err = waitForLast(ctx, near.all)
	}
	client.Close()
	server.Close()
	readers.Wait()
	r := EchoResult{Sent: sent, Arrived: far.good, Returned: near.good, Corrupt: far.bad + near.bad}
	if err = errors.Join(err, far.err); err != nil {
		return r, fmt.Errorf("UDP from %s to %s: %w", from.Name, addr, err)
	}
	return r, nil
}

// window is how many datagrams may be on their way: so few that no socket
// buffer overflows while a busy machine lets a reader wait. What is lost then
// was lost on the path.
const window = 32

// roomForWindow sees to it: the default buffer holds 30 datagrams of 4000 bytes,
// each of which came in three fragments.
func roomForWindow(fd int) error {
	const room = window << 16
	return unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, room)
}

// lostAfter is how long an answer is waited for.
const lostAfter = 200 * time.Millisecond

// What is on its way when the last was sent is waited for in steps, for while the
// whole machine stands still one long wait may be over before anything moves.
const (
	lastStep  = 50 * time.Millisecond
	lastSteps = 40
)

// waitForLast waits until all is there, or what is not there is lost.
func waitForLast(ctx context.Context, all <-chan struct{}) error {
	for range lastSteps {
		select {
		case <-all:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lastStep):
		}
	}
	return nil
}

func sendDatagrams(ctx context.Context, c net.Conn, o EchoOptions, onTheWay chan struct{}) (sent int, err error) {
	for n := range o.Count {
		select {
		case onTheWay <- struct{}{}:
		case <-time.After(lostAfter): // none of them will be answered
			for range window {
				answered(onTheWay)
			}
		}
		if _, err := c.Write(datagram(n, o.Size)); err != nil {
			return n, err
		}
		if !sleep(ctx, o.Interval) {
			return n + 1, ctx.Err()
		}
	}
	return o.Count, nil
}

// answered makes room in the window, unless it is empty.
func answered(onTheWay chan struct{}) {
	select {
	case <-onTheWay:
	default:
	}
}

// datagram returns the content of datagram n: its number, then random bytes
// that follow from it.
func datagram(n, size int) []byte {
	b := make([]byte, size)
	var seed [32]byte
	binary.BigEndian.PutUint64(seed[:], uint64(n))
	rand.NewChaCha8(seed).Read(b)
	binary.BigEndian.PutUint64(b, uint64(n))
	return b
}

// echoEnd counts what arrives at one end. Its fields are read once its reader
// has ended.
type echoEnd struct {
	datagramSize int
	seen         []bool
	all, window  chan struct{} // of the near end: closed once every datagram was seen; those on their way
	good, bad    int
	err          error
}

func (e *echoEnd) count(b []byte) {
	if len(b) != e.datagramSize {
		e.bad++
		return
	}
	n := binary.BigEndian.Uint64(b)
	if n >= uint64(len(e.seen)) || e.seen[n] || !bytes.Equal(b, datagram(int(n), e.datagramSize)) {
		e.bad++
		return
	}
	e.seen[n] = true
	e.good++
	if e.good == len(e.seen) && e.all != nil {
		close(e.all)
	}
}

// echo sends everything back until the socket is closed.
func (e *echoEnd) echo(c *net.UDPConn) {
	buf := make([]byte, 1<<16)
	for {
		n, peer, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		e.count(buf[:n])
		if _, err := c.WriteToUDPAddrPort(buf[:n], peer); err != nil && !errors.Is(err, net.ErrClosed) {
			e.err = err
		}
	}
}

// collect reads answers until the socket is closed.
func (e *echoEnd) collect(c net.Conn) {
	buf := make([]byte, 1<<16)
	for {
		n, err := c.Read(buf)
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil { // otherwise the far end was reported unreachable: a loss
			answered(e.window)
			e.count(buf[:n])
		}
	}
}
