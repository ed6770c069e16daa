package netstate

import (
	"context"
	"errors"
	"log/slog"
)

// maxLines is how many objects are named in the log per comparison and kind of
// news; the rest are counted. A link that goes down takes thousands of routes.
const maxLines = 5

// report logs what a comparison in the background changed or found, once each.
// What Apply found goes to its caller instead, but for what is pending.
func (r *Reconciler) report(p *pass, before []Problem) {
	known := make(map[string]bool, len(before)) // pending, by object
	for _, problem := range before {
		known[problem.Object] = problem.Pending
	}
	var remade, healed, fights, failed, pending news
	for _, c := range p.remade {
		remade.add("object", c.object, "why", c.was)
	}
	for _, c := range p.healed {
		healed.add("object", c.object, "was", c.was)
	}
	for _, c := range p.fights {
		fights.add("object", c.object, "was", c.was)
	}
	for _, problem := range p.problems {
		wasPending, old := known[problem.Object]
		switch {
		case old && wasPending == problem.Pending:
		case problem.Pending:
			pending.add("object", problem.Object, "why", problem.Err)
		case p.healing && !errors.Is(problem.Err, errFought): // fights have their own line
			failed.add("object", problem.Object, "error", problem.Err)
		}
	}
	remade.log(r.log, slog.LevelInfo, "made anew")
	healed.log(r.log, slog.LevelInfo, "put back")
	fights.log(r.log, slog.LevelWarn, "another program keeps changing this, so it is put back ever more seldom: find and stop that program")
	failed.log(r.log, slog.LevelWarn, "cannot be put right now, is retried")
	pending.log(r.log, slog.LevelInfo, "waits")
}

// news are log lines with one message.
type news [][]any

func (n *news) add(args ...any) { *n = append(*n, args) }

func (n news) log(log *slog.Logger, level slog.Level, msg string) {
	for i, args := range n {
		if i == maxLines {
			log.Log(context.Background(), level, msg, "more_objects", len(n)-maxLines)
			return
		}
		log.Log(context.Background(), level, msg, args...)
	}
}
