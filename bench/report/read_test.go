package report

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// readText reads a document that is written down in the test.
func readText(t *testing.T, text string) (*Document, error) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "run.json")
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return Read(file)
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:                               "is no result of weft-bench",
		`[]`:                             "is no result of weft-bench",
		`{"schema":1}{"schema":1}`:       "is no result of weft-bench: something follows",
		`{"schema":"1"}`:                 "is no result of weft-bench",
		`{"schema":1,"results":[1]}`:     "is no result of weft-bench",
		`{}`:                             "has schema 0",
		`{"schema":2}`:                   "has schema 2, and this weft-bench reads 1: use the weft-bench that wrote it, or measure anew",
		`{"schema":2,"results":"later"}`: "has schema 2",
	} {
		if d, err := readText(t, text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v, want %q", text, d, err, want)
		}
	}
	if _, err := Read(filepath.Join(t.TempDir(), "none")); err == nil || !strings.Contains(err.Error(), "weft-bench run --json") {
		t.Error("no file:", err)
	}
}

func TestReadCleansText(t *testing.T) {
	d, err := readText(t, `{"schema":1, "environment":{"kernel":"6\u001b[2J", "mtu":{"u\u0000dp":1500}, "memory_bytes":18446744073709551615},
		"results":[{"path":"a\u202eb\nc", "metric":"ä µ 中", "median":0.1234567890123456}], "warnings":["one\ttwo\u0007"]}`)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ got, want string }{
		{d.Environment.Kernel, "6�[2J"},
		{d.Results[0].Path, "a�b c"},
		{d.Results[0].Metric, "ä µ 中"},
		{d.Warnings[0], "one two�"},
	} {
		if c.got != c.want {
			t.Errorf("%q, want %q", c.got, c.want)
		}
	}
	if d.Environment.MTU["u�dp"] != 1500 || d.Environment.MemoryBytes != 1<<64-1 || d.Results[0].Median != 0.1234567890123456 {
		t.Errorf("numbers changed: %+v", d)
	}
}
