package report

import (
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestGolden shows a document of two profiles, with a path that has no result
// for one workload, as text and as Markdown.
func TestGolden(t *testing.T) {
	d, err := Read("testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	for file, got := range map[string]string{"run.txt": d.Tables(), "run.md": d.Markdown()} {
		file = filepath.Join("testdata", file)
		if *update {
			if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs (go test -update writes it anew):\n%s", file, got)
		}
	}
}

func TestWriteAndRead(t *testing.T) {
	d, err := Read("testdata/run.json")
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "out.json")
	if err := d.Write(file, nil); err != nil {
		t.Fatal(err)
	}
	again, err := Read(file)
	if err != nil || !reflect.DeepEqual(d, again) {
		t.Errorf("read back: %+v, %v", again, err)
	}
	var stdout strings.Builder
	if err := d.Write("-", &stdout); err != nil {
		t.Fatal(err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != stdout.String() {
		t.Error("stdout and file differ", err)
	}
	if err := d.Write(filepath.Join(file, "x"), nil); err == nil {
		t.Error("a file that cannot be made is no error")
	}
}

// The names in the JSON are the schema: scripts depend on them.
func TestSchema(t *testing.T) {
	b, err := json.Marshal(Document{Schema: Schema, Results: []Result{{}}, Ratios: []Ratio{{}}, CrossChecks: []CrossCheck{{}}})
	if err != nil {
		t.Fatal(err)
	}
	var fields map[string]any
	if err := json.Unmarshal(b, &fields); err != nil {
		t.Fatal(err)
	}
	has := func(object any, names ...string) {
		t.Helper()
		for _, name := range names {
			if _, ok := object.(map[string]any)[name]; !ok {
				t.Errorf("there is no %q in %v", name, object)
			}
		}
	}
	first := func(name string) any { return fields[name].([]any)[0] }
	has(fields, "schema", "environment", "results", "ratios")
	has(first("results"), "path", "profile", "workload", "metric", "unit", "median", "low", "high", "samples")
	has(first("ratios"), "of", "to", "profile", "workload", "metric", "ratio", "low", "high", "confidence", "pairs")
	if fields["schema"] != 1.0 {
		t.Error("the schema is", fields["schema"])
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		``:             "is no result of weft-bench",
		`[]`:           "is no result of weft-bench",
		`{}`:           "has schema 0",
		`{"schema":2}`: "has schema 2, and this weft-bench reads 1",
	} {
		file := filepath.Join(t.TempDir(), "run.json")
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if d, err := Read(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %+v, %v", text, d, err)
		}
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.01234: "0.0123", 0.5: "0.50", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 54321: "54321", -2.5: "-2.50",
	} {
		if got := number(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}
