package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// systemd stands in for the service manager: it receives what is sent to
// NOTIFY_SOCKET.
func systemd(t *testing.T) *net.UnixConn {
	t.Helper()
	path := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	t.Setenv("NOTIFY_SOCKET", path)
	return c
}

// next returns the next message, or "" if none is there within the time.
func next(t *testing.T, c *net.UnixConn, within time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(within)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := c.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(b[:n])
}

func want(t *testing.T, c *net.UnixConn, messages ...string) {
	t.Helper()
	for _, m := range messages {
		if got := next(t, c, 10*time.Second); got != m {
			t.Fatalf("systemd got %q, want %q", got, m)
		}
	}
}

func TestNotifier(t *testing.T) {
	c := systemd(t)
	var log bytes.Buffer
	n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	n.Status("waiting for etcd")
	n.Status("waiting for etcd") // said already
	n.Ready()
	n.Ready() // said already
	n.Status("2 peers")
	n.Status("one\nREADY=0")
	n.Status("2 peers")
	n.Stopping()
	want(t, c, "STATUS=waiting for etcd", "READY=1", "STATUS=2 peers", "STATUS=one; READY=0", "STATUS=2 peers", "STOPPING=1")
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
}

// What systemd did not take is said again, and logged.
func TestNotifierWhenSystemdDoesNotListen(t *testing.T) {
	c := systemd(t)
	path := os.Getenv("NOTIFY_SOCKET")
	t.Setenv("NOTIFY_SOCKET", path+".gone")
	var log bytes.Buffer
	n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	n.Ready()
	n.Status("2 peers")
	if got := strings.Count(log.String(), "systemd does not take a notification"); got != 2 {
		t.Errorf("%d log lines, want 2:\n%s", got, &log)
	}
	t.Setenv("NOTIFY_SOCKET", path)
	n.Ready()
	n.Status("2 peers")
	want(t, c, "READY=1", "STATUS=2 peers")
}

func TestNotifierWithoutSystemd(t *testing.T) {
	t.Setenv("NOTIFY_SOCKET", "")
	t.Setenv("WATCHDOG_USEC", "")
	var log bytes.Buffer
	n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	n.Ready()
	n.Status("x")
	n.Stopping()
	n.Watchdog(context.Background(), func() error { return errors.New("not to be asked") }) // returns at once
	if log.Len() > 0 {
		t.Errorf("log: %s", &log)
	}
}

// The watchdog is fed while the data path is healthy, starves while it is
// not, and is fed again.
func TestWatchdog(t *testing.T) {
	c := systemd(t)
	t.Setenv("WATCHDOG_USEC", "20000") // 20 ms, so a meal every 5 ms
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var log bytes.Buffer // read only after Watchdog has returned
	n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
	var sick atomic.Bool
	asked := make(chan struct{}, 1000)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.Watchdog(ctx, func() error {
			select {
			case asked <- struct{}{}:
			default:
			}
			if sick.Load() {
				return errors.New("reader of queue 0 makes no progress")
			}
			return nil
		})
	}()
	want(t, c, "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1")

	sick.Store(true)
	drain(asked)
	<-asked // one that may have looked before
	<-asked
	<-asked
	for next(t, c, time.Millisecond) != "" { // what was sent before
	}
	<-asked
	<-asked
	if got := next(t, c, time.Millisecond); got != "" {
		t.Errorf("a sick data path: systemd got %q", got)
	}

	sick.Store(false)
	want(t, c, "WATCHDOG=1", "WATCHDOG=1")
	cancel()
	<-done
	for _, line := range []string{
		`level=ERROR msg="not feeding systemd's watchdog" error="reader of queue 0 makes no progress" killed_after=20ms`,
		`level=INFO msg="feeding systemd's watchdog again"`,
	} {
		if got := strings.Count(log.String(), line); got != 1 {
			t.Errorf("%d log lines %q, want 1:\n%s", got, line, &log)
		}
	}
}

func drain(c chan struct{}) {
	for {
		select {
		case <-c:
		default:
			return
		}
	}
}

// The watchdog's variables may be meant for our parent process.
func TestWatchdogOfAnotherProcess(t *testing.T) {
	c := systemd(t)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getppid()))
	n := NewNotifier(slog.New(slog.DiscardHandler))
	n.Watchdog(context.Background(), func() error { return nil }) // returns at once
	if got := next(t, c, time.Millisecond); got != "" {
		t.Errorf("systemd got %q", got)
	}
}

func TestWatchdogOfNonsense(t *testing.T) {
	systemd(t)
	t.Setenv("WATCHDOG_USEC", "soon")
	t.Setenv("WATCHDOG_PID", "")
	var log bytes.Buffer
	NewNotifier(slog.New(slog.NewTextHandler(&log, nil))).Watchdog(context.Background(), func() error { return nil })
	if !strings.Contains(log.String(), `msg="systemd's watchdog is not fed" error="error converting WATCHDOG_USEC`) {
		t.Errorf("log: %s", &log)
	}
}
