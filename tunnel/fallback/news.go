package fallback

import (
	"context"
	"log/slog"
)

// Lines of log about peers' paths, per second and in a burst.
const (
	lineRate  = 1
	lineBurst = 20
)

// news are log lines about peers.
type news []func(*slog.Logger)

func (n *news) add(level slog.Level, msg string, p *peer, why string) {
	*n = append(*n, func(log *slog.Logger) {
		log.Log(context.Background(), level, msg, "subnet", p.udp.Subnet, "node", p.udp.NodeID, "endpoint", p.udp.Endpoint, "why", why)
	})
}

// say writes lines, but not hundreds when hundreds of peers are moved: of what
// is left out, the number is told later.
func (pl *pilot) say(lines news) {
	for _, line := range lines {
		if !pl.lines.Allow() {
			pl.unsaid++
			continue
		}
		line(pl.log)
	}
	if pl.unsaid > 0 && pl.lines.Allow() {
		pl.log.Warn("more peers changed their path, see the status", "changes", pl.unsaid)
		pl.unsaid = 0
	}
}
