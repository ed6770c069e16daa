package scratch

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// ErrBusy is the error of Exclude while others use the folder.
var ErrBusy = errors.New("an ADD or another GC is under way")

// Share is for ADD: it waits for the end of an Exclude, and until release is
// called there is no other one. Those who share do not wait for each other.
//
// The lock is one on the folder itself, so that it leaves no file, and ends
// with the process that has it.
func (s Store) Share() (release func(), err error) { return s.lock(unix.LOCK_SH) }

// Exclude is for GC, which does not know of attachments that are being made:
// it fails with ErrBusy while others share, and keeps them out until release
// is called.
func (s Store) Exclude() (release func(), err error) { return s.lock(unix.LOCK_EX | unix.LOCK_NB) }

// lock makes the folder if need be: the first ADD and a GC must meet.
func (s Store) lock(how int) (release func(), err error) {
	if err := os.MkdirAll(s.Dir, dirMode); err != nil {
		return nil, fmt.Errorf("make the folder of kept configurations: %w", err)
	}
	fd, err := unix.Open(s.Dir, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open the folder of kept configurations: %w", &os.PathError{Op: "open", Path: s.Dir, Err: err})
	}
	for {
		err = unix.Flock(fd, how)
		if err != unix.EINTR { // a signal to Go's runtime
			break
		}
	}
	if err == nil {
		return func() { unix.Close(fd) }, nil
	}
	unix.Close(fd)
	if err == unix.EWOULDBLOCK {
		return nil, ErrBusy
	}
	return nil, fmt.Errorf("lock %s: %w", s.Dir, err)
}
