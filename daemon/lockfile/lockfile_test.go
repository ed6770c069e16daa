package lockfile

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
)

func TestTake(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	if err := os.WriteFile(path, []byte("4194304000\nof a daemon that was killed"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time over what the first left
		lock, err := Take(path)
		if err != nil {
			t.Fatal(err)
		}
		var held *HeldError
		if _, err := Take(path); !errors.As(err, &held) || held.PID != os.Getpid() {
			t.Errorf("while it is held: %v", err)
		}
		if err := lock.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("Close left the file: %v", err)
		}
	}
}

// Of many that start and stop at once, one at a time has the lock.
func TestTakeAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var holders, turns atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				lock, err := Take(path)
				if err != nil {
					if !errors.As(err, new(*HeldError)) {
						t.Error(err)
					}
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the lock at once", n)
				}
				turns.Add(1)
				holders.Add(-1)
				if err := lock.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if turns.Load() == 0 {
		t.Error("none ever had it")
	}
}

func TestHeldError(t *testing.T) {
	for _, tt := range []struct {
		content     string
		err, holder string
	}{
		{"17\n", "process 17 holds the lock", " (pid 17)"},
		{"", "another process holds the lock", ""},
		{"-1\n", "another process holds the lock", ""},
		{"a cat walked over the keyboard", "another process holds the lock", ""},
	} {
		path := filepath.Join(t.TempDir(), "lock")
		lock, err := Take(path)
		if err != nil {
			t.Fatal(err)
		}
		defer lock.Close()
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err = Take(path)
		var held *HeldError
		if !errors.As(err, &held) || held.Error() != tt.err || held.Holder() != tt.holder {
			t.Errorf("%q: error %v", tt.content, err)
		}
	}
}

func TestTakeWithoutDirectory(t *testing.T) {
	if _, err := Take(filepath.Join(t.TempDir(), "none", "lock")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}
