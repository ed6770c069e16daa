package traffic

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/weftnet/weft/bench/lab"
)

// Steady is a TCP stream of an even rate between two namespaces. It is slow
// enough for any path, so that a gap in what arrives is not the sender's
// congestion window or a full queue, but the path's. All of it is random, and
// hashed at both ends.
type Steady struct {
	from *lab.Namespace
	addr netip.Addr
	pair *pair
	stop chan struct{} // closed: nothing more is to be sent
	once sync.Once
	ends sync.WaitGroup

	// Of the sender, read once it has ended.
	sent    [sha256.Size]byte
	sentN   int64
	sendErr error

	mu       sync.Mutex // guards what follows
	arrivals []arrival
	changed  chan struct{} // closed and made anew when bytes arrive or the stream ends
	received hash.Hash
	ended    bool
	err      error // of the receiver
}

// arrival is the state of the stream after bytes came in.
type arrival struct {
	at    time.Time // when the kernel took the packet from the receiver's device
	total int64     // bytes up to then
}

// The stream is written in portions, one each tick.
const (
	steadyTick    = time.Millisecond
	steadyPortion = 4000                 // bytes; with the tick it makes 32 Mbit/s
	steadyPause   = 10 * steadyTick      // behind by more than this, the sender leaves out what it missed
	steadyRate    = 1000 * steadyPortion // bytes a second
)

// StartSteady connects and begins to send. The stream goes on until Finish or
// Close; the end of ctx breaks it.
func StartSteady(ctx context.Context, from, to *lab.Namespace, addr netip.Addr) (*Steady, error) {
	p, err := connect(ctx, from, to, addr, "")
	if err != nil {
		return nil, err
	}
	stamps, err := newStampedReader(p.server)
	if err != nil {
		p.close()
		return nil, err
	}
	s := &Steady{from: from, addr: addr, pair: p, stop: make(chan struct{}), changed: make(chan struct{}), received: sha256.New()}
	release := context.AfterFunc(ctx, p.close)
	s.ends.Go(func() { s.send(p.client) })
	s.ends.Go(func() {
		defer release()
		s.receive(stamps)
	})
	return s, nil
}

// send writes one portion each tick until the stop.
func (s *Steady) send(c net.Conn) {
	random := rand.NewChaCha8([32]byte{})
	h := sha256.New()
	buf := make([]byte, steadyPortion)
	next := time.Now()
	for {
		select {
		case <-s.stop:
			h.Sum(s.sent[:0])
			s.sendErr = c.(*net.TCPConn).CloseWrite()
			return
		case <-time.After(time.Until(next)):
		}
		if next = next.Add(steadyTick); time.Since(next) > steadyPause {
			next = time.Now()
		}
		random.Read(buf)
		h.Write(buf)
		if _, s.sendErr = c.Write(buf); s.sendErr != nil {
			return
		}
		s.sentN += steadyPortion
	}
}

func (s *Steady) receive(r *stampedReader) {
	// Not more than a portion at once: what waits behind it has its own stamp.
	buf := make([]byte, steadyPortion)
	var total int64
	for {
		n, at, err := r.read(buf)
		total += int64(n)
		s.mu.Lock()
		s.received.Write(buf[:n])
		if n > 0 {
			s.arrivals = append(s.arrivals, arrival{s.notBefore(at), total})
		}
		if err != nil {
			s.ended = true
			if err != io.EOF {
				s.err = err
			}
		}
		close(s.changed)
		s.changed = make(chan struct{})
		s.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// notBefore puts bytes that waited for a lost one to the time when that came:
// until then the program saw neither.
func (s *Steady) notBefore(at time.Time) time.Time {
	if n := len(s.arrivals); n > 0 && at.Before(s.arrivals[n-1].at) {
		return s.arrivals[n-1].at
	}
	return at
}

// Advance waits until the stream has run on for so long, as counted by the
// bytes that arrive, in which a stall has no part.
func (s *Steady) Advance(ctx context.Context, d time.Duration) error {
	want := int64(d.Seconds() * steadyRate)
	for first := int64(-1); ; {
		s.mu.Lock()
		total, changed, ended := s.total(), s.changed, s.ended
		s.mu.Unlock()
		if first < 0 {
			first = total
		}
		switch {
		case total-first >= want:
			return nil
		case ended:
			return fmt.Errorf("TCP from %s to %s ended after %d bytes: %w", s.from.Name, s.addr, total, s.failure())
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return fmt.Errorf("TCP from %s to %s stands at %d bytes: %w", s.from.Name, s.addr, total, ctx.Err())
		}
	}
}

func (s *Steady) total() int64 {
	if len(s.arrivals) == 0 {
		return 0
	}
	return s.arrivals[len(s.arrivals)-1].total
}

func (s *Steady) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return s.err
	}
	return errors.New("ended by the sender")
}

// Stall is the longest time without a byte, of those that end between two
// moments. Of one that began before the first of them, only the part after it
// counts.
func (s *Steady) Stall(from, until time.Time) (longest time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := from
	for _, a := range s.arrivals {
		if !a.at.After(from) {
			continue
		}
		if a.at.After(until) {
			break
		}
		longest = max(longest, a.at.Sub(last))
		last = a.at
	}
	return longest
}

// Finish ends the stream when all that was sent has arrived. It is an error if
// not exactly this arrived.
func (s *Steady) Finish(ctx context.Context) (Transfer, error) {
	s.once.Do(func() { close(s.stop) })
	defer s.Close()
	defer context.AfterFunc(ctx, s.pair.close)()
	s.ends.Wait()
	t := Transfer{Bytes: s.total(), Sent: s.sent}
	s.received.Sum(t.Received[:0])
	if err := errors.Join(ctx.Err(), s.err, s.sendErr); err != nil {
		return t, fmt.Errorf("TCP from %s to %s: %w", s.from.Name, s.addr, err)
	}
	if t.Bytes != s.sentN || t.Sent != t.Received {
		return t, fmt.Errorf("TCP from %s to %s: sent %d bytes with SHA-256 %x, received %d with %x",
			s.from.Name, s.addr, s.sentN, t.Sent, t.Bytes, t.Received)
	}
	if n := len(s.arrivals); n > 0 {
		t.Elapsed = s.arrivals[n-1].at.Sub(s.arrivals[0].at)
	}
	return t, nil
}

// Close breaks the stream off, unless it has ended.
func (s *Steady) Close() {
	s.once.Do(func() { close(s.stop) })
	s.pair.close()
	s.ends.Wait()
}
