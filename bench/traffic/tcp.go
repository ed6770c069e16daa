package traffic

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// chunk is how many bytes a flow hands to the kernel at once.
const chunk = 256 << 10

// Transfer is a TCP stream that was sent to its end.
type Transfer struct {
	Bytes          int64 // received
	Elapsed        time.Duration
	Sent, Received [sha256.Size]byte // SHA-256 of what went in and came out
}

// BitsPerSecond is the mean rate of the whole transfer.
func (t Transfer) BitsPerSecond() float64 {
	return float64(t.Bytes) * 8 / t.Elapsed.Seconds()
}

// SendChecked sends random bytes over one TCP connection from a namespace to
// an address of another, and hashes them at both ends. Where the hashes are
// not equal it returns the Transfer and an error. progress, if not nil, is
// called with the number of bytes received so far.
func SendChecked(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, size int64, congestion string, progress func(int64)) (Transfer, error) {
	pair, err := connect(ctx, from, to, addr, congestion)
	if err != nil {
		return Transfer{}, err
	}
	defer pair.close()
	defer context.AfterFunc(ctx, pair.close)()

	t := Transfer{}
	start := time.Now()
	var sendErr, receiveErr error
	var sending sync.WaitGroup
	sending.Go(func() {
		sendErr = sendRandom(pair.client, size, &t.Sent)
	})
	t.Bytes, receiveErr = receiveHashed(pair.server, &t.Received, progress)
	t.Elapsed = time.Since(start)
	if receiveErr != nil {
		pair.close() // ends the sender too
	}
	sending.Wait()
	if err := errors.Join(ctx.Err(), receiveErr, sendErr); err != nil {
		return t, fmt.Errorf("TCP from %s to %s: %w", from.Name, addr, err)
	}
	if t.Bytes != size || t.Sent != t.Received {
		return t, fmt.Errorf("TCP from %s to %s: sent %d bytes with SHA-256 %x, received %d with %x",
			from.Name, addr, size, t.Sent, t.Bytes, t.Received)
	}
	return t, nil
}

func sendRandom(c net.Conn, size int64, sum *[sha256.Size]byte) error {
	var seed [32]byte
	random := rand.NewChaCha8(seed)
	h := sha256.New()
	buf := make([]byte, chunk)
	for left := size; left > 0; {
		b := buf[:min(left, chunk)]
		random.Read(b)
		h.Write(b)
		if _, err := c.Write(b); err != nil {
			return err
		}
		left -= int64(len(b))
	}
	h.Sum(sum[:0])
	return c.(*net.TCPConn).CloseWrite()
}

func receiveHashed(c net.Conn, sum *[sha256.Size]byte, progress func(int64)) (total int64, err error) {
	h := sha256.New()
	buf := make([]byte, chunk)
	for {
		n, err := c.Read(buf)
		total += int64(n)
		h.Write(buf[:n])
		if progress != nil {
			progress(total)
		}
		if err == io.EOF {
			h.Sum(sum[:0])
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// ThroughputOptions says how to measure; zero fields have the defaults named.
type ThroughputOptions struct {
	Flows      int           // TCP connections at once; 1
	Duration   time.Duration // that is measured; 3 s
	Warmup     time.Duration // before that, not measured; a sixth of Duration
	Congestion string        // algorithm of the sender; the kernel's default
}

// MeasureTCP returns the bits per second of payload that arrive over TCP from
// a namespace at an address of another. Nothing is hashed, so that the path
// is measured and not the ends.
func MeasureTCP(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, o ThroughputOptions) (float64, error) {
	o.Flows = orDefault(o.Flows, 1)
	o.Duration = orDefault(o.Duration, 3*time.Second)
	o.Warmup = orDefault(o.Warmup, o.Duration/6)
	var received atomic.Int64
	var flows sync.WaitGroup
	var pairs []*pair
	stop := func() {
		for _, p := range pairs {
			p.close()
		}
		flows.Wait()
	}
	for range o.Flows {
		p, err := connect(ctx, from, to, addr, o.Congestion)
		if err != nil {
			stop()
			return 0, err
		}
		pairs = append(pairs, p)
		// Both end when the connection is closed, or broken by the path.
		flows.Go(func() { flood(p.client) })
		flows.Go(func() { drain(p.server, &received) })
	}
	defer stop()
	if !sleep(ctx, o.Warmup) {
		return 0, ctx.Err()
	}
	start, before := time.Now(), received.Load()
	if !sleep(ctx, o.Duration) {
		return 0, ctx.Err()
	}
	bytes, elapsed := received.Load()-before, time.Since(start)
	if bytes == 0 {
		return 0, fmt.Errorf("TCP from %s to %s: nothing arrived within %v", from.Name, addr, o.Duration)
	}
	return float64(bytes) * 8 / elapsed.Seconds(), nil
}

func flood(c net.Conn) {
	buf := make([]byte, chunk)
	for {
		if _, err := c.Write(buf); err != nil {
			return
		}
	}
}

func drain(c net.Conn, received *atomic.Int64) {
	buf := make([]byte, chunk)
	for {
		n, err := c.Read(buf)
		received.Add(int64(n))
		if err != nil {
			return
		}
	}
}

// pair is the two ends of one TCP connection.
type pair struct {
	client, server net.Conn
}

func (p *pair) close() {
	p.client.Close()
	p.server.Close()
}

// connectTimeout is for the handshake: with the kernel's third repetition
// of a lost SYN, which comes after 7 s.
const connectTimeout = 10 * time.Second

func connect(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, congestion string) (*pair, error) {
	listener, err := to.Listen(ctx, net.ListenConfig{}, "tcp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", to.Name, err)
	}
	defer listener.Close()
	dialer := net.Dialer{Timeout: connectTimeout}
	if congestion != "" {
		dialer.Control = setOption(func(fd int) error {
			if err := unix.SetsockoptString(fd, unix.IPPROTO_TCP, unix.TCP_CONGESTION, congestion); err != nil {
				return fmt.Errorf("set congestion control %s (see net.ipv4.tcp_available_congestion_control): %w", congestion, err)
			}
			return nil
		})
	}
	client, err := from.Dial(ctx, dialer, "tcp", listener.Addr().String())
	if err != nil {
		return nil, fmt.Errorf("connect from %s: %w", from.Name, err)
	}
	// The handshake is done, so that the connection waits in the queue.
	listener.(*net.TCPListener).SetDeadline(time.Now().Add(connectTimeout))
	server, err := listener.Accept()
	if err != nil {
		client.Close()
		return nil, fmt.Errorf("accept in %s: %w", to.Name, err)
	}
	return &pair{client, server}, nil
}
