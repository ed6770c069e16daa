package main

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// udpFigure finds the figure that the test makes slow.
var udpFigure = regexp.MustCompile(`\{"path": "udp", "profile": "veth", "workload": "tcp1", "metric": "throughput",[^}]*}`)

func TestReportAndCompare(t *testing.T) {
	const full, run = "report/testdata/full.json", "report/testdata/run.json"
	dir := t.TempDir()
	later := filepath.Join(dir, "later.json")
	if err := os.WriteFile(later, []byte(`{"schema":2}`), 0o644); err != nil {
		t.Fatal(err)
	}
	// The same run with a tenth of udp's TCP.
	b, err := os.ReadFile(full)
	if err != nil {
		t.Fatal(err)
	}
	slow := filepath.Join(dir, "slow.json")
	line := udpFigure.FindString(string(b))
	if err := os.WriteFile(slow, []byte(strings.Replace(string(b), line, `{"path": "udp", "profile": "veth", "workload": "tcp1", "metric": "throughput", "unit": "Gbit/s", "median": 2, "low": 1.9, "high": 2.1, "samples": [1.9, 2, 2, 2, 2.1]}`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	page := filepath.Join(dir, "page.html")
	for _, c := range []struct {
		args   []string
		status int
		stdout string
		stderr string
	}{
		{[]string{"report", full}, 0, "TCP 1 flow, Gbit/s", ""},
		{[]string{"report", full, run}, 0, "Run B: run.json", ""},
		{[]string{"report", full, "--markdown"}, 0, "| TCP 1 flow, Gbit/s |", ""},
		{[]string{"report", "--html", "-", full, run}, 0, "Side by side", ""},
		{[]string{"report", full, "--html", page}, 0, "", ""},
		{[]string{"report", full, "--html", dir}, 1, "", "write page"},
		{[]string{"report", full, "--svg", filepath.Join(dir, "svg")}, 0, "carried-veth.svg", ""},
		{[]string{"report", full, run, "--svg", dir}, 2, "", "takes one FILE"},
		{[]string{"report", later}, 1, "", "use the weft-bench that wrote it"},
		{[]string{"compare", full, full}, 0, "0 worse", ""},
		{[]string{"compare", full, slow}, 1, "1 worse", ""},
		{[]string{"compare", slow, full}, 0, "1 better", ""},
		{[]string{"compare", full, slow, "--threshold=0.95"}, 0, "0 worse", ""},
		{[]string{"compare", full, "--json", slow}, 1, `"verdict": "worse"`, ""},
		{[]string{"compare", run, full}, 0, "different machines", ""}, // with too few samples
		{[]string{"compare", full}, 2, "", "usage: weft-bench compare"},
		{[]string{"compare", full, later}, 2, "", "measure anew"},
		{[]string{"compare", full, "/nonexistent"}, 2, "", "weft-bench run --json"},
		{[]string{"compare", "--threshold=2", full, full}, 2, "", "a threshold of 2"},
		{[]string{"compare", "--help"}, 0, "", "-threshold"},
	} {
		var stdout, stderr strings.Builder
		status := dispatch(context.Background(), c.args, &stdout, &stderr)
		if status != c.status || !strings.Contains(stdout.String(), c.stdout) || !strings.Contains(stderr.String(), c.stderr) {
			t.Errorf("%q: exit status %d, %.2000q, %q", c.args, status, &stdout, &stderr)
		}
	}
	if b, err := os.ReadFile(page); err != nil || !strings.HasPrefix(string(b), "<!doctype html>") {
		t.Errorf("%.100s, %v", b, err)
	}
	if _, err := os.Stat(filepath.Join(dir, "svg", "ratio-vxlan.svg")); err != nil {
		t.Error(err)
	}
}
