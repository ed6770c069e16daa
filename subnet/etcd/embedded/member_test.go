package embedded

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/client/pkg/v3/transport"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"

	"github.com/weftnet/weft/subnet/etcd/pki"
)

// TestRestart stops a member while a watch is open, and starts it again on the
// same directory and port.
func TestRestart(t *testing.T) {
	log := &logBuffer{}
	dir := filepath.Join(t.TempDir(), "state", "etcd")
	cfg := local(dir, slog.New(slog.NewTextHandler(log, nil)))
	m := start(t, cfg)
	if fi, err := os.Stat(dir); err != nil || fi.Mode().Perm() != 0o700 {
		t.Errorf("data directory: %v, error %v; want mode 0700", fi.Mode(), err)
	}
	c := dial(t, clientv3.Config{Endpoints: m.Endpoints()})
	put(t, c, "a", "1")
	before, err := c.MemberList(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w := c.Watch(ctx, "a", clientv3.WithRev(1))
	if resp := <-w; len(resp.Events) != 1 {
		t.Fatalf("watch got %+v, want one event", resp)
	}
	ended := rawWatch(t, c)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	// Else etcd would have waited for it, for seven seconds.
	if err := <-ended; status.Convert(err).Message() != "etcd is stopping" {
		t.Errorf("the watch was not ended, but %v", err)
	}
	if err := m.Err(); err != nil {
		t.Errorf("error after Close: %v", err)
	}

	cfg.ListenClient = m.Endpoints()
	m = start(t, cfg)
	if got := get(t, c, "a"); got != "1" {
		t.Errorf("after a restart a is %q, want 1", got)
	}
	put(t, c, "a", "2")
	if resp := <-w; len(resp.Events) != 1 || string(resp.Events[0].Kv.Value) != "2" {
		t.Errorf("the watch got %+v, want the change", resp)
	}
	after, err := c.MemberList(t.Context())
	if err != nil || after.Header.ClusterId != before.Header.ClusterId {
		t.Errorf("cluster %x became %x, error %v", before.Header.ClusterId, after.Header.ClusterId, err)
	}
	m.Close()
	for line := range strings.Lines(log.String()) {
		if !complaint.MatchString(line) {
			t.Errorf("a healthy member logged: %s", line)
		}
	}
}

// complaint is what etcd says of a machine that is busy or has a slow disk.
var complaint = regexp.MustCompile("took too long|slow fdatasync|timed out")

// rawWatch opens a watch that nobody mends, and tells how it ends.
func rawWatch(t *testing.T, c *clientv3.Client) (ended <-chan error) {
	t.Helper()
	w, err := pb.NewWatchClient(c.ActiveConnection()).Watch(t.Context())
	if err == nil {
		err = w.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: &pb.WatchCreateRequest{Key: []byte("b")}}})
	}
	if err == nil {
		_, err = w.Recv()
	}
	if err != nil {
		t.Fatal(err)
	}
	end := make(chan error, 1)
	go func() {
		_, err := w.Recv()
		end <- err
	}()
	return end
}

// TestWipe checks that a member on an emptied directory is another cluster, by
// which clients know that revisions mean nothing any more.
func TestWipe(t *testing.T) {
	var ids [2]uint64
	for i := range ids {
		m := start(t, local(t.TempDir(), nil))
		resp, err := dial(t, clientv3.Config{Endpoints: m.Endpoints()}).Get(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		ids[i] = resp.Header.ClusterId
		m.Close()
	}
	if ids[0] == ids[1] {
		t.Errorf("two clusters have the same ID %x", ids[0])
	}
}

func TestSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	for i, want := range []string{"", "1", "2"} {
		cmd, line := startChild(t, dir)
		endpoint, ok := strings.CutPrefix(line, "endpoint: ")
		if !ok {
			t.Fatalf("start %d: %s", i, line)
		}
		c := dial(t, clientv3.Config{Endpoints: []string{endpoint}})
		if got := get(t, c, "a"); got != want {
			t.Fatalf("start %d: a is %q, want %q", i, got, want)
		}
		put(t, c, "a", string(rune('1'+i)))
		cmd.Process.Kill()
		cmd.Wait()
	}
}

func TestDirectoryInUse(t *testing.T) {
	dir := t.TempDir()
	cfg := local(dir, nil)
	m := start(t, cfg)
	_, err := Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "another process uses it") || !strings.Contains(err.Error(), dir) {
		t.Errorf("second member on a directory: %v", err)
	}
	m.Close()

	// An etcd that is not ours locks the database only.
	db, err := os.Open(filepath.Join(dir, "member", "snap", "db"))
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Flock(int(db.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := Start(t.Context(), cfg); err == nil || !strings.Contains(err.Error(), "another process uses it") {
		t.Errorf("member on a locked database: %v", err)
	}
	db.Close()
	start(t, cfg)
}

func TestPortInUse(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cfg := local(t.TempDir(), nil)
	cfg.ListenClient = []string{"http://" + l.Addr().String()}
	_, err = Start(t.Context(), cfg)
	if err == nil || !strings.Contains(err.Error(), "address already in use: is an etcd or a second weftd running?") {
		t.Errorf("member on a port in use: %v", err)
	}
	// Nothing is held after the failure.
	l.Close()
	start(t, cfg)
}

func TestDamagedData(t *testing.T) {
	for name, damage := range map[string]func(t *testing.T, member string){
		"database": func(t *testing.T, member string) {
			scribble(t, filepath.Join(member, "snap", "db"))
		},
		"log": func(t *testing.T, member string) {
			logs, err := filepath.Glob(filepath.Join(member, "wal", "*.wal"))
			if err != nil || len(logs) == 0 {
				t.Fatalf("no write-ahead log: %v", err)
			}
			scribble(t, logs[0])
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			m := start(t, local(dir, nil))
			put(t, dial(t, clientv3.Config{Endpoints: m.Endpoints()}), "a", "1")
			m.Close()
			damage(t, filepath.Join(dir, "member"))
			cmd, line := startChild(t, dir)
			if !strings.HasPrefix(line, "error: start the embedded etcd with data directory "+dir) ||
				!strings.Contains(line, "move the directory away") {
				t.Errorf("member on a damaged %s says %q", name, line)
			}
			if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 1 {
				t.Errorf("child ended with %v, want an orderly exit", err)
			}
		})
	}
}

// scribble overwrites the first pages of a file.
func scribble(t *testing.T, path string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := f.WriteAt([]byte(strings.Repeat("weft", 5000)), 0); err != nil {
		t.Fatal(err)
	}
}

// TestFatal lets etcd log a fatal error while it runs.
func TestFatal(t *testing.T) {
	m := start(t, local(t.TempDir(), nil))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		cause := zapcore.Field{Key: "error", Type: zapcore.ErrorType, Interface: errors.New("no space left on device")}
		m.etcd.GetLogger().Fatal("failed to write", cause)
		t.Error("the goroutine goes on after a fatal error")
	}()
	<-ended
	<-m.Done()
	if err := m.Err(); err == nil || err.Error() != "the embedded etcd failed: failed to write: no space left on device" {
		t.Errorf("member ended with %v", err)
	}
}

func TestClientCertificates(t *testing.T) {
	files, err := pki.Init(filepath.Join(t.TempDir(), "pki"), nil)
	if err != nil {
		t.Fatal(err)
	}
	m := start(t, Config{
		DataDir:      t.TempDir(),
		ListenClient: []string{"https://127.0.0.1:0"},
		CertFile:     files.Server.Cert, KeyFile: files.Server.Key, CAFile: files.CA.Cert,
	})
	dialTLS := func(info transport.TLSInfo) *clientv3.Client {
		cfg, err := info.ClientConfig()
		if err != nil {
			t.Fatal(err)
		}
		cfg.MinVersion = tls.VersionTLS12
		return dial(t, clientv3.Config{Endpoints: m.Endpoints(), TLS: cfg})
	}
	put(t, dialTLS(transport.TLSInfo{TrustedCAFile: files.CA.Cert, CertFile: files.Client.Cert, KeyFile: files.Client.Key}), "a", "1")

	stranger := dialTLS(transport.TLSInfo{TrustedCAFile: files.CA.Cert})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := stranger.Get(ctx, "a"); err == nil {
		t.Error("a client without a certificate was let in")
	}
	web := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
	}}
	if resp, err := web.Get("https://" + m.etcd.Peers[0].Addr().String() + "/members"); err == nil {
		resp.Body.Close()
		t.Error("a peer without a certificate was let in")
	}
}

// TestHTTP checks that HTTP is served on the socket and not on the port.
func TestHTTP(t *testing.T) {
	dir := t.TempDir()
	m := start(t, local(dir, nil))
	web := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Minute}
	if resp, err := web.Get(m.Endpoints()[0] + "/metrics"); err == nil {
		resp.Body.Close()
		t.Errorf("the port answers HTTP with %s", resp.Status)
	}
	web.Transport.(*http.Transport).DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", filepath.Join(dir, "http.sock"))
	}
	resp, err := web.Get("http://etcd/health")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("the socket answers %s", resp.Status)
	}
}

func TestStartErrors(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		cfg  Config
		want string
	}{
		{Config{}, "no data directory"},
		{Config{DataDir: "/" + strings.Repeat("d", 100)}, "shorter by 4 bytes"},
		{Config{DataDir: dir, CertFile: file}, "certificate and its key together"},
		{Config{DataDir: dir, CertFile: "/nonexistent", KeyFile: file}, "/nonexistent: no such file"},
		{Config{DataDir: file, ListenClient: []string{"http://127.0.0.1:0"}}, "make the data directory"},
		{Config{DataDir: dir, ListenClient: []string{"http://192.0.2.1:2379"}, Insecure: true}, "no interface of this host has that address"},
		{Config{DataDir: dir, CertFile: file, KeyFile: file, ListenClient: []string{"https://127.0.0.1:0"}}, "failed to find any PEM data"},
	} {
		m, err := Start(t.Context(), tt.cfg)
		if err == nil {
			m.Close()
		}
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%+v: error %v, want one with %q", tt.cfg, err, tt.want)
		}
	}
}
