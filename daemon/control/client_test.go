package control

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestClientWithoutDaemon(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "stale")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: stale, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	for _, socket := range []string{filepath.Join(dir, "none"), stale} {
		_, err := GetStatus(t.Context(), socket)
		want := "weftd is not running (nothing answers at " + socket + "): start it with `systemctl start weftd`, or name its socket with --control-socket"
		if !errors.Is(err, ErrNotRunning) || err.Error() != want {
			t.Errorf("%s: error %v, want %s", socket, err, want)
		}
	}
}

func TestClientOfAStuckDaemon(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", socket) // the kernel takes the connection, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = GetStatus(ctx, socket)
	want := "the daemon at " + socket + " did not answer in time; its log may say why (journalctl -u weftd)"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

func TestClientWithoutPermission(t *testing.T) {
	err := explain(&net.OpError{Op: "dial", Net: "unix", Err: os.NewSyscallError("connect", fs.ErrPermission)}, "/run/weft/weftd.sock")
	want := "no permission for /run/weft/weftd.sock: the daemon answers root only, use sudo"
	if err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
}

// What listens there may be anything.
func TestClientOfAnotherProgram(t *testing.T) {
	tests := []struct {
		name   string
		status int
		body   string
		want   string
	}{
		{"an error page", 500, "<html>", "the daemon at SOCKET answered 500 Internal Server Error"},
		{"an error without text", 500, "{}", "the daemon at SOCKET answered 500 Internal Server Error"},
		{"no JSON", 200, "hello", "read the answer of the daemon at SOCKET: invalid character 'h' looking for beginning of value"},
		{"half an answer", 200, `{"version":"v1"`, "read the answer of the daemon at SOCKET: unexpected EOF"},
		{"a bad prefix", 200, `{"lease":{"subnet":"10.5.0.0"}}`, `read the answer of the daemon at SOCKET: netip.ParsePrefix("10.5.0.0"): no '/'`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Chdir(t.TempDir())
			l, err := net.Listen("unix", "SOCKET")
			if err != nil {
				t.Fatal(err)
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				w.Write([]byte(tt.body))
			})}
			done := make(chan error, 1)
			go func() { done <- server.Serve(l) }()
			defer func() {
				server.Close()
				<-done
			}()
			_, err = GetStatus(t.Context(), "SOCKET")
			if err == nil || err.Error() != tt.want {
				t.Errorf("error %v, want %s", err, tt.want)
			}
		})
	}
}
