package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

type fakeDaemon struct {
	status Status
	renew  func(ctx context.Context, newSubnet bool) (Lease, error)
}

func (d *fakeDaemon) Status() Status { return d.status }

func (d *fakeDaemon) RenewLease(ctx context.Context, newSubnet bool) (Lease, error) {
	return d.renew(ctx, newSubnet)
}

// serve runs a server until the test ends, or until stop is called, which
// returns what Serve returned.
func serve(t *testing.T, d Daemon) (socket string, stop func() error) {
	t.Helper()
	socket = filepath.Join(t.TempDir(), "s")
	l, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- Serve(ctx, l, d, slog.New(slog.DiscardHandler)) }()
	stop = func() error {
		cancel()
		err := <-done
		done <- err
		return err
	}
	t.Cleanup(func() {
		if err := stop(); err != nil {
			t.Error(err)
		}
	})
	return socket, stop
}

func equal(a, b Status) string {
	return cmp.Diff(a, b, cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{}))
}

func TestStatusOverTheSocket(t *testing.T) {
	for _, want := range []Status{readyStatus(), brokenStatus(), startingStatus()} {
		socket, _ := serve(t, &fakeDaemon{status: want})
		got, err := GetStatus(t.Context(), socket)
		if err != nil {
			t.Fatal(err)
		}
		if d := equal(want, got); d != "" {
			t.Errorf("differs (-want +got):\n%s", d)
		}
	}
}

// The names in the JSON are an interface for scripts: these files change by
// adding only.
func TestStatusJSON(t *testing.T) {
	for name, s := range map[string]Status{"ready": readyStatus(), "broken": brokenStatus(), "starting": startingStatus()} {
		t.Run(name, func(t *testing.T) {
			text, err := json.MarshalIndent(s, "", "  ")
			if err != nil {
				t.Fatal(err)
			}
			golden(t, filepath.Join("testdata", name+".json"), string(text)+"\n")
		})
	}
}

func TestRenewLease(t *testing.T) {
	lease := Lease{Subnet: netip.MustParsePrefix("10.5.7.0/24"), Revision: 12, Expires: now, Held: true}
	var asked []bool
	socket, _ := serve(t, &fakeDaemon{renew: func(_ context.Context, newSubnet bool) (Lease, error) {
		asked = append(asked, newSubnet)
		if newSubnet {
			return Lease{}, errors.New("network full: 254 of 254 subnets are leased")
		}
		return lease, nil
	}})
	got, err := RenewLease(t.Context(), socket, false)
	if err != nil || got != lease {
		t.Errorf("RenewLease = %+v, %v; want %+v", got, err, lease)
	}
	_, err = RenewLease(t.Context(), socket, true)
	if err == nil || err.Error() != "network full: 254 of 254 subnets are leased" {
		t.Errorf("error %v", err)
	}
	if !cmp.Equal(asked, []bool{false, true}) {
		t.Errorf("the daemon was asked for %v", asked)
	}
}

func TestServeRefusesNonsense(t *testing.T) {
	socket, _ := serve(t, &fakeDaemon{renew: func(context.Context, bool) (Lease, error) {
		t.Error("a renewal reached the daemon")
		return Lease{}, nil
	}})
	tests := []struct {
		method, path, body string
		want               int
	}{
		{"GET", "/v1/nothing", "", 404},
		{"POST", pathStatus, "", 405},
		{"GET", pathRenew, "", 405},
		{"POST", pathRenew, "", 400},
		{"POST", pathRenew, "{", 400},
		{"POST", pathRenew, `{"new_subnet":"yes"}`, 400},
		{"POST", pathRenew, `{"new_subnets":true}`, 400},
		{"POST", pathRenew, `{"new_subnet":true` + strings.Repeat(" ", maxBody) + `}`, 400},
	}
	for _, tt := range tests {
		resp := do(t, dial(t, socket), tt.method, tt.path, tt.body)
		if resp.StatusCode != tt.want {
			t.Errorf("%s %s %.30s: %s, want %d", tt.method, tt.path, tt.body, resp.Status, tt.want)
		}
	}
}

func dial(t *testing.T, socket string) net.Conn {
	t.Helper()
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// do sends one request over c, and closes c.
func do(t *testing.T, c net.Conn, method, path, body string) *http.Response {
	t.Helper()
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(context.Context, string, string) (net.Conn, error) { return c, nil },
	}
	req, err := http.NewRequestWithContext(t.Context(), method, "http://weftd"+path, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(text))
	return resp
}

// The socket's mode keeps others out; and if that is ever opened up, the
// credentials of the peer do.
func TestOnlyRoot(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: connects as another user")
	}
	dir, err := os.MkdirTemp("/tmp", "weft-control")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(dir, "s")
	l, err := Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, &fakeDaemon{status: readyStatus()}, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	if _, err := connectAs(65534, socket); !errors.Is(err, unix.EACCES) {
		t.Errorf("connect as nobody: %v, want %v", err, unix.EACCES)
	}
	if err := os.Chmod(socket, 0o666); err != nil {
		t.Fatal(err)
	}
	c, err := connectAs(65534, socket)
	if err != nil {
		t.Fatal(err)
	}
	resp := do(t, c, "GET", pathStatus, "")
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != 403 || string(text) != `{"error":"the control socket is for root only"}`+"\n" {
		t.Errorf("status as nobody: %s %s %v, want 403", resp.Status, text, err)
	}
	if resp := do(t, dial(t, socket), "GET", pathStatus, ""); resp.StatusCode != 200 {
		t.Errorf("status as root: %s", resp.Status)
	}
}

// connectAs connects with another effective user ID, on a thread that is
// thrown away afterwards.
func connectAs(uid int, socket string) (net.Conn, error) {
	type result struct {
		c   net.Conn
		err error
	}
	done := make(chan result)
	go func() {
		runtime.LockOSThread() // and never unlocked: the thread ends with this goroutine
		c, err := connectOnThread(uid, socket)
		done <- result{c, err}
	}()
	r := <-done
	return r.c, r.err
}

func connectOnThread(uid int, socket string) (net.Conn, error) {
	// The raw call: package syscall's would change every thread.
	const keep = ^uintptr(0)
	if _, _, errno := unix.RawSyscall(unix.SYS_SETRESUID, keep, uintptr(uid), keep); errno != 0 {
		return nil, errno
	}
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	f := os.NewFile(uintptr(fd), "control")
	defer f.Close()
	if err := unix.Connect(fd, &unix.SockaddrUnix{Name: socket}); err != nil {
		return nil, err
	}
	return net.FileConn(f)
}

// When the daemon ends, requests under way end too, and the socket goes.
func TestServeEnds(t *testing.T) {
	entered := make(chan struct{})
	socket, stop := serve(t, &fakeDaemon{renew: func(ctx context.Context, _ bool) (Lease, error) {
		close(entered)
		<-ctx.Done()
		return Lease{}, errors.New("the daemon is stopping")
	}})
	answer := make(chan error, 1)
	go func() {
		_, err := RenewLease(context.Background(), socket, false)
		answer <- err
	}()
	<-entered
	if err := stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	if err := <-answer; err == nil || err.Error() != "the daemon is stopping" {
		t.Errorf("the request under way: %v", err)
	}
	if _, err := os.Lstat(socket); !os.IsNotExist(err) {
		t.Errorf("the socket after the end: %v", err)
	}
}

func TestServeFails(t *testing.T) {
	l, err := Listen(t.Context(), filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), l, &fakeDaemon{}, slog.New(slog.DiscardHandler)) }()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) || !strings.HasPrefix(err.Error(), "serve the control socket: ") {
			t.Errorf("error %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Serve goes on without a listener")
	}
}
