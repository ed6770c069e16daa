package main

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/subnet"
)

func TestPurgeState(t *testing.T) {
	for name, tt := range map[string]struct{ state, etcd, want string }{
		"the usual places": {"weft", "weft/etcd", ""},
		"etcd elsewhere":   {"weft", "srv/etcd", "srv"},
		"nothing there":    {"none", "none/etcd", ""},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			state, etcd := filepath.Join(dir, tt.state), filepath.Join(dir, tt.etcd)
			if name != "nothing there" {
				if _, err := subnet.LoadState(state); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Join(etcd, "member", "wal"), 0o700); err != nil {
					t.Fatal(err)
				}
			}
			if err := purgeState(state, etcd); err != nil {
				t.Fatal(err)
			}
			left := ""
			if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
				if path != dir {
					rel, relErr := filepath.Rel(dir, path)
					err = errors.Join(err, relErr)
					left += rel
				}
				return err
			}); err != nil || left != tt.want {
				t.Errorf("left: %q, %v; want %q", left, err, tt.want)
			}
		})
	}
}

func TestPurgeStateInUse(t *testing.T) {
	dir := t.TempDir()
	lock, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := purgeState(dir, filepath.Join(dir, "etcd")); err == nil {
		t.Error("it removes the identity of a daemon that runs")
	}
}
