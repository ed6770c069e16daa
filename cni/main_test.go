package main

import (
	"bytes"
	"os"
	"os/exec"
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

func TestVerbs(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const refused = `"code": 50,`
	for _, test := range []struct {
		verb string
		fail bool
		want string // part of what is printed
	}{
		{"VERSION", false, `"supportedVersions":["0.3.1","0.4.0","1.0.0","1.1.0"]`},
		{"STATUS", true, refused},
		{"ADD", true, refused},
		{"CHECK", true, refused},
		{"DEL", false, ""},
		{"GC", false, ""},
	} {
		var stdout bytes.Buffer
		cmd := exec.Command(self)
		cmd.Env = []string{"CNI_COMMAND=" + test.verb, "CNI_CONTAINERID=c1", "CNI_IFNAME=eth0", "CNI_NETNS=/proc/self/ns/net", "CNI_NETNS_OVERRIDE=1", "CNI_PATH=/"}
		cmd.Stdin = strings.NewReader(`{"cniVersion": "1.1.0", "name": "weft", "type": "weft-cni", "cni.dev/valid-attachments": [], "prevResult": {"cniVersion": "1.1.0"}}`)
		cmd.Stdout = &stdout
		if err := cmd.Run(); (err != nil) != test.fail || !strings.Contains(stdout.String(), test.want) {
			t.Errorf("%s: %v, %s", test.verb, err, &stdout)
		}
	}
}
