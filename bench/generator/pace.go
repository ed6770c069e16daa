package generator

import "time"

// A pace says when how many datagrams are to be sent. Datagrams go in groups,
// for a sender that wakes up for each would be busy waking up.
type pace struct {
	rate  float64 // datagrams per nanosecond; 0: no limit
	start int64   // of the time that datagrams are counted from
	count int     // sent since then
	group int
}

// A group is what is due in this time, within a batch.
const groupTime = 100 * time.Microsecond

// arrears is how far a sender that was held up makes up for it. Beyond that it
// sends less than it was asked to: a sender that hurried after a long pause
// would overrun queues that bear the rate well.
const arrears = 2 * time.Millisecond

func newPace(perSecond float64, now int64) *pace {
	p := &pace{rate: perSecond / 1e9, start: now}
	p.group = min(max(1, int(p.rate*float64(groupTime))), batch)
	return p
}

// due returns how many datagrams to send now, or else the time to come back.
func (p *pace) due(now int64) (n int, wake int64) {
	if p.rate == 0 {
		return batch, 0
	}
	// A group that is due is never too late, however seldom that is.
	if late := now - max(p.at(p.count)+int64(arrears), p.at(p.count+p.group)); late > 0 {
		p.start += late
	}
	n = int(p.rate*float64(now-p.start)) - p.count
	if n < p.group {
		return 0, p.at(p.count + p.group)
	}
	return min(n, batch), 0
}

func (p *pace) sent(n int) { p.count += n }

// longest is the longest that a datagram is waited for, in nanoseconds.
const longest = float64(time.Hour)

// at is the time at which so many datagrams are due. A nanosecond more makes
// up for rounding.
func (p *pace) at(count int) int64 { return p.start + int64(min(float64(count)/p.rate, longest)) + 1 }
