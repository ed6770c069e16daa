package run

import (
	"encoding/json"
	"strings"
	"testing"
)

// A path whose packets were carried by another than its name says is no sample.
func TestProof(t *testing.T) {
	const off = "off: disabled"
	for _, test := range []struct {
		name    string
		path    path
		counted tally
		want    float64 // the kernel's part in percent; 0: not told
		err     string
	}{
		{name: "both", path: path{carried: kernelToo, assist: assistInForce}, counted: tally{200, 50}, want: 25},
		{name: "no kernel", path: path{carried: kernelToo, assist: assistInForce}, counted: tally{200, 0}, err: "none of 200 packets"},
		{name: "a kernel that cannot", path: path{carried: kernelToo, assist: off}, counted: tally{200, 0}},
		{name: "a kernel that should not", path: path{carried: kernelToo, assist: off}, counted: tally{200, 1}, err: "1 of 200 packets"},
		{name: "user space", path: path{carried: userSpace, assist: off}, counted: tally{200, 0}},
		{name: "the kernel by mistake", path: path{carried: userSpace, assist: off}, counted: tally{200, 200}, err: "200 of 200 packets"},
		{name: "another path", path: path{carried: userSpace, assist: off}, err: "not this path"},
		{name: "no choice of weftd's"},
	} {
		before := tally{1000, 100}
		got, err := test.path.proof(before, tally{before.all + test.counted.all, before.byKernel + test.counted.byKernel})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: %v, want %q", test.name, err, test.err)
			}
			continue
		}
		if err != nil || (len(got) == 1) != (test.want > 0) || len(got) == 1 && (got[0] != metric{"by_kernel", "%", test.want}) {
			t.Errorf("%s: %v, %v", test.name, got, err)
		}
	}
}

func TestWithoutAssist(t *testing.T) {
	for text, want := range map[string]string{
		`{"backend": {"capabilities": [{"name": "tso"}, {"name": "assist", "on": true}]}}`:        "",
		`{"backend": {"capabilities": [{"name": "assist", "on": false, "why": "Linux is old"}]}}`: "off: Linux is old",
		`{"backend": {"capabilities": [{"name": "batching"}]}}`:                                   "off: this engine has none",
	} {
		var s weftdStatus
		if err := json.Unmarshal([]byte(text), &s); err != nil {
			t.Fatal(err)
		}
		if got := s.withoutAssist(); got != want {
			t.Errorf("%s: %q", text, got)
		}
	}
}

// A veth alone hands over what a NIC would cut.
func TestWhole(t *testing.T) {
	for _, name := range ProfileNames() {
		if whole := profileOf(name).whole(); whole != (name == "veth") {
			t.Errorf("superpackets pass %s whole: %v", name, whole)
		}
	}
}
