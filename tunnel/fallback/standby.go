package fallback

import "time"

// When a peer's VTEP is asked for a sign of life, and how often it may miss it.
const (
	standbyAsk    = 2 * time.Second  // while it is in use, or an answer is missing
	standbyIdle   = 30 * time.Second // while it is not needed
	standbyMissed = 5
)

// standby tells whether vxlan carries to a peer and back. Like path it has no
// clock and sends nothing itself.
type standby struct {
	askedAt    time.Time
	unanswered int // since the last answer
}

func (s *standby) due(inUse bool, now time.Time) bool {
	wait := standbyAsk
	if s.silent() || s.unanswered == 0 && !inUse {
		wait = standbyIdle
	}
	return s.askedAt.IsZero() || now.Sub(s.askedAt) >= wait
}

func (s *standby) asked(now time.Time) { s.askedAt, s.unanswered = now, s.unanswered+1 }
func (s *standby) answered()           { s.unanswered = 0 }
func (s *standby) silent() bool        { return s.unanswered >= standbyMissed }
