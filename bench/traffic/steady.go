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
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// Steady is a TCP stream of an even rate between two namespaces: a portion each
// millisecond. It is slow enough for any path, so that a gap in what arrives is
// not the sender's congestion window or a full queue, but the path's and what
// TCP adds to it. All of it is random, and hashed at both ends.
type Steady struct {
	arrivals // of bytes, as the receiving program can have them

	name    string // of the stream, in errors
	portion int    // bytes
	pair    *pair
	stop    chan struct{} // closed: nothing more is to be sent
	once    sync.Once
	ends    sync.WaitGroup

	// Of the sender, read once it has ended.
	sent    [sha256.Size]byte
	sentN   int64
	sendErr error

	progress   sync.Mutex // guards what follows
	changed    chan struct{}
	received   int64
	ended      bool
	receiveErr error
	hash       [sha256.Size]byte // once ended
}

const (
	// SegmentPortion is a portion that travels as one segment. By it, TCP's
	// least window of ten segments is enough for 10 ms without an answer.
	SegmentPortion = 1000
	// FullPortion is a portion that travels in segments as large as the path
	// takes, 32 Mbit/s.
	FullPortion = 4000

	steadyTick   = time.Millisecond
	steadyBehind = 10 * steadyTick // a sender late by more leaves out what it missed
)

// StartSteady connects and begins to send, in portions of so many bytes. The
// stream goes on until Finish or Close; the end of ctx breaks it.
func StartSteady(ctx context.Context, from, to *lab.Namespace, addr netip.Addr, portion int) (*Steady, error) {
	// Every kernel has reno. BBR, the default of some, has a window of four
	// segments at such a rate, and waits where others go on.
	p, err := connect(ctx, from, to, addr, "reno")
	if err != nil {
		return nil, err
	}
	stamped, err := newStampedReader(p.server.(*net.TCPConn))
	if err != nil {
		p.close()
		return nil, err
	}
	s := &Steady{
		name: fmt.Sprintf("TCP from %s to %s", from.Name, addr), portion: portion, pair: p,
		stop: make(chan struct{}), changed: make(chan struct{}),
	}
	release := context.AfterFunc(ctx, p.close)
	s.ends.Go(func() { s.send(p.client) })
	s.ends.Go(func() {
		defer release()
		s.receive(stamped)
	})
	return s, nil
}

// send writes one portion each tick until the stop.
func (s *Steady) send(c net.Conn) {
	random := rand.NewChaCha8([32]byte{})
	h := sha256.New()
	buf := make([]byte, s.portion)
	for ticks := (ticker{}); ticks.next(s.stop); {
		random.Read(buf)
		h.Write(buf)
		if _, s.sendErr = c.Write(buf); s.sendErr != nil {
			return
		}
		s.sentN += int64(s.portion)
	}
	h.Sum(s.sent[:0])
	s.sendErr = c.(*net.TCPConn).CloseWrite()
}

// receive reads until the stream ends.
func (s *Steady) receive(r *stampedReader) {
	// Not more than a portion at once: what waits behind it has its own stamp.
	buf := make([]byte, s.portion)
	h := sha256.New()
	for {
		n, at, err := r.read(buf)
		h.Write(buf[:n])
		if n > 0 {
			s.add(at)
		}
		s.progress.Lock()
		s.received += int64(n)
		if err != nil {
			h.Sum(s.hash[:0])
			s.ended = true
			if err != io.EOF {
				s.receiveErr = err
			}
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.progress.Unlock()
		if err != nil {
			return
		}
	}
}

// Advance waits until the stream has gone on for so long, as counted by the
// bytes that arrive, in which a stall has no part.
func (s *Steady) Advance(ctx context.Context, d time.Duration) error {
	more := int64(d/steadyTick) * int64(s.portion)
	s.progress.Lock()
	want := s.received + more
	s.progress.Unlock()
	for {
		s.progress.Lock()
		received, changed, ended, err := s.received, s.changed, s.ended, s.receiveErr
		s.progress.Unlock()
		switch {
		case received >= want:
			return nil
		case ended:
			return fmt.Errorf("%s ended after %d bytes: %v", s.name, received, err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("%s stands at %d bytes: %w", s.name, received, ctx.Err())
		}
	}
}

// Finish stops sending and waits until all that was sent has arrived. It is an
// error if not exactly this arrived.
func (s *Steady) Finish(ctx context.Context) (Transfer, error) {
	s.once.Do(func() { close(s.stop) })
	defer s.pair.close()
	defer context.AfterFunc(ctx, s.pair.close)()
	s.ends.Wait()
	t := Transfer{Bytes: s.received, Sent: s.sent, Received: s.hash}
	if n := len(s.all); n > 0 {
		t.Elapsed = s.all[n-1].Sub(s.all[0])
	}
	if err := errors.Join(ctx.Err(), s.receiveErr, s.sendErr); err != nil {
		return t, fmt.Errorf("%s: %w", s.name, err)
	}
	if t.Bytes != s.sentN || t.Sent != t.Received {
		return t, fmt.Errorf("%s: sent %d bytes with SHA-256 %x, received %d with %x", s.name, s.sentN, t.Sent, t.Bytes, t.Received)
	}
	return t, nil
}

// Close breaks the stream off, unless it has ended.
func (s *Steady) Close() {
	s.once.Do(func() { close(s.stop) })
	s.pair.close()
	s.ends.Wait()
}

// ticker ticks at steadyTick. It makes up for being late, but not for more than
// steadyBehind, which would be a burst.
type ticker struct{ due time.Time }

// next waits for the next tick. It returns false after the stop.
func (t *ticker) next(stop <-chan struct{}) bool {
	if time.Since(t.due) > steadyBehind {
		t.due = time.Now()
	}
	t.due = t.due.Add(steadyTick)
	select {
	case <-stop:
		return false
	case <-time.After(time.Until(t.due)):
		return true
	}
}
