// Package labtest gives tests their namespaces.
package labtest

import (
	"fmt"
	"os"
	"sync/atomic"
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

var serial atomic.Int32

// Namespace makes a namespace that is deleted when the test ends, also when it
// fails. Its name starts with "weft-t" and is unique among running tests.
func Namespace(t testing.TB, name string) *lab.Namespace {
	t.Helper()
	RequireRoot(t)
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
