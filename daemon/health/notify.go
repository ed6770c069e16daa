package health

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/coreos/go-systemd/v22/daemon"
)

// Notifier tells systemd how the service is (sd_notify(3)). Without systemd,
// that is without NOTIFY_SOCKET, it does nothing. It is safe for concurrent
// use.
type Notifier struct {
	log *slog.Logger

	mu     sync.Mutex
	ready  bool
	status string
}

// NewNotifier returns a Notifier that logs what systemd does not take.
func NewNotifier(log *slog.Logger) *Notifier {
	return &Notifier{log: log}
}

// Ready says, once, that the start is complete. systemd has no way to take it
// back: what happens later is told by Status.
func (n *Notifier) Ready() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready {
		n.ready = n.send(daemon.SdNotifyReady)
	}
}

// Status sets the line that `systemctl status weftd` shows.
func (n *Notifier) Status(text string) {
	text = strings.ReplaceAll(text, "\n", "; ") // a newline would begin another assignment
	n.mu.Lock()
	defer n.mu.Unlock()
	if text != n.status && n.send("STATUS="+text) {
		n.status = text
	}
}

// Stopping says that the daemon has begun to stop.
func (n *Notifier) Stopping() { n.send(daemon.SdNotifyStopping) }

// Watchdog feeds systemd's watchdog until ctx ends, but only while health
// returns nil: a daemon whose data path hangs is killed and started anew. It
// returns at once where the service has no WatchdogSec.
func (n *Notifier) Watchdog(ctx context.Context, health func() error) {
	limit, err := daemon.SdWatchdogEnabled(false)
	if err != nil {
		n.log.Warn("systemd's watchdog is not fed", "error", err)
	}
	if limit <= 0 {
		return
	}
	// sd_watchdog_enabled(3) advises half the limit. With a limit of two seconds
	// that leaves one for a machine that is busy, which may be too little.
	tick := time.NewTicker(max(limit/4, time.Millisecond))
	defer tick.Stop()
	starving := false
	for {
		err := health()
		if err != nil && !starving {
			n.log.Error("not feeding systemd's watchdog", "error", err, "killed_after", limit)
		}
		if err == nil && starving {
			n.log.Info("feeding systemd's watchdog again")
		}
		starving = err != nil
		if !starving {
			n.send(daemon.SdNotifyWatchdog)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// send returns false if systemd is there and did not take the message.
func (n *Notifier) send(state string) bool {
	if _, err := daemon.SdNotify(false, state); err != nil {
		n.log.Warn("systemd does not take a notification", "state", state, "error", err)
		return false
	}
	return true
}
