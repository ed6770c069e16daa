package control

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"sync"
	"syscall"

	"github.com/weftnet/weft/daemon/lockfile"
)

// maxPath is the longest path of a unix socket: sun_path, less the zero byte
// that ends it (unix(7)).
const maxPath = 107

// listener is a unix socket together with the lock that makes it the only
// one. The lock outlives the socket, and ends with the process at the latest.
type listener struct {
	net.Listener
	lock *lockfile.Lock

	once sync.Once
	err  error
}

// Close removes the socket, then gives the lock up.
func (l *listener) Close() error {
	l.once.Do(func() {
		l.err = errors.Join(l.Listener.Close(), l.lock.Close())
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
		return nil, errors.Join(err, lock.Close())
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
		return nil, errors.Join(err, lock.Close())
	}
	return &listener{Listener: l, lock: lock}, nil
}

// takeLock takes the lock that makes a daemon the only one. The kernel gives it
// up when its holder dies, which the socket itself would not tell.
func takeLock(path string) (*lockfile.Lock, error) {
	lock, err := lockfile.Take(path)
	if held := (*lockfile.HeldError)(nil); errors.As(err, &held) {
		return nil, fmt.Errorf("another weftd runs%s; stop it first, or give this one a --control-socket, --state-dir and --subnet-file of its own", held.Holder())
	}
	if err != nil {
		return nil, fmt.Errorf("take the lock of the control socket: %w", err)
	}
	return lock, nil
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
