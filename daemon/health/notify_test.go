package health

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/sys/unix"
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

// received returns what was sent since the last call.
func received(t *testing.T, c *net.UnixConn) (messages []string) {
	t.Helper()
	raw, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	for b := make([]byte, 4096); ; {
		var n int
		var failed error
		if err := raw.Read(func(fd uintptr) (done bool) {
			n, _, failed = unix.Recvfrom(int(fd), b, unix.MSG_DONTWAIT)
			return true
		}); err != nil {
			t.Fatal(err)
		}
		if errors.Is(failed, unix.EAGAIN) {
			return messages
		}
		if failed != nil {
			t.Fatal(failed)
		}
		messages = append(messages, string(b[:n]))
	}
}

func want(t *testing.T, c *net.UnixConn, messages ...string) {
	t.Helper()
	if got := received(t, c); !slices.Equal(got, messages) {
		t.Fatalf("systemd got %q, want %q", got, messages)
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
	t.Setenv("WATCHDOG_USEC", "20000000") // 20 s, so a meal every 5 s
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	var log bytes.Buffer // read only after Watchdog has returned
	synctest.Test(t, func(t *testing.T) {
		n := NewNotifier(slog.New(slog.NewTextHandler(&log, nil)))
		var sick atomic.Bool
		ctx, cancel := context.WithCancel(context.Background())
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.Watchdog(ctx, func() error {
				if sick.Load() {
					return errors.New("reader of queue 0 makes no progress")
				}
				return nil
			})
		}()
		pass := func(d time.Duration) {
			time.Sleep(d)
			synctest.Wait()
		}
		pass(11 * time.Second)
		want(t, c, "WATCHDOG=1", "WATCHDOG=1", "WATCHDOG=1")
		sick.Store(true)
		pass(30 * time.Second) // more than ten messages would not fit in the socket
		want(t, c)
		sick.Store(false)
		pass(10 * time.Second)
		want(t, c, "WATCHDOG=1", "WATCHDOG=1")
		cancel()
		<-done
	})
	for _, line := range []string{
		`level=ERROR msg="not feeding systemd's watchdog" error="reader of queue 0 makes no progress" killed_after=20s`,
		`level=INFO msg="feeding systemd's watchdog again"`,
	} {
		if got := strings.Count(log.String(), line); got != 1 {
			t.Errorf("%d log lines %q, want 1:\n%s", got, line, &log)
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
	want(t, c)
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
