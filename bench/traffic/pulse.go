package traffic

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/weftnet/weft/bench/lab"
)

// Pulse is small UDP datagrams in one direction, one each millisecond: a gap in
// what arrives is how long that direction of the path was dead, without what
// TCP adds before it tries again.
type Pulse struct {
	arrivals // of datagrams

	client, server net.Conn
	stop           chan struct{}
	once           sync.Once
	ends           sync.WaitGroup
}

// pulseSize is a datagram's payload in bytes.
const pulseSize = 100

// StartPulse begins to send. It goes on until Close or the end of ctx.
func StartPulse(ctx context.Context, from, to *lab.Namespace, addr netip.Addr) (*Pulse, error) {
	server, err := to.ListenPacket(ctx, net.ListenConfig{}, "udp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return nil, fmt.Errorf("listen in %s: %w", to.Name, err)
	}
	client, err := from.Dial(ctx, net.Dialer{}, "udp", server.LocalAddr().String())
	if err != nil {
		server.Close()
		return nil, fmt.Errorf("open socket in %s: %w", from.Name, err)
	}
	p := &Pulse{client: client, server: server.(*net.UDPConn), stop: make(chan struct{})}
	stamped, err := newStampedReader(server.(*net.UDPConn))
	if err != nil {
		p.close()
		return nil, err
	}
	release := context.AfterFunc(ctx, p.close)
	p.ends.Go(func() {
		defer release()
		for ticks := (ticker{}); ticks.next(p.stop); {
			// What is said to be unreachable is a loss like others.
			if _, err := client.Write(make([]byte, pulseSize)); errors.Is(err, net.ErrClosed) {
				return
			}
		}
	})
	p.ends.Go(func() {
		buf := make([]byte, pulseSize)
		for {
			_, at, err := stamped.read(buf)
			if err != nil {
				return
			}
			p.add(at)
		}
	})
	return p, nil
}

func (p *Pulse) close() {
	p.client.Close()
	p.server.Close()
}

// Close ends it. What has arrived can still be asked for.
func (p *Pulse) Close() {
	p.once.Do(func() { close(p.stop) })
	p.close()
	p.ends.Wait()
}
