package tunnel

import "log/slog"

// maxSkippedLines is how many leases are named in the log at once.
const maxSkippedLines = 10

// LogSkipped logs leases that cannot be served and were not among those before.
func LogSkipped(log *slog.Logger, before, now []SkippedPeer) {
	known := make(map[SkippedPeer]bool, len(before))
	for _, s := range before {
		known[s] = true
	}
	lines, more := 0, 0
	for _, s := range now {
		switch {
		case known[s]:
		case lines == maxSkippedLines:
			more++
		default:
			lines++
			log.Warn("a lease cannot be served", "subnet", s.Subnet, "why", s.Why)
		}
	}
	if more > 0 {
		log.Warn("more leases cannot be served, see the status", "leases", more)
	}
}
