package traffic

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab"
)

// A flow that takes turns sends single packets, then as much as the kernel
// hands over as superpackets, then single packets at once, and again after a
// pause. What a path does with the ones and the others must not put the flow
// out of order.

const (
	turnSingles = 3                // packets before and after the burst, each
	singlesGap  = time.Millisecond // between them, before the burst
	turnSegment = 1000             // bytes of a packet of UDP
	turnRun     = 40               // such packets that are one for the kernel (UDP_SEGMENT)
	turnBurst   = 256 << 10        // bytes of a burst of TCP
)

// UDPTurns is what came of the datagrams of TakeTurnsUDP.
type UDPTurns struct {
	Sent, Arrived int
	Overtaken     int           // came after one that was sent later
	Quickest      time.Duration // of those overtaken, from the send to the arrival

	latest uint64 // number of a datagram, from 1
}

// TakeTurnsUDP has a flow of UDP take one turn for each of the pauses, which
// follow it. Lost datagrams are no error.
func TakeTurnsUDP(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, pauses []time.Duration) (r UDPTurns, err error) {
	server, err := to.ListenPacket(ctx, net.ListenConfig{Control: setOption(roomForWindow)}, "udp", netip.AddrPortFrom(addr, 0).String())
	if err != nil {
		return r, fmt.Errorf("listen in %s: %w", to.Name, err)
	}
	defer server.Close()
	client, err := from.Dial(ctx, net.Dialer{}, "udp", server.LocalAddr().String())
	if err != nil {
		return r, fmt.Errorf("open socket in %s: %w", from.Name, err)
	}
	defer client.Close()
	stamped, err := newStampedReader(server.(*net.UDPConn))
	if err != nil {
		return r, err
	}
	last := uint64(len(pauses) * (2*turnSingles + turnRun))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.receive(stamped, last)
	}()
	if err = sendTurns(ctx, client.(*net.UDPConn), pauses); err == nil {
		err = waitForLast(ctx, ended)
	}
	server.Close()
	<-ended
	if r.Sent = int(last); err != nil {
		return r, fmt.Errorf("UDP from %s to %s: %w", from.Name, addr, err)
	}
	return r, nil
}

// sendTurns numbers the datagrams from 1.
func sendTurns(ctx context.Context, c *net.UDPConn, pauses []time.Duration) error {
	sent := uint64(0)
	send := func(datagrams, segment int) error {
		b := make([]byte, datagrams*turnSegment)
		for i := range datagrams {
			sent++
			binary.BigEndian.PutUint64(b[i*turnSegment:], sent)
			binary.BigEndian.PutUint64(b[i*turnSegment+8:], uint64(time.Now().UnixNano()))
		}
		if err := cutInto(c, segment); err != nil {
			return err
		}
		_, err := c.Write(b)
		return err
	}
	for _, pause := range pauses {
		for range turnSingles {
			if err := send(1, 0); err != nil {
				return err
			}
			time.Sleep(singlesGap)
		}
		if err := send(turnRun, turnSegment); err != nil {
			return err
		}
		for range turnSingles {
			if err := send(1, 0); err != nil {
				return err
			}
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	return nil
}

// cutInto has the kernel cut what is written into datagrams of so many bytes; 0
// is not at all.
func cutInto(c *net.UDPConn, size int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	return setOption(func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_UDP, unix.UDP_SEGMENT, size)
	})("", "", raw)
}

// receive counts until all have arrived, or the socket is closed.
func (r *UDPTurns) receive(stamped *stampedReader, last uint64) {
	for buf := make([]byte, turnSegment); r.Arrived < int(last); {
		n, at, err := stamped.read(buf)
		if err != nil {
			return
		}
		if n == turnSegment {
			r.count(binary.BigEndian.Uint64(buf), at.Sub(time.Unix(0, int64(binary.BigEndian.Uint64(buf[8:])))))
		}
	}
}

// count notes the arrival of a datagram that took so long.
func (r *UDPTurns) count(number uint64, took time.Duration) {
	r.Arrived++
	if number > r.latest {
		r.latest = number
		return
	}
	if r.Overtaken++; r.Overtaken == 1 || took < r.Quickest {
		r.Quickest = took
	}
}

// TCPTurns is what the kernel says of a connection, both ends and directions
// together.
type TCPTurns struct {
	Reordered     uint32 // times that a segment turned out to be late, not lost (tcpi_reord_seen)
	Duplicate     uint32 // segments that were sent again for nothing (tcpi_dsack_dups)
	OutOfOrder    uint32 // segments that came before one sent earlier, or after a loss (tcpi_rcv_ooopack)
	Retransmitted uint32 // segments
}

// TakeTurnsTCP has a TCP connection take one turn for each of the pauses, which
// follow it: each single packet and each burst is answered by what it is. It
// is an error if an answer is another.
func TakeTurnsTCP(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, pauses []time.Duration) (r TCPTurns, err error) {
	pair, err := connect(ctx, from, to, addr, "reno")
	if err != nil {
		return r, err
	}
	defer pair.close()
	defer context.AfterFunc(ctx, pair.close)()
	var echoing sync.WaitGroup
	echoing.Go(func() { io.Copy(pair.server, pair.server) })
	if err = askInTurns(ctx, pair.client, pauses); err == nil {
		err = errors.Join(r.add(pair.client), r.add(pair.server))
	}
	pair.close()
	echoing.Wait()
	if err = errors.Join(ctx.Err(), err); err != nil {
		return r, fmt.Errorf("TCP from %s to %s: %w", from.Name, addr, err)
	}
	return r, nil
}

func askInTurns(ctx context.Context, c net.Conn, pauses []time.Duration) error {
	questions := 0
	ask := func(size int) error {
		questions++
		question, answer := datagram(questions, size), make([]byte, size)
		var writing sync.WaitGroup
		var writeErr error
		writing.Go(func() { _, writeErr = c.Write(question) })
		_, err := io.ReadFull(c, answer)
		if err != nil {
			c.Close()
		}
		writing.Wait()
		if err = errors.Join(err, writeErr); err == nil && !bytes.Equal(question, answer) {
			err = fmt.Errorf("answer %d, of %d bytes, is not what was sent", questions, size)
		}
		return err
	}
	for _, pause := range pauses {
		for _, size := range []int{100, 100, 100, turnBurst, 100, 100, 100} {
			if err := ask(size); err != nil {
				return err
			}
		}
		if !sleep(ctx, pause) {
			return ctx.Err()
		}
	}
	return nil
}

// add asks the kernel about one end.
func (r *TCPTurns) add(c net.Conn) error {
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	return setOption(func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err != nil {
			return err
		}
		r.Reordered += info.Reord_seen
		r.Duplicate += info.Dsack_dups
		r.OutOfOrder += info.Rcv_ooopack
		r.Retransmitted += info.Total_retrans
		return nil
	})("", "", raw)
}
