package firewall

import (
	"fmt"
	"time"
)

// A fight is what happens when another program, too, puts its rules back
// whenever somebody changes something: neither ever comes to an end. Weft goes
// on, since its containers need the rules, but at a slower and slower pace,
// down to that of its timer.
type fight struct {
	rounds int // times in a row that rules had to be put back
	last   time.Time
}

// patience is how many times in a row rules are put back at full pace. Docker
// alone may be the cause of several, each time it starts containers.
const patience = 8

// round notes that rules were put back. It returns what is to be said of the
// fight, or "" while it need not be one.
func (f *fight) round(now time.Time, resync time.Duration) string {
	f.rest(now, resync)
	f.rounds++
	f.last = now
	if f.rounds <= patience {
		return ""
	}
	return fmt.Sprintf("another program removes or precedes weft's firewall rules each time they are put back (%d times in a row); "+
		"packets may be dropped in between: find it with `nft monitor`, and let it leave rules with the comment \"weft\" alone", f.rounds)
}

// rest tells whether the rules have stood for so long that the fight is over,
// which it then is. With iptables-legacy only the timer looks, so that is
// longer than its period.
func (f *fight) rest(now time.Time, resync time.Duration) (over bool) {
	over = now.Sub(f.last) > 2*resync+settle
	if over {
		f.rounds = 0
	}
	return over
}

// wait is how long to wait after a change before looking.
func (f *fight) wait(resync time.Duration) time.Duration {
	wait := settle
	for range f.rounds - patience {
		if wait >= resync {
			break
		}
		wait *= 2
	}
	return min(wait, max(resync, settle))
}
