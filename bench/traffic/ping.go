// Package traffic sends packets between the namespaces of a lab and says what
// arrived: ping, TCP and UDP, in Go alone, so that a machine needs no ping and
// no iperf3. Only sockets live in the namespaces; goroutines need not.
package traffic

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// PingOptions says how to ping; zero fields have the defaults named.
type PingOptions struct {
	Count        int           // echo requests, one after the other; 5
	Interval     time.Duration // between an answer and the next request; 10 ms
	Timeout      time.Duration // for each answer; 5 s, since machines stand still at times
	Size         int           // bytes after the ICMP header; 56
	DontFragment bool          // neither here nor on the way
}

// PingResult is what came back.
type PingResult struct {
	Sent int
	RTTs []time.Duration // of the requests that were answered, in order
}

// Lost is how many requests were not answered.
func (r PingResult) Lost() int { return r.Sent - len(r.RTTs) }

// Median is the median round-trip time, 0 if nothing was answered.
func (r PingResult) Median() time.Duration {
	if len(r.RTTs) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(r.RTTs))
	return sorted[len(sorted)/2]
}

// Ping sends ICMP echo requests from a namespace to an address, IPv4 or IPv6.
// Answers that do not come are no error, but count as lost.
func Ping(ctx context.Context, from *lab.Namespace, to netip.Addr, o PingOptions) (PingResult, error) {
	o.Count = orDefault(o.Count, 5)
	o.Interval = orDefault(o.Interval, 10*time.Millisecond)
	o.Timeout = orDefault(o.Timeout, 5*time.Second)
	o.Size = orDefault(o.Size, 56)
	p, err := newPinger(ctx, from, to, o)
	if err != nil {
		return PingResult{}, fmt.Errorf("ping %s from %s: %w", to, from.Name, err)
	}
	defer p.conn.Close()
	var r PingResult
	for seq := range o.Count {
		if seq > 0 && !sleep(ctx, o.Interval) || ctx.Err() != nil {
			return r, ctx.Err()
		}
		r.Sent++
		rtt, err := p.echo(ctx, seq)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		if err != nil {
			return r, fmt.Errorf("ping %s from %s: %w", to, from.Name, err)
		}
		r.RTTs = append(r.RTTs, rtt)
	}
	return r, nil
}

// WaitReachable pings until an answer comes or ctx ends.
func WaitReachable(ctx context.Context, from *lab.Namespace, to netip.Addr) error {
	var last error // of a try that was not cut short
	for {
		r, err := Ping(ctx, from, to, PingOptions{Count: 1, Timeout: 100 * time.Millisecond})
		if err == nil && r.Lost() == 0 {
			return nil
		}
		if ctx.Err() == nil {
			last = err
		}
		// No route yet is an error of sending: as little final as no answer.
		if !sleep(ctx, 20*time.Millisecond) {
			return fmt.Errorf("%s does not reach %s: %w", from.Name, to, errors.Join(last, ctx.Err()))
		}
	}
}

type pinger struct {
	PingOptions
	conn           net.PacketConn
	to             netip.Addr
	id             int
	request, reply icmp.Type
	protocol       int // of ICMP, for the parser
	buf            []byte
}

func newPinger(ctx context.Context, from *lab.Namespace, to netip.Addr, o PingOptions) (*pinger, error) {
	p := &pinger{PingOptions: o, to: to, id: int(rand.N[uint16](1<<16 - 1)), buf: make([]byte, 1<<16)}
	network := "ip4:icmp"
	p.request, p.reply, p.protocol = ipv4.ICMPTypeEcho, ipv4.ICMPTypeEchoReply, unix.IPPROTO_ICMP
	if to.Is6() {
		network = "ip6:ipv6-icmp"
		p.request, p.reply, p.protocol = ipv6.ICMPTypeEchoRequest, ipv6.ICMPTypeEchoReply, unix.IPPROTO_ICMPV6
	}
	var listen net.ListenConfig
	if o.DontFragment {
		listen.Control = setOption(func(fd int) error { return dontFragment(fd, to) })
	}
	var err error
	p.conn, err = from.ListenPacket(ctx, listen, network, "")
	return p, err
}

// echo sends one request and waits for its answer.
func (p *pinger) echo(ctx context.Context, seq int) (time.Duration, error) {
	data := bytes.Repeat([]byte("weft"), p.Size/4+1)[:p.Size]
	// The kernel fills in the checksum of ICMPv6, which needs the addresses.
	request, err := (&icmp.Message{Type: p.request, Body: &icmp.Echo{ID: p.id, Seq: seq, Data: data}}).Marshal(nil)
	if err != nil {
		return 0, err
	}
	deadline := time.Now().Add(p.Timeout)
	if end, ok := ctx.Deadline(); ok && end.Before(deadline) {
		deadline = end
	}
	if err := p.conn.SetDeadline(deadline); err != nil {
		return 0, err
	}
	start := time.Now()
	if _, err := p.conn.WriteTo(request, &net.IPAddr{IP: p.to.AsSlice(), Zone: p.to.Zone()}); err != nil {
		return 0, err
	}
	for {
		n, _, err := p.conn.ReadFrom(p.buf)
		rtt := time.Since(start)
		if err != nil {
			return 0, err
		}
		// A raw socket hears every ICMP message of its namespace.
		m, err := icmp.ParseMessage(p.protocol, p.buf[:n])
		if err != nil || m.Type != p.reply {
			continue
		}
		if e, ok := m.Body.(*icmp.Echo); ok && e.ID == p.id && e.Seq == seq {
			if !bytes.Equal(e.Data, data) {
				return 0, fmt.Errorf("answer %d has other content than the request", seq)
			}
			return rtt, nil
		}
	}
}

func dontFragment(fd int, to netip.Addr) error {
	if to.Is6() {
		return unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_MTU_DISCOVER, unix.IPV6_PMTUDISC_DO)
	}
	return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_MTU_DISCOVER, unix.IP_PMTUDISC_DO)
}

// setOption makes a Control function of net's dialers and listeners.
func setOption(set func(fd int) error) func(network, address string, c syscall.RawConn) error {
	return func(_, _ string, c syscall.RawConn) error {
		var err error
		if controlErr := c.Control(func(fd uintptr) { err = set(int(fd)) }); controlErr != nil {
			return controlErr
		}
		return err
	}
}

func orDefault[T comparable](v, def T) T {
	var zero T
	if v == zero {
		return def
	}
	return v
}

// sleep returns false if ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
