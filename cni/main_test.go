package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The test binary serves as the plugin when it is called as one.
func TestMain(m *testing.M) {
	if os.Getenv("CNI_COMMAND") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

// Under either name the process answers as CNI has it; what the verbs do is
// tested in package plugin.
func TestProcess(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	flannel := filepath.Join(dir, "flannel")
	if err := os.Symlink(self, flannel); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		verb string
		fail bool
		want string // part of what is printed
	}{
		{"VERSION", false, `"supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]`},
		{"STATUS", true, `"code": 50,`},
		{"ADD", true, `"code": 11,`},
		{"CHECK", true, `"code": 3,`},
		{"DEL", false, ""},
		{"GC", true, `"code": 50,`}, // there is no delegate to pass it on to
	} {
		for _, path := range []string{self, flannel} {
			var stdout bytes.Buffer
			cmd := exec.Command(path)
			cmd.Env = []string{"CNI_COMMAND=" + test.verb, "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=1", "CNI_PATH=" + dir}
			cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "weft", "type": "flannel", "subnetFile": "` + dir + `/none", "dataDir": "` + dir + `/data", "ipam": {"dataDir": "` + dir + `"}}`)
			cmd.Stdout = &stdout
			if err := cmd.Run(); (err != nil) != test.fail || !strings.Contains(stdout.String(), test.want) {
				t.Errorf("%s: %v, %s", test.verb, err, &stdout)
			}
		}
	}
}
