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

// golden compares with a file of testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs (go test -update writes it anew):\n%.5000s", file, got)
	}
}

// read reads documents of testdata as runs.
func read(t *testing.T, names ...string) []Run {
	t.Helper()
	var documents []*Document
	for _, name := range names {
		d, err := Read(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		documents = append(documents, d)
	}
	return NewRuns(names, documents)
}

// run.json has a path without a result for one workload; full.json has every
// kind of figure that weft-bench measures.
func TestGolden(t *testing.T) {
	run, full, both := read(t, "run.json"), read(t, "full.json"), read(t, "run.json", "full.json")
	golden(t, "run.txt", Tables(run))
	golden(t, "run.md", Markdown(run))
	golden(t, "full.txt", Tables(full))
	golden(t, "full.md", Markdown(full))
	golden(t, "both.md", Markdown(both))
	page, err := HTML(full)
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "full.html", string(page))
	for _, s := range full[0].sheets() {
		if s.name == "carried-veth.svg" {
			golden(t, s.name, string(s.svg))
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

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.01234: "0.0123", 0.09996: "0.1000", 0.00004321: "0.0000432", -1.234e-9: "-1.23e-09", 0.5: "0.50", 9.876: "9.88", 12.34: "12.3", 123.4: "123", 54321: "54321", -2.5: "-2.50", 1e300: "1.00e+300",
	} {
		if got := Number(v); got != want {
			t.Errorf("%v is shown as %s, want %s", v, got, want)
		}
	}
}
