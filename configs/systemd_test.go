package configs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// unitDir has the unit with a program that is there, and all drop-ins.
func unitDir(t *testing.T) (service string) {
	t.Helper()
	labtest.Program(t, "systemd", "systemd-analyze")
	unit, err := os.ReadFile("systemd/weftd.service")
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	service = filepath.Join(dir, "weftd.service")
	if err := os.WriteFile(service, []byte(strings.ReplaceAll(string(unit), "/usr/bin/weftd", self)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(service+".d", 0o755); err != nil {
		t.Fatal(err)
	}
	dropIn, err := os.ReadFile("systemd/embedded-etcd.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(service+".d", "embedded-etcd.conf"), dropIn, 0o644); err != nil {
		t.Fatal(err)
	}
	return service
}

// systemd finds nothing to say about the unit and its drop-in.
func TestUnitIsClean(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "verify", unitDir(t)).CombinedOutput()
	if err != nil || len(out) > 0 {
		t.Errorf("systemd-analyze verify: %v\n%s", err, out)
	}
}

// exposure is what docs/systemd.md says of the unit: tenths, of at most 100.
const exposure = 24

func TestUnitExposure(t *testing.T) {
	out, err := exec.CommandContext(t.Context(), "systemd-analyze", "security", "--no-pager",
		"--offline=true", "--threshold="+strconv.Itoa(exposure), unitDir(t)).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
	doc, err := os.ReadFile("../docs/systemd.md")
	if err != nil {
		t.Fatal(err)
	}
	told := regexp.MustCompile(`exposure level of (\d)\.(\d) `).FindSubmatch(doc)
	if told == nil || string(told[1])+string(told[2]) != strconv.Itoa(exposure) {
		t.Errorf("docs/systemd.md tells another exposure level: %q", told)
	}
}
