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
		{"run --help", 0, "", "direct,host-gw,vxlan,udp,udp-user,udp-classic,flanneld-udp,flanneld-vxlan; unless"},
		{"run --quick --help", 0, "", "-rounds"},
		{"run --profiles=all --rounds=0", 1, "", "0 rounds"},
		{"run now", 2, "", `unexpected argument "now"`},
		{"run --paths=carrier-pigeon", 1, "", `unknown path "carrier-pigeon": there are direct, host-gw, vxlan, udp, udp-user, udp-classic`},
		{"run --quick --rounds=0", 1, "", "0 rounds"},
		{"run --weftd=/nonexistent", 1, "", "run: failed"}, // or no root
		{"generator", 1, "", ""},
		{"report", 2, "", "usage: weft-bench report"},
		{"report --help", 0, "", "-markdown"},
		{"report /nonexistent", 1, "", "weft-bench run --json"},
	} {
		var stdout, stderr strings.Builder
		status := dispatch(context.Background(), strings.Fields(test.args), &stdout, &stderr)
		if status != test.status || !strings.Contains(stdout.String(), test.stdout) || !strings.Contains(stderr.String(), test.stderr) {
			t.Errorf("%q: exit status %d, %q, %q", test.args, status, &stdout, &stderr)
		}
	}
}
