package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/weftnet/weft/bench/lab/labtest"
)

func TestDemo(t *testing.T) {
	labtest.RequireRoot(t)
	out, err := exec.CommandContext(t.Context(), benchPath, "demo").CombinedOutput()
	if err != nil || !strings.HasSuffix(string(out), "\ndemo: ok\n") {
		t.Errorf("%v\n%s", err, out)
	}
	wantNoDemo(t)
}

func TestDemoInterrupted(t *testing.T) {
	labtest.RequireRoot(t)
	var out lockedBuffer
	cmd := exec.CommandContext(t.Context(), benchPath, "demo")
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); !strings.Contains(out.String(), "[4/"); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Error("no step 4 by now")
			break
		}
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 130 {
		t.Errorf("exit status %d\n%s", code, out.String())
	}
	wantNoDemo(t)
}

func TestDemoSaysWhichStepFailed(t *testing.T) {
	labtest.RequireRoot(t)
	out, err := exec.CommandContext(t.Context(), benchPath, "demo", "--weftd=/bin/false").CombinedOutput()
	if err == nil || !strings.Contains(string(out), "demo: failed: step 2") || !strings.Contains(string(out), "logs are in") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := exec.CommandContext(t.Context(), benchPath, "demo", "--clean").CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	wantNoDemo(t)
}

func wantNoDemo(t *testing.T) {
	t.Helper()
	for _, pattern := range []string{"/run/netns/weft-demo*", filepath.Join(os.TempDir(), "weft-demo*")} {
		if left, _ := filepath.Glob(pattern); len(left) > 0 {
			t.Error("left behind:", left)
		}
	}
}

// lockedBuffer is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}
