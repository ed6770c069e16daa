package udp

import (
	"log/slog"
	"time"

	"golang.org/x/sys/unix"
	"golang.org/x/time/rate"

	"github.com/weftnet/weft/tunnel"
)

// trouble logs what the threads of the data path meet. To write a line may take
// long, on a pipe that nobody reads for instance, so a goroutine does it: a
// thread never waits, and what does not fit into the channel is left out. The
// counters have it all the same.
type trouble struct {
	log     *slog.Logger
	reasons [numReasons]rate.Sometimes
	lines   chan line
	done    chan struct{}
}

// line is one to be logged.
type line struct {
	message string
	attrs   []any
}

const (
	troubleInterval = time.Minute // one line per reason
	troubleLines    = 16          // that wait to be written
)

func newTrouble(log *slog.Logger) *trouble {
	t := &trouble{log: log, lines: make(chan line, troubleLines), done: make(chan struct{})}
	for i := range t.reasons {
		t.reasons[i].Interval = troubleInterval
	}
	go func() {
		defer close(t.done)
		for l := range t.lines {
			t.log.Warn(l.message, l.attrs...)
		}
	}()
	return t
}

// warn has a line written, if it can be soon.
func (t *trouble) warn(message string, attrs ...any) {
	select {
	case t.lines <- line{message, attrs}:
	default:
	}
}

// cannotSend says now and then that packets could not be sent.
func (t *trouble) cannotSend(why reason, peer *tunnel.Peer, errno unix.Errno) {
	t.reasons[why].Do(func() {
		remedy := ""
		switch why {
		case unreachable:
			remedy = "look at the underlay's interface, address and routes"
		case filtered:
			remedy = "a firewall rule of this host refuses the tunnel's packets"
		case socketFull, queueFull:
			remedy = "the underlay takes packets slower than they come"
		}
		t.warn("cannot send to a peer", "endpoint", peer.Endpoint, "subnet", peer.Subnet.IPv4, "reason", why.String(), "error", errno, "remedy", remedy)
	})
}

// close writes what waits. No thread may use it any more.
func (t *trouble) close() {
	close(t.lines)
	<-t.done
}
