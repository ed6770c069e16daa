package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"testing"
)

func TestRemoveData(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "etcd")
	if err := RemoveData(dir); err != nil {
		t.Errorf("of a member that never was: %v", err)
	}
	m, err := Start(t.Context(), Config{DataDir: dir, ListenClient: []string{"http://127.0.0.1:0"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := RemoveData(dir); err == nil {
		t.Error("it removes the data of a member that runs")
	}
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	other := filepath.Join(dir, "notes.txt")
	if err := os.WriteFile(other, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time without another's file
		if err := RemoveData(dir); err != nil {
			t.Fatal(err)
		}
		if left, err := os.ReadDir(dir); err == nil && (len(left) != 1 || left[0].Name() != "notes.txt") {
			t.Errorf("left: %v", left)
		}
		if err := os.Remove(other); err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the empty directory is left: %v", err)
	}
}
