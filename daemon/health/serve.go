// Package health tells others how the daemon is: /healthz and /readyz for
// load balancers and monitoring, and systemd's notifications.
package health

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"syscall"
	"time"
)

// Listen opens the port of --healthz-ip and --healthz-port.
func Listen(ctx context.Context, addr netip.AddrPort) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", addr.String())
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, fmt.Errorf("serve health on %s: the port is in use by another program; choose another with --healthz-port", addr)
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, fmt.Errorf("serve health on %s: this host does not have the address; choose another with --healthz-ip", addr)
	case err != nil:
		return nil, fmt.Errorf("serve health on %s: %w", addr, err)
	}
	return l, nil
}

// Serve answers on l until ctx ends, and closes l. It returns nil then, and
// before that only when accepting fails.
//
// GET /healthz is 200 as long as the process answers, as with flannel. GET
// /readyz is 200 while notReady returns no reasons; otherwise 503 with one
// reason a line. notReady is called from several goroutines at once.
func Serve(ctx context.Context, l net.Listener, notReady func() []string, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		answer(w, http.StatusOK, "weftd is running")
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if reasons := notReady(); len(reasons) > 0 {
			answer(w, http.StatusServiceUnavailable, strings.Join(reasons, "\n"))
			return
		}
		answer(w, http.StatusOK, "weftd is ready")
	})
	server := &http.Server{
		Handler:           mux,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      5 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    8 << 10,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		server.Close()
		return fmt.Errorf("serve health: %w", err)
	case <-ctx.Done():
	}
	// Both answers are short, and a client that reads slowly is not waited for.
	server.Close()
	<-failed
	return nil
}

func answer(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(status)
	io.WriteString(w, text+"\n") // the client may be gone: nobody to tell
}
