package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// maxPath is the longest path of a unix socket: sun_path, less the zero byte
// that ends it (unix(7)).
const maxPath = 107

// listener is a unix socket together with the lock that makes it the only
// one. The lock outlives the socket, and ends with the process at the latest.
type listener struct {
	net.Listener
	lock *os.File

	once sync.Once
	err  error
}

// Close removes the socket, then the lock's file while the lock still holds.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.err = errors.Join(l.Listener.Close(), os.Remove(l.lock.Name()), l.lock.Close())
	})
	return l.err
}

// Listen makes the control socket, for this user only, and its directory if
// that is missing. The socket of a dead daemon is replaced. Where another
// daemon lives, in whatever state, it returns an error with that one's PID.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if len(path) > maxPath {
		return nil, fmt.Errorf("control socket %s: the path is %d bytes long, the kernel allows %d; choose another with --control-socket", path, len(path), maxPath)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("make the directory of the control socket: %w", err)
	}
	lock, err := takeLock(path + ".lock")
	if err != nil {
		return nil, err
	}
	if err := removeStale(path); err != nil {
		return nil, errors.Join(err, os.Remove(lock.Name()), lock.Close())
	}
	// A unix socket's file takes its mode from the socket at bind (Linux,
	// unix_bind in net/unix/af_unix.c), so that it is never open to others,
	// not even for a moment.
	config := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var modeErr error
		err := c.Control(func(fd uintptr) { modeErr = syscall.Fchmod(int(fd), 0o600) })
		return errors.Join(err, modeErr)
	}}
	l, err := config.Listen(ctx, "unix", path)
	if err != nil {
		err = fmt.Errorf("listen on the control socket: %w", err)
		return nil, errors.Join(err, os.Remove(lock.Name()), lock.Close())
	}
	return &listener{Listener: l, lock: lock}, nil
}

// takeLock locks the file and writes our PID into it. The kernel gives the
// lock up when its holder dies, which the socket itself would not tell.
func takeLock(path string) (*os.File, error) {
	for {
		lock, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
		if err != nil {
			return nil, fmt.Errorf("open the lock of the control socket: %w", err)
		}
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if errors.Is(err, syscall.EWOULDBLOCK) {
			defer lock.Close()
			return nil, fmt.Errorf("another weftd runs%s; stop it first, or give this one a --control-socket, --state-dir and --subnet-file of its own", holder(lock))
		}
		current := false
		if err == nil {
			current, err = isAt(lock, path)
		}
		if err == nil && !current {
			lock.Close() // its former holder removed it just now
			continue
		}
		if err == nil {
			err = writePID(lock)
		}
		if err != nil {
			lock.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		return lock, nil
	}
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

func writePID(lock *os.File) error {
	if err := lock.Truncate(0); err != nil {
		return err
	}
	_, err := lock.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return err
}

// holder reads the PID that the lock's holder wrote, if it got that far.
func holder(lock *os.File) string {
	text, err := io.ReadAll(io.LimitReader(lock, 20))
	pid, convErr := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || convErr != nil {
		return ""
	}
	return fmt.Sprintf(" (pid %d)", pid)
}

// removeStale removes the socket that a dead daemon left, and nothing that is
// not a socket.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil && info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("control socket %s: there is something else at that path; remove it or choose another with --control-socket", path)
	}
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return fmt.Errorf("remove the control socket of an earlier run: %w", err)
	}
	return nil
}
