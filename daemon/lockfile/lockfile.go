// Package lockfile keeps two daemons from using the same thing: a file that
// its holder has locked, with the holder's process ID in it.
package lockfile

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// Lock is a lock that is held. The kernel gives it up when its holder dies.
type Lock struct {
	file *os.File
}

// HeldError says that a process holds the lock.
type HeldError struct {
	PID int // 0 if it has not written that yet
}

func (e *HeldError) Error() string {
	if e.PID == 0 {
		return "another process holds the lock"
	}
	return fmt.Sprintf("process %d holds the lock", e.PID)
}

// Holder names the process for a message: " (pid 17)", or nothing.
func (e *HeldError) Holder() string {
	if e.PID == 0 {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", e.PID)
}

// Take locks the file, which it makes if need be, and writes our process ID
// into it. Where it is locked the error is a *HeldError.
func Take(path string) (*Lock, error) {
	for {
		f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, err
		}
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			defer f.Close()
			return nil, &HeldError{PID: readPID(f)}
		}
		current := false
		if err == nil {
			current, err = isAt(f, path)
		}
		if err == nil && !current {
			f.Close() // its former holder removed it just now
			continue
		}
		if err == nil {
			err = writePID(f)
		}
		if err != nil {
			f.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return &Lock{file: f}, nil
	}
}

// Close removes the file, while the lock still holds, and gives the lock up.
func (l *Lock) Close() error {
	return errors.Join(os.Remove(l.file.Name()), l.file.Close())
}

// isAt tells whether f is the file that one finds at the path.
func isAt(f *os.File, path string) (bool, error) {
	open, err := f.Stat()
	if err != nil {
		return false, err
	}
	found, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil && os.SameFile(open, found), err
}

func writePID(f *os.File) error {
	if err := f.Truncate(0); err != nil {
		return err
	}
	_, err := f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// readPID reads what the lock's holder wrote, if it got that far.
func readPID(f *os.File) int {
	text, err := io.ReadAll(io.LimitReader(f, 20))
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil || pid < 1 {
		return 0
	}
	return pid
}
