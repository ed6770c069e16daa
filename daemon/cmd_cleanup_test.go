package main

import (
	"errors"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
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

// A subnet file is removed only where this node wrote it.
func TestRemoveSubnetFile(t *testing.T) {
	ours := envfile.File{Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.34.1/24"), MTU: 1472}
	for name, tt := range map[string]struct {
		held  string // "" makes no state
		gone  bool
		other []byte // in place of our file
	}{
		"ours":                {held: "10.5.34.0-24", gone: true},
		"another subnet":      {held: "10.5.35.0-24"},
		"weftd never ran":     {},
		"nobody can read it":  {held: "10.5.34.0-24", other: []byte("FLANNEL_SUBNET\n")},
		"a file of flannel's": {held: "10.5.34.0-24", other: []byte("FLANNEL_NETWORK=10.42.0.0/16\nFLANNEL_SUBNET=10.42.1.1/24\nFLANNEL_MTU=1450\nFLANNEL_IPMASQ=true\n")},
	} {
		t.Run(name, func(t *testing.T) {
			state, path := filepath.Join(t.TempDir(), "state"), filepath.Join(t.TempDir(), "subnet.env")
			if tt.held != "" {
				s, err := subnet.LoadState(state)
				if err != nil {
					t.Fatal(err)
				}
				held, err := subnet.ParseKey(tt.held)
				if err == nil {
					err = s.Save(held)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			err := envfile.Write(path, ours)
			if tt.other != nil {
				err = os.WriteFile(path, tt.other, 0o644)
			}
			if err != nil {
				t.Fatal(err)
			}
			if err := removeSubnetFile(path, state, slog.New(slog.DiscardHandler)); err != nil {
				t.Fatal(err)
			}
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) != tt.gone {
				t.Errorf("the file is gone: %v, want %v", !tt.gone, tt.gone)
			}
			if _, err := os.Stat(state); tt.held == "" && err == nil {
				t.Error("a state directory was made")
			}
			if err := removeSubnetFile(path+".none", state, slog.New(slog.DiscardHandler)); err != nil {
				t.Errorf("without a file: %v", err)
			}
		})
	}
}
