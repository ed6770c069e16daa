package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// Paths of the protocol.
const (
	pathStatus = "/v1/status"
	pathRenew  = "/v1/lease/renew"
)

// maxBody bounds a request, in bytes; what is sent are a few words.
const maxBody = 4096

// Daemon is what the socket gives access to. Its methods are called from
// several goroutines at once.
type Daemon interface {
	Status() Status

	// RenewLease renews this node's lease at once and returns it as it then
	// is. With newSubnet it takes another subnet and gives up the present
	// one.
	RenewLease(ctx context.Context, newSubnet bool) (Lease, error)
}

// RenewRequest is the body of POST /v1/lease/renew; the answer is a Lease.
type RenewRequest struct {
	NewSubnet bool `json:"new_subnet"`
}

// failure is the body of every answer that is not 200.
type failure struct {
	Error string `json:"error"`
}

// Serve answers requests on l, which Listen made, until ctx ends, and closes
// l. It returns nil then, and before that only when accepting fails.
func Serve(ctx context.Context, l net.Listener, d Daemon, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+pathStatus, func(w http.ResponseWriter, _ *http.Request) {
		reply(w, http.StatusOK, d.Status())
	})
	mux.HandleFunc("POST "+pathRenew, func(w http.ResponseWriter, r *http.Request) {
		renew(w, r, d)
	})
	server := &http.Server{
		Handler:           onlyRoot(mux, os.Getuid()),
		ConnContext:       withCredentials,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		ReadHeaderTimeout: 5 * time.Second,
		IdleTimeout:       time.Minute,
	}
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(l) }()
	select {
	case err := <-failed:
		server.Close()
		return fmt.Errorf("serve the control socket: %w", err)
	case <-ctx.Done():
	}
	// Requests see ctx end too, so they finish soon; those that do not are
	// cut off.
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	if server.Shutdown(grace) != nil {
		server.Close()
	}
	<-failed
	return nil
}

func renew(w http.ResponseWriter, r *http.Request, d Daemon) {
	var req RenewRequest
	decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&req); err != nil {
		reply(w, http.StatusBadRequest, failure{"read the request: " + err.Error()})
		return
	}
	lease, err := d.RenewLease(r.Context(), req.NewSubnet)
	if err != nil {
		reply(w, http.StatusServiceUnavailable, failure{err.Error()})
		return
	}
	reply(w, http.StatusOK, lease)
}

func reply(w http.ResponseWriter, status int, body any) {
	text, err := json.Marshal(body)
	if err != nil { // a type in Status that JSON cannot hold
		status, text = http.StatusInternalServerError, []byte(`{"error":"write the answer as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	w.Write(append(text, '\n')) // the client may be gone: nobody to tell
}

type credentialsKey struct{}

// withCredentials notes who connected: SO_PEERCRED, see unix(7).
func withCredentials(ctx context.Context, c net.Conn) context.Context {
	cred, err := credentials(c)
	if err != nil {
		return ctx
	}
	return context.WithValue(ctx, credentialsKey{}, cred)
}

func credentials(c net.Conn) (*unix.Ucred, error) {
	uc, ok := c.(*net.UnixConn)
	if !ok {
		return nil, errors.New("not a unix socket")
	}
	raw, err := uc.SyscallConn()
	if err != nil {
		return nil, err
	}
	var cred *unix.Ucred
	var credErr error
	err = raw.Control(func(fd uintptr) {
		cred, credErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	return cred, errors.Join(err, credErr)
}

// onlyRoot lets root and the daemon's own user in, whatever has become of the
// socket's mode.
func onlyRoot(next http.Handler, own int) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		cred, ok := r.Context().Value(credentialsKey{}).(*unix.Ucred)
		if !ok || (cred.Uid != 0 && int(cred.Uid) != own) {
			reply(w, http.StatusForbidden, failure{"the control socket is for root only"})
			return
		}
		next.ServeHTTP(w, r)
	})
}
