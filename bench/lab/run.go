package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// ErrRunning says that another process holds the lab of that name.
var ErrRunning = errors.New("a lab of this name is running")

// A run is a lab's name and directory, held by a lock on the directory. The
// lock goes with the process that holds it, so a directory that can be locked
// is what a crashed (or a kept) run left behind.
//
// The directory holds one folder for each host with its logs, and in it one
// file NAME.pid for each running process: all that is needed to clean up.
type run struct {
	name string
	dir  string
	lock *os.File
}

// openRun takes the directory of a name, and first removes what an earlier
// run of the same name left. Where that run still lives it returns ErrRunning.
func openRun(name string) (*run, error) {
	r, err := lockRun(name)
	if err != nil {
		return nil, err
	}
	if err := r.removeContents(); err != nil {
		r.lock.Close()
		return nil, fmt.Errorf("remove leftovers of an earlier run: %w", err)
	}
	return r, nil
}

// Dir is the directory of the cluster of a name.
func Dir(name string) string { return filepath.Join(os.TempDir(), name) }

func lockRun(name string) (*run, error) {
	dir := Dir(name)
	for {
		if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("make lab directory: %w", err)
		}
		lock, err := os.OpenFile(dir, os.O_RDONLY|syscall.O_DIRECTORY|syscall.O_NOFOLLOW, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue // its last owner removed it just now
		}
		if err != nil {
			return nil, fmt.Errorf("open lab directory: %w", err)
		}
		if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
			lock.Close()
			if errors.Is(err, unix.EWOULDBLOCK) {
				return nil, fmt.Errorf("%w: %s; wait for it to end", ErrRunning, dir)
			}
			return nil, fmt.Errorf("lock %s: %w", dir, err)
		}
		held, err := lock.Stat()
		if err != nil {
			lock.Close()
			return nil, err
		}
		// Temporary directories are writable by everyone: process ids are
		// believed only if root wrote them.
		if st := held.Sys().(*syscall.Stat_t); int(st.Uid) != os.Geteuid() || held.Mode().Perm()&0o022 != 0 {
			lock.Close()
			return nil, fmt.Errorf("%s belongs to someone else; remove it", dir)
		}
		now, err := os.Lstat(dir)
		if err == nil && os.SameFile(held, now) {
			return &run{name: name, dir: dir, lock: lock}, nil
		}
		lock.Close() // locked a directory that its last owner removed
	}
}

// removeContents ends the processes of the run and removes its namespaces and
// files, but not the directory.
func (r *run) removeContents() error {
	errs := append(r.removeProcesses(), r.removeNamespaces()...)
	errs = append(errs, r.removeCgroups()...)
	entries, err := os.ReadDir(r.dir)
	errs = append(errs, err)
	for _, e := range entries {
		errs = append(errs, os.RemoveAll(filepath.Join(r.dir, e.Name())))
	}
	return errors.Join(errs...)
}

func (r *run) removeProcesses() (errs []error) {
	pidFiles, err := fs.Glob(os.DirFS(r.dir), "*/*.pid")
	errs = append(errs, err)
	for _, f := range pidFiles {
		errs = append(errs, killRecorded(filepath.Join(r.dir, f)))
	}
	return errs
}

func (r *run) removeNamespaces() (errs []error) {
	entries, err := os.ReadDir(namespacePath(""))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		errs = append(errs, err)
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), r.name+"-") {
			errs = append(errs, (&Namespace{Name: e.Name()}).Delete())
		}
	}
	return errs
}

// close gives up the lock; without keep the directory goes too.
func (r *run) close(keep bool) error {
	var err error
	if !keep {
		err = os.RemoveAll(r.dir)
	}
	return errors.Join(err, r.lock.Close())
}

// Sweep removes what crashed or kept labs left whose names start with prefix:
// their processes, namespaces and directories. Labs that run are left alone.
// It returns the names of those removed.
func Sweep(prefix string) (removed []string, err error) {
	dirs, err := filepath.Glob(Dir(prefix + "*"))
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, dir := range dirs {
		r, err := lockRun(filepath.Base(dir))
		if errors.Is(err, ErrRunning) {
			continue
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		errs = append(errs, r.removeContents(), r.close(false))
		removed = append(removed, r.name)
	}
	return removed, errors.Join(errs...)
}
