package netstate

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// Do is in the namespace whoever calls it, and the caller stays where it is.
func TestNamespaceDo(t *testing.T) {
	ns := labtest.Namespace(t, "host")
	var n *Namespace
	if err := ns.Do(func() (err error) { n, err = OpenNamespace(); return err }); err != nil {
		t.Fatal(err)
	}
	defer n.Close()
	read := func() (value string, err error) {
		b, err := os.ReadFile("/proc/sys/net/ipv4/conf/lo/accept_local")
		return strings.TrimSpace(string(b)), err
	}
	before, err := read()
	if err != nil {
		t.Fatal(err)
	}
	if err := ns.Sysctl("net/ipv4/conf/lo/accept_local", map[string]string{"0": "1", "1": "0"}[before]); err != nil {
		t.Fatal(err)
	}
	var inside string
	if err := n.Do(func() (err error) { inside, err = read(); return err }); err != nil || inside == before {
		t.Errorf("inside it reads %q, %v; outside %q", inside, err, before)
	}
	if after, err := read(); err != nil || after != before {
		t.Errorf("outside it then reads %q, %v; before %q", after, err, before)
	}
	other := errors.New("other")
	if err := n.Do(func() error { return other }); err != other {
		t.Errorf("fn's error came back as %v", err)
	}
	if err := n.Do(func() error { runtime.Goexit(); return nil }); err == nil {
		t.Error("no error though fn did not return")
	}
}

func TestSysctlSet(t *testing.T) {
	ns := labtest.Namespace(t, "host")
	const key = "net/ipv4/conf/lo/accept_local"
	in := func(fn func() error) {
		t.Helper()
		if err := ns.Do(fn); err != nil {
			t.Fatal(err)
		}
	}
	in(func() error {
		if err := (Sysctl{key, "1"}).Set(); err != nil {
			return err
		}
		if b, err := os.ReadFile(filepath.Join("/proc/sys", key)); err != nil || string(b) != "1\n" {
			t.Errorf("it reads %q, %v", b, err)
		}
		if err := (Sysctl{"net/ipv4/conf/none/accept_local", "1"}).Set(); !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "none") {
			t.Errorf("a parameter that is not there: %v", err)
		}
		return nil
	})
	// What cannot be written is fine as long as it is as it should be.
	in(func() error {
		if err := labtest.ReadOnlySys(); err != nil {
			return err
		}
		if err := (Sysctl{key, "1"}).Set(); err != nil {
			t.Error(err)
		}
		err := (Sysctl{key, "0"}).Set()
		if !errors.Is(err, unix.EROFS) || !strings.Contains(err.Error(), `sysctl `+key) || !strings.Contains(err.Error(), `set it to "0" yourself`) {
			t.Errorf("/proc/sys cannot be written: %v", err)
		}
		return nil
	})
}
