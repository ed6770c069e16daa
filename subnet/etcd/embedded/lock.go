package embedded

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// lockDir makes the data directory, readable for its owner only, and locks it
// against a second member of ours. The lock is the open file.
func lockDir(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory of the embedded etcd: %w", err)
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, fmt.Errorf("make the data directory of the embedded etcd private: %w", err)
	}
	f, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open the data directory of the embedded etcd: %w", err)
	}
	if err := flock(f); err != nil {
		f.Close()
		return nil, fmt.Errorf("data directory %s of the embedded etcd: %w", dir, err)
	}
	// An etcd of somebody else's locks its database, and one that waits for
	// that lock says nothing and waits for ever.
	db, err := os.Open(filepath.Join(dir, "member", "snap", "db"))
	if err == nil {
		err = flock(db)
		db.Close()
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		f.Close()
		return nil, fmt.Errorf("data directory %s of the embedded etcd: %w", dir, err)
	}
	return f, nil
}

// flock locks f, until it is closed, or fails at once.
func flock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return errors.New("another process uses it: is a second weftd or an etcd running?")
	}
	if err != nil {
		return fmt.Errorf("lock it: %w", err)
	}
	return nil
}
