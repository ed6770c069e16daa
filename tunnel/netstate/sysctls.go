package netstate

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctls compares kernel parameters. It must run on a thread of the kernel's
// namespace.
func (p *pass) sysctls() {
	for _, s := range p.want.Sysctls {
		path := filepath.Join("/proc/sys", s.Key)
		have, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			// Per-link parameters come and go with the link.
			if _, err := os.Stat(filepath.Dir(path)); errors.Is(err, fs.ErrNotExist) {
				p.pend(s, errors.New("it does not exist now"))
			} else {
				p.fail(s.String(), errors.New("this kernel has no such parameter"))
			}
		case err != nil:
			p.fail(s.String(), err)
		case strings.TrimSpace(string(have)) != strings.TrimSpace(s.Value):
			p.fix(s, "was "+strings.TrimSpace(string(have)), func() error { return writeSysctl(path, s.Value) })
		}
	}
}

// Set writes the parameter if it reads differently, once, in the network
// namespace of the calling thread.
func (s Sysctl) Set() error {
	path := filepath.Join("/proc/sys", s.Key)
	have, err := os.ReadFile(path)
	if err == nil && strings.TrimSpace(string(have)) != strings.TrimSpace(s.Value) {
		err = writeSysctl(path, s.Value)
	}
	if err != nil {
		return fmt.Errorf("set %v: %w", s, err)
	}
	return nil
}

func writeSysctl(path, value string) error {
	err := os.WriteFile(path, []byte(value), 0) // never created: /proc has no such thing
	if errors.Is(err, fs.ErrPermission) || errors.Is(err, unix.EROFS) {
		return fmt.Errorf("%w: run weftd as root with a writable /proc/sys, or set it to %q yourself", err, value)
	}
	return err
}
