package main

import (
	"context"
	"strings"
	"testing"
)

func TestDispatch(t *testing.T) {
	for _, test := range []struct {
		args   string
		status int
		stdout string
		stderr string
	}{
		{"", 2, "", "usage: weft-bench"},
		{"help", 0, "usage: weft-bench", ""},
		{"dmeo", 2, "", `unknown command "dmeo"`},
		{"demo --help", 0, "", "-keep"},
		{"demo --kepe", 2, "", "-kepe"},
		{"demo now", 2, "", `unexpected argument "now"`},
		{"demo --weftd=/nonexistent", 1, "", "demo: failed"}, // or no root
	} {
		var stdout, stderr strings.Builder
		status := dispatch(context.Background(), strings.Fields(test.args), &stdout, &stderr)
		if status != test.status || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: exit status %d, %q, %q", test.args, status, &stdout, &stderr)
		}
	}
}
