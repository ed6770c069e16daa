package health

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestServe(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	var reasons atomic.Pointer[[]string]
	reasons.Store(&[]string{"no lease yet", "waiting for etcd"})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- Serve(ctx, l, func() []string { return *reasons.Load() }, slog.New(slog.DiscardHandler))
	}()
	base := "http://" + l.Addr().String()

	expect(t, base+"/healthz", 200, "weftd is running\n")
	expect(t, base+"/readyz", 503, "no lease yet\nwaiting for etcd\n")
	reasons.Store(&[]string{})
	expect(t, base+"/readyz", 200, "weftd is ready\n")
	reasons.Store(&[]string{"the data path hangs"})
	expect(t, base+"/healthz", 200, "weftd is running\n") // the process lives
	expect(t, base+"/readyz", 503, "the data path hangs\n")
	expect(t, base+"/", 404, "404 page not found\n")

	cancel()
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	// Not by a connection: another program may have the port by now.
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the port is still open after the end: %v", err)
	}
}

func expect(t *testing.T, url string, status int, body string) {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true}
	req, err := http.NewRequestWithContext(t.Context(), "GET", url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != status || string(text) != body {
		t.Errorf("%s: %d %q, want %d %q", url, resp.StatusCode, text, status, body)
	}
}

func TestListenErrors(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	tests := []struct{ addr, want string }{
		{taken.Addr().String(), "the port is in use by another program; choose another with --healthz-port"},
		{"192.0.2.77:8471", "this host does not have the address; choose another with --healthz-ip"}, // TEST-NET-1, RFC 5737
	}
	for _, tt := range tests {
		l, err := Listen(t.Context(), netip.MustParseAddrPort(tt.addr))
		if err == nil {
			l.Close()
			t.Errorf("Listen(%s): no error", tt.addr)
			continue
		}
		if want := "serve health on " + tt.addr + ": " + tt.want; err.Error() != want {
			t.Errorf("error %q, want %q", err, want)
		}
	}
}

func TestServeFails(t *testing.T) {
	l, err := Listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	done := make(chan error, 1)
	go func() { done <- Serve(t.Context(), l, nil, slog.New(slog.DiscardHandler)) }()
	select {
	case err := <-done:
		if !errors.Is(err, net.ErrClosed) || !strings.HasPrefix(err.Error(), "serve health: ") {
			t.Errorf("error %v", err)
		}
	case <-time.After(time.Minute):
		t.Fatal("Serve goes on without a listener")
	}
}
