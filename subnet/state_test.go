package subnet

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestState(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "weft")
	first, err := LoadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(first.NodeID) != 32 || !first.Subnet.IsZero() {
		t.Errorf("new state %+v, want an ID and no subnet", first)
	}
	path := filepath.Join(dir, "node.json")
	if st, err := os.Stat(path); err != nil || st.Mode() != 0o600 {
		t.Errorf("mode %v, error %v; want 0600", st.Mode(), err)
	}
	for _, key := range []string{"10.5.34.0-24", "10.5.34.0-24&fd00:5:22::-64"} {
		if err := first.Save(mustKey(t, key)); err != nil {
			t.Fatal(err)
		}
		again, err := LoadState(dir)
		if err != nil || *again != *first || again.Subnet != mustKey(t, key) {
			t.Errorf("loaded %+v, error %v; want %+v", again, err, first)
		}
	}

	// What has not changed is not written again.
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := first.Save(first.Subnet); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		t.Error("an unchanged state was written")
	}

	other, err := LoadState(dir)
	if err != nil || other.NodeID == first.NodeID {
		t.Errorf("a new node has ID %q, error %v; the other has %q", other.NodeID, err, first.NodeID)
	}
	for range 2 {
		if err := RemoveState(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestStateSaveFails(t *testing.T) {
	dir := t.TempDir()
	s, err := LoadState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := RemoveState(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(dir, "node.json", "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := s.Save(mustKey(t, "10.5.34.0-24")); err == nil || !s.Subnet.IsZero() {
		t.Errorf("error %v, state %+v; want an error and no change", err, s)
	}
}

func TestStateDamaged(t *testing.T) {
	for _, content := range []string{
		"", "nonsense", "{}", `{"nodeID":"x"}`, `{"nodeID":"0123"}`,
		`{"nodeID":"00112233445566778899aabbccddeeff","subnet":"10.5.34.1-24"}`,
	} {
		dir := t.TempDir()
		path := filepath.Join(dir, "node.json")
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := LoadState(dir)
		if err == nil {
			t.Errorf("%q: loaded as %+v", content, s)
			continue
		}
		for _, w := range []string{path, "restore", "delete"} {
			if !strings.Contains(err.Error(), w) {
				t.Errorf("%q: error %q does not say %q", content, err, w)
			}
		}
		if b, _ := os.ReadFile(path); string(b) != content {
			t.Errorf("%q: the damaged file was replaced by %q", content, b)
		}
	}
}

func FuzzParseState(f *testing.F) {
	f.Add([]byte(`{"nodeID":"00112233445566778899aabbccddeeff","subnet":"10.5.34.0-24"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err == nil && (len(s.NodeID) != 32 || !s.Subnet.IsZero() && !s.Subnet.IPv4.IsValid()) {
			t.Fatalf("accepted as %+v", s)
		}
	})
}
