// Package labtest gives tests their namespaces.
package labtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/weftnet/weft/bench/lab"
)

// RequireRoot skips a test that needs root, with the reason. As root it never
// skips: a facility that is missing then fails the test.
func RequireRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root: makes network namespaces and devices")
	}
}

// Program returns the path of a program of the Debian package pkg, which
// .ci/packages installs. As root a missing one fails the test; without root,
// where nothing could be installed, it skips.
func Program(t testing.TB, pkg, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil && os.Geteuid() != 0 {
		t.Skipf("needs %s of the package %s", name, pkg)
	}
	if err != nil {
		t.Fatalf("%v: install the package %s (.ci/packages does)", err, pkg)
	}
	return path
}

// Full tells whether slow cases are to run, too; otherwise it says in the log
// which are left out.
func Full(t testing.TB, what string) bool {
	t.Helper()
	if os.Getenv("WEFT_TEST_FULL") != "" {
		return true
	}
	t.Logf("not without WEFT_TEST_FULL=1 (make test-full): %s", what)
	return false
}

var serial atomic.Int32

// sweepOnce removes the namespaces of test processes that crashed.
var sweepOnce = sync.OnceValue(func() error {
	name := regexp.MustCompile(`^weft-t([0-9]+)-`)
	entries, err := os.ReadDir("/run/netns")
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	var errs []error
	for _, e := range entries {
		m := name.FindStringSubmatch(e.Name())
		if m == nil {
			continue
		}
		if pid, err := strconv.Atoi(m[1]); err == nil && syscall.Kill(pid, 0) == syscall.ESRCH {
			err := (&lab.Namespace{Name: e.Name()}).Delete()
			if errors.Is(err, syscall.EINVAL) { // another test process is about to remove it, or was ended amid that
				err = os.Remove("/run/netns/" + e.Name())
			}
			if !errors.Is(err, os.ErrNotExist) {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
})

// Namespace makes a namespace that is deleted when the test ends, also when it
// fails. Its name starts with "weft-t" and is unique among running tests.
func Namespace(t testing.TB, name string) *lab.Namespace {
	t.Helper()
	RequireRoot(t)
	if err := sweepOnce(); err != nil {
		t.Fatal(err)
	}
	n, err := lab.NewNamespace(fmt.Sprintf("weft-t%d-%d-%s", os.Getpid(), serial.Add(1), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Delete(); err != nil {
			t.Error(err)
		}
	})
	return n
}
