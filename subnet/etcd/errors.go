package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// ErrNoAnswer is in the errors of requests that etcd neither did nor refused,
// and that it may do a little later: nothing listens there yet, or it has no
// leader.
var ErrNoAnswer = errors.New("etcd does not answer")

// explained is an error in words that say what to do, around the one it
// explains.
type explained struct {
	text     string
	err      error
	noAnswer bool
}

func (e *explained) Error() string        { return e.text }
func (e *explained) Unwrap() error        { return e.err }
func (e *explained) Is(target error) bool { return target == ErrNoAnswer && e.noAnswer }

// explain says in one line what went wrong while doing what.
func (r *Registry) explain(what string, err error) error {
	if err == nil || errors.Is(err, errClosed) || errors.Is(err, context.Canceled) {
		return wrap(what, err)
	}
	at := "etcd at " + strings.Join(r.endpoints, ", ")
	reason, noAnswer := r.reason(err)
	return &explained{text: what + ": " + at + ": " + reason, err: err, noAnswer: noAnswer}
}

func wrap(what string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s: %w", what, err)
}

// reason translates an error of etcd, gRPC or the connection under it. gRPC
// hands on only the text of what happened to a connection, hence the search
// in texts; the tests provoke each.
func (r *Registry) reason(err error) (words string, noAnswer bool) {
	text := err.Error()
	if s, ok := status.FromError(err); ok {
		text = s.Message()
	}
	if words := r.refusal(text); words != "" {
		return words, false
	}
	if words := r.silence(text, err); words != "" {
		return words, true
	}
	// What is left, without gRPC's own words in front.
	for _, p := range []string{"authentication handshake failed: ", "Error while dialing: ", "error reading from server: "} {
		text = after(text, p)
	}
	return strings.TrimSuffix(text, `"`), false
}

// refusal puts into words what somebody has to mend, "" if it is not that.
func (r *Registry) refusal(text string) string {
	has := func(parts ...string) bool { return containsAny(text, parts...) }
	switch {
	// Answers of etcd.
	case has(rpctypes.ErrUserEmpty.Error()):
		return "it wants a user name and a password: set --etcd-username and --etcd-password"
	case has(rpctypes.ErrAuthFailed.Error()):
		return fmt.Sprintf("it refuses user %q: wrong name or password", r.username)
	case has(rpctypes.ErrPermissionDenied.Error()):
		who := "the user of this certificate"
		if r.username != "" {
			who = fmt.Sprintf("user %q", r.username)
		}
		return fmt.Sprintf("%s lacks permission: grant its role everything below the prefix (etcdctl role grant-permission ROLE readwrite --prefix %s/)", who, r.prefix)
	case has(rpctypes.ErrNoSpace.Error()):
		return "its database is full: compact and defragment it, then run etcdctl alarm disarm"

	// TLS, as this side sees it. The certificate errors are crypto/x509's.
	case has("certificate signed by unknown authority"):
		return "its certificate is signed by an authority unknown here: give that authority's file with --etcd-cafile"
	case has("certificate has expired or is not yet valid"):
		return "its certificate has expired or is not yet valid: renew it, or set this host's clock (" + after(text, "x509: ") + ")"
	case has("x509: certificate is valid for", "x509: cannot validate certificate for", "x509: certificate is not valid for"):
		return "its certificate is for another name: use a name that it holds, or issue one with this name (" + after(text, "x509: ") + ")"
	case has("first record does not look like a TLS handshake"):
		return "it speaks no TLS there: write http instead of https, or give it certificates"
	// TLS, as the other side sees it.
	case has("remote error: tls:"):
		return "it refuses this host's certificate: give one signed by its client authority with --etcd-certfile and --etcd-keyfile (" + after(text, "remote error: tls: ") + ")"
	case has("error reading server preface") && !r.secure:
		return "it closes the connection at once: write https if it uses TLS (" + after(text, "error reading server preface: ") + ")"
	// A refusal for want of a certificate comes after the handshake of
	// TLS 1.3 and may be lost in the end of the connection.
	case has("EOF", "connection reset by peer", "broken pipe") && r.secure && !r.certificate:
		return "it closes the connection: if it wants a certificate of its clients, give one with --etcd-certfile and --etcd-keyfile"
	case has("EOF", "connection reset by peer", "broken pipe"):
		return "it closed the connection"
	}
	return ""
}

// silence puts into words what may pass by itself, "" if it is not that.
func (r *Registry) silence(text string, err error) string {
	switch {
	case containsAny(text, rpctypes.ErrNoLeader.Error(), rpctypes.ErrLeaderChanged.Error(), rpctypes.ErrTimeout.Error()):
		return "it has no leader: a majority of its members must be up (" + text + ")"
	case containsAny(text, "connection refused"):
		return "connection refused: is etcd running, and does it listen there?"
	case containsAny(text, "no route to host", "network is unreachable"):
		return after(text, "Error while dialing: ")
	case containsAny(text, "the client connection is closing"):
		return "the connection was given up for a fresh one"
	case errors.Is(err, context.DeadlineExceeded) || status.Code(err) == codes.DeadlineExceeded:
		return fmt.Sprintf("no answer within %v", r.timing.request.Round(time.Millisecond))
	}
	return ""
}

func containsAny(text string, parts ...string) bool {
	return slices.ContainsFunc(parts, func(p string) bool { return strings.Contains(text, p) })
}

// after returns what follows the last mark in text, or text.
func after(text, mark string) string {
	if i := strings.LastIndex(text, mark); i >= 0 {
		return strings.TrimRight(text[i+len(mark):], `"`)
	}
	return text
}
