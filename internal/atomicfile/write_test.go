package atomicfile

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWrite(t *testing.T) {
	defer syscall.Umask(syscall.Umask(0o077))
	dir := filepath.Join(t.TempDir(), "a", "b")
	path := filepath.Join(dir, "file")
	for _, content := range []string{"the first, longer one", "second"} {
		if err := Write(path, []byte(content), 0o644, 0o755); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil || string(b) != content {
			t.Fatalf("file holds %q, error %v; want %q", b, err, content)
		}
	}
	st, err := os.Stat(path)
	if err != nil || st.Mode() != 0o644 {
		t.Errorf("mode %v, error %v; want 0644", st.Mode(), err)
	}
	wantFiles(t, dir, 1)
}

// TestWriteFails checks that nothing is left of a write that failed half way.
func TestWriteFails(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "taken")
	if err := os.MkdirAll(filepath.Join(path, "by a directory"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := Write(path, []byte("x"), 0o644, 0o755); err == nil {
		t.Error("a directory was replaced by a file")
	}
	wantFiles(t, dir, 1)
}

func wantFiles(t *testing.T, dir string, n int) {
	t.Helper()
	files, err := os.ReadDir(dir)
	if err != nil || len(files) != n {
		t.Errorf("%s holds %v, error %v; want %d entry", dir, files, err, n)
	}
}
