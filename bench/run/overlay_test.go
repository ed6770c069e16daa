package run

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
)

// builtWeftd is the weftd in WEFT_BIN, or one built now.
func builtWeftd(t *testing.T) string {
	t.Helper()
	labtest.RequireRoot(t)
	if dir := os.Getenv("WEFT_BIN"); dir != "" {
		return filepath.Join(dir, "weftd")
	}
	file := filepath.Join(t.TempDir(), "weftd")
	if out, err := exec.Command("go", "build", "-o", file, "../../daemon").CombinedOutput(); err != nil {
		t.Fatalf("build weftd: %v\n%s", err, out)
	}
	return file
}

// Each of weft's own paths carries packets, and flannel's daemon is told apart
// from one that breaks. (A real flanneld is for trying by hand.)
func TestOverlays(t *testing.T) {
	o := short(t)
	o.Weftd = builtWeftd(t)
	o.Workloads, o.Profiles = []string{"rtt"}, []string{"veth"}
	o.Warmup = 200 * time.Millisecond
	t.Run("weftd", func(t *testing.T) {
		o := o
		o.Paths = []string{"host-gw", "vxlan", "udp", "udp-user", "udp-classic"}
		labtest.OneOfSome(t, func() string { return overlaysMeasured(t, o) })
	})
	t.Run("flanneld that ends", func(t *testing.T) {
		o := o
		o.Paths = []string{"flanneld-udp"}
		o.Flanneld = filepath.Join(t.TempDir(), "flanneld")
		const fake = "#!/bin/sh\n[ \"$1\" = -version ] && echo v0.0.0 && exit 0\necho no such option >&2\nexit 2\n"
		if err := os.WriteFile(o.Flanneld, []byte(fake), 0o755); err != nil {
			t.Fatal(err)
		}
		var out strings.Builder
		err := Run(t.Context(), o, &out, &out)
		if err == nil || !strings.Contains(err.Error(), "flanneld of path flanneld-udp") || !strings.Contains(err.Error(), "no such option") {
			t.Error("the error is", err)
		}
		if !strings.Contains(out.String(), "the logs of path flanneld-udp are in") {
			t.Error("it does not say where the logs are:", out.String())
		}
		if err := os.RemoveAll(filepath.Join(os.TempDir(), labName(&o, "flanneld-udp"))); err != nil {
			t.Error(err)
		}
		wantNothingLeft(t, o)
	})
}

// overlaysMeasured returns which figure is missing, or not as it should be.
func overlaysMeasured(t *testing.T, o Options) (amiss string) {
	d, _ := measured(t, o)
	for path, mtu := range map[string]int{"host-gw": 1500, "vxlan": 1450, "udp": 1472, "udp-user": 1472, "udp-classic": 1472} {
		if got := d.Environment.MTU[path]; got != mtu {
			t.Errorf("the MTU of %s is %d", path, got)
		}
		for _, metric := range []string{"half_rtt_p50", "cpu_daemons", "memory_daemons"} {
			if r := d.Find(path, "veth", "rtt", metric); r == nil || metric != "cpu_daemons" && r.Median <= 0 {
				amiss = fmt.Sprintf("%s of %s: %+v", metric, path, r)
			}
		}
	}
	if user := d.Find("udp-user", "veth", "rtt", "syscalls_daemons"); d.Environment.Syscalls == callEvent && (user == nil || user.Median < 4) {
		amiss = fmt.Sprintf("a request and its answer take a read and a write of each of two daemons twice: %+v", user)
	}
	if d.Environment.Assist != assistInForce {
		t.Errorf("the assist is %s", d.Environment.Assist)
	}
	if udp := d.Find("udp", "veth", "rtt", "by_kernel"); udp == nil || udp.Median < 90 {
		amiss = fmt.Sprintf("requests and answers were not the kernel's: %+v", udp)
	}
	return amiss
}
