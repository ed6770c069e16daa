package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/options"
)

// TestLockOutlivesTheRest: whoever finds the control socket's lock free, a next
// daemon or `weftd cleanup`, finds nothing of this one at work. What takes
// longest to stop is the embedded etcd, which locks its directory.
func TestLockOutlivesTheRest(t *testing.T) {
	dir := t.TempDir()
	o := &options.Options{
		ControlSocket: filepath.Join(dir, "s"),
		StateDir:      dir,
		Etcd:          options.Etcd{Endpoints: []string{"http://127.0.0.1:1"}},
		Embedded:      &options.Embedded{DataDir: filepath.Join(dir, "etcd"), Listen: []string{"http://127.0.0.1:0"}},
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- runDaemon(ctx, o, slog.New(slog.DiscardHandler)) }()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		s, err := control.GetStatus(t.Context(), o.ControlSocket)
		if err == nil && len(s.NotReady) > 0 && s.NotReady[0] != "config: starting" {
			break // etcd runs, since the daemon has got so far as to ask for a config
		}
		select {
		case err := <-ended:
			t.Fatal("the daemon ended:", err)
		default:
		}
		if time.Now().After(deadline) {
			t.Fatal("the daemon does not get started:", err)
		}
	}

	stop()
	data, err := os.Open(o.Embedded.DataDir)
	if err != nil {
		t.Fatal(err)
	}
	defer data.Close()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Microsecond) {
		l, err := control.Listen(t.Context(), o.ControlSocket)
		if err == nil {
			defer l.Close()
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	if err := unix.Flock(int(data.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		t.Error("the lock is free while etcd runs:", err)
	}
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// Two daemons with one identity would fight over its lease.
func TestStateIsLocked(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockState(filepath.Join(dir, "state"))
	if err != nil {
		t.Fatal(err)
	}
	o := &options.Options{
		ControlSocket: filepath.Join(dir, "s"),
		StateDir:      filepath.Join(dir, "state"),
		Etcd:          options.Etcd{Endpoints: []string{"http://127.0.0.1:1"}},
	}
	want := fmt.Sprintf("another weftd (pid %d) uses the state directory %s; stop it, or give this one a --state-dir of its own", os.Getpid(), o.StateDir)
	if err := runDaemon(t.Context(), o, slog.New(slog.DiscardHandler)); err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}

	ctx, stop := context.WithCancel(t.Context())
	stop()
	if err := runDaemon(ctx, o, slog.New(slog.DiscardHandler)); err != nil {
		t.Errorf("with the lock free again: %v", err)
	}
	if left, err := os.ReadDir(o.StateDir); err != nil || len(left) != 1 || left[0].Name() != "node.json" {
		t.Errorf("the state directory holds %v, %v; want node.json", left, err)
	}
}

// systemd does not start again what says 78, and does after a panic of Go's,
// which says 2.
func TestExitStatusOfBadOptions(t *testing.T) {
	var out, errs strings.Builder
	if status := dispatch(t.Context(), []string{"--ip-masq=perhaps"}, &out, &errs); status != 78 || out.Len() > 0 ||
		errs.String() != "weftd: invalid value \"perhaps\" for --ip-masq: must be true or false\n" {
		t.Errorf("status %d, stdout %q, stderr %q", status, &out, &errs)
	}
}
