package labtest

import (
	"errors"

	"golang.org/x/sys/unix"
)

// ReadOnlySys gives the calling thread a /proc/sys that it cannot write. The
// thread must be one that is thrown away (lab.Namespace.Do).
func ReadOnlySys() error {
	return errors.Join(
		unix.Unshare(unix.CLONE_NEWNS),
		unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""),
		unix.Mount("/proc/sys", "/proc/sys", "", unix.MS_BIND, ""),
		unix.Mount("", "/proc/sys", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, ""),
	)
}
