package tunnel

import (
	"sync/atomic"
	"time"
)

// PeerState is what is counted and learned about a peer while packets flow.
// The parts that sending and receiving threads write are a cache line apart.
type PeerState struct {
	Tx Traffic
	_  [64 - 16]byte
	Rx Traffic
	_  [64 - 16]byte

	// PathMTU is the longest outer packet, in bytes, that the way to the peer
	// takes, where it is known to be less than the underlay's.
	PathMTU Lapsing
	// Unbatched, when 1, has the peer's datagrams sent one by one, without
	// the kernel segmenting them.
	Unbatched Lapsing
	// Refused counts ICMP port unreachable: the host is up, the daemon is not.
	Refused atomic.Uint64
	// Filtered counts packets that this host's own firewall refused.
	Filtered atomic.Uint64
	// Echoes are the probes answered, Trials those in superpackets (package
	// probe).
	Echoes, Trials Echoes
}

// Traffic counts inner packets.
type Traffic struct {
	Packets, Bytes atomic.Uint64
}

// Count adds to both.
func (t *Traffic) Count(packets, bytes int) {
	t.Packets.Add(uint64(packets))
	t.Bytes.Add(uint64(bytes))
}

// Lapsing is a number above zero that holds for a while, such as a path MTU.
// Reading it costs one load while there is none. The zero Lapsing holds none.
type Lapsing struct {
	// The number in the high 16 bits, and when it lapses in the rest, in
	// milliseconds after epoch: the monotonic clock's, since the wall clock may
	// be set.
	v atomic.Uint64
}

const lapsingTimeBits = 48

var epoch = time.Now()

// Set makes value, from 1 to 65535, hold until the given time, to the
// millisecond.
func (l *Lapsing) Set(value int, until time.Time) {
	ms := max(0, until.Sub(epoch).Milliseconds())
	l.v.Store(uint64(value)<<lapsingTimeBits | uint64(ms)&(1<<lapsingTimeBits-1))
}

// Get returns the number, or 0 if none holds.
func (l *Lapsing) Get() int {
	value, _ := l.Until()
	return value
}

// Until is Get with the time until which the number holds.
func (l *Lapsing) Until() (value int, until time.Time) {
	v := l.v.Load()
	if v == 0 {
		return 0, time.Time{}
	}
	until = epoch.Add(time.Duration(v&(1<<lapsingTimeBits-1)) * time.Millisecond)
	if !time.Now().Before(until) {
		l.v.CompareAndSwap(v, 0) // unless it was set anew just now
		return 0, time.Time{}
	}
	return int(v >> lapsingTimeBits), until
}
