package control

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"go.uber.org/goleak"
)

// holdEnv makes the test binary a daemon that holds the socket it names.
const holdEnv = "WEFT_TEST_HOLD_SOCKET"

func TestMain(m *testing.M) {
	if path := os.Getenv(holdEnv); path != "" {
		hold(path)
	}
	goleak.VerifyTestMain(m)
}

func hold(path string) {
	l, err := Listen(context.Background(), path)
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("listening")
	io.Copy(io.Discard, os.Stdin) // until the test ends, however it ends
	l.Close()
	os.Exit(0)
}

// startHolder starts a process that holds the socket.
func startHolder(t *testing.T, path string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), holdEnv+"="+path)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stdin.Close()
		cmd.Wait()
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil || line != "listening\n" {
		t.Fatalf("the holder says %q, %v", line, err)
	}
	return cmd
}

func TestListenIsForItsUserOnly(t *testing.T) {
	// The mode must not depend on the umask.
	old := syscall.Umask(0)
	defer syscall.Umask(old)
	dir := filepath.Join(t.TempDir(), "run", "weft")
	path := filepath.Join(dir, "weftd.sock")
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	wantMode(t, dir, fs.ModeDir|0o755)
	wantMode(t, path, fs.ModeSocket|0o600)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dir)
	if err != nil || len(left) > 0 {
		t.Errorf("Close left %v, %v", left, err)
	}
	l.Close() // again, as http.Server does
}

func wantMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	info, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode() != want {
		t.Errorf("mode of %s is %s, want %s", path, info.Mode(), want)
	}
}

func TestListenWhileAnotherDaemonLives(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	other := startHolder(t, path)
	l, err := Listen(t.Context(), path)
	if err == nil {
		l.Close()
		t.Fatal("no error while another daemon holds the socket")
	}
	want := fmt.Sprintf("another weftd runs (pid %d); stop it first, or give this one a --control-socket, --state-dir and --subnet-file of its own", other.Process.Pid)
	if err.Error() != want {
		t.Errorf("error %q, want %q", err, want)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatalf("the other daemon's socket: %v", err)
	}
	c.Close()
}

// A second daemon in the same process is refused as well: the lock belongs to
// the open file, not to the process.
func TestListenTwice(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	for range 2 { // the second time over the files that the first left
		l, err := Listen(t.Context(), path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := Listen(t.Context(), path); err == nil || !strings.Contains(err.Error(), fmt.Sprintf("another weftd runs (pid %d)", os.Getpid())) {
			t.Errorf("second Listen: error %v", err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestListenReplacesTheSocketOfADeadDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	other := startHolder(t, path)
	if err := other.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	other.Wait()
	wantMode(t, path, fs.ModeSocket|0o600) // stale, but there
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
}

// Of many that start and stop at once, one at a time has the socket.
func TestListenAlone(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	var holders, turns atomic.Int32
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 200 {
				l, err := Listen(t.Context(), path)
				if err != nil {
					if !strings.HasPrefix(err.Error(), "another weftd runs") {
						t.Error(err)
					}
					continue
				}
				if n := holders.Add(1); n != 1 {
					t.Errorf("%d hold the socket at once", n)
				}
				turns.Add(1)
				holders.Add(-1)
				if err := l.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	group.Wait()
	if turns.Load() == 0 {
		t.Error("none ever had it")
	}
}

func TestListenErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	long := filepath.Join("/tmp", strings.Repeat("x", 200))
	tests := []struct{ path, want string }{
		{file, "control socket " + file + ": there is something else at that path; remove it or choose another with --control-socket"},
		{long, "control socket " + long + ": the path is 205 bytes long, the kernel allows 107; choose another with --control-socket"},
		{filepath.Join(file, "s"), "make the directory of the control socket: mkdir " + file + ": not a directory"},
	}
	for _, tt := range tests {
		l, err := Listen(t.Context(), tt.path)
		if err == nil {
			l.Close()
			t.Errorf("Listen(%s): no error", tt.path)
			continue
		}
		if err.Error() != tt.want {
			t.Errorf("Listen(%s):\n  %s\nwant\n  %s", tt.path, err, tt.want)
		}
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "precious" {
		t.Errorf("the file in the way is now %q, %v", text, err)
	}
	// The longest path that works.
	path := filepath.Join(dir, strings.Repeat("x", maxPath-len(dir)-1))
	l, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}
