package scratch

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestLock(t *testing.T) {
	s := Store{filepath.Join(t.TempDir(), "cni", "flannel")}
	first, err := s.Share()
	if err != nil {
		t.Fatal(err)
	}
	second, err := s.Share() // does not wait
	if err != nil {
		t.Fatal(err)
	}
	first()
	if _, err := s.Exclude(); !errors.Is(err, ErrBusy) {
		t.Fatalf("excluded others who share: %v", err)
	}
	second()
	exclusive, err := s.Exclude()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Exclude(); !errors.Is(err, ErrBusy) {
		t.Errorf("two exclude each other's work: %v", err)
	}

	shared := make(chan error)
	go func() {
		release, err := s.Share()
		if err == nil {
			defer release()
		}
		shared <- err
	}()
	waitForWaiter(t, s.Dir, shared)
	exclusive()
	if err := <-shared; err != nil {
		t.Error(err)
	}
	wantFiles(t, s)

	if err := os.WriteFile(filepath.Join(s.Dir, "file"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := (Store{filepath.Join(s.Dir, "file")}).Share(); err == nil {
		t.Error("a file was locked as a folder")
	}
}

// waitForWaiter waits until somebody waits for the lock of a folder, as
// proc_locks(5) shows it: "1: -> FLOCK ADVISORY READ 123 00:2a:456 0 EOF".
func waitForWaiter(t *testing.T, dir string, ended <-chan error) {
	t.Helper()
	st, err := os.Stat(dir)
	if err != nil {
		t.Fatal(err)
	}
	inode := fmt.Sprintf(":%d ", st.Sys().(*syscall.Stat_t).Ino)
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		select {
		case err := <-ended:
			t.Fatalf("did not wait: %v", err)
		default:
		}
		locks, err := os.ReadFile("/proc/locks")
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(locks)) {
			if strings.Contains(line, "-> FLOCK") && strings.Contains(line, inode) {
				return
			}
		}
	}
	t.Fatal("nobody waits for the lock")
}
