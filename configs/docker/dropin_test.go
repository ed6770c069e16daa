package docker_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// systemd finds nothing to say about either drop-in, and neither ties Docker's
// restarts to weftd's.
func TestDropInsAreClean(t *testing.T) {
	labtest.Program(t, "systemd", "systemd-analyze")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("*.conf")
	if err != nil || len(files) != 2 {
		t.Fatalf("drop-ins %q, %v; want 2", files, err)
	}
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if tied := regexp.MustCompile(`(?m)^(Requires|BindsTo|PartOf|Requisite)=`).Find(text); tied != nil {
				t.Errorf("it has %s", tied)
			}
			dir := t.TempDir()
			for name, content := range map[string]string{
				"weftd.service":              "[Service]\nExecStart=" + self + "\n",
				"docker.service":             "[Service]\nExecStart=" + self + "\n",
				"docker.service.d/weft.conf": strings.ReplaceAll(string(text), "/usr/bin/weftd", self),
			} {
				path := filepath.Join(dir, name)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			cmd := exec.CommandContext(t.Context(), "systemd-analyze", "verify", filepath.Join(dir, "docker.service"))
			cmd.Env = append(os.Environ(), "SYSTEMD_UNIT_PATH="+dir+":")
			if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("systemd-analyze verify: %v\n%s", err, out)
			}
		})
	}
}
