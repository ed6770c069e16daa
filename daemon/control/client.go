package control

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"syscall"
)

// ErrNotRunning: no daemon answers at the socket.
var ErrNotRunning = errors.New("weftd is not running")

// maxAnswer bounds what the client reads, in bytes: 10,000 peers take about
// four million.
const maxAnswer = 64 << 20

// GetStatus asks the daemon at the socket for its status. Where none runs the
// error is ErrNotRunning.
func GetStatus(ctx context.Context, socket string) (Status, error) {
	var s Status
	err := call(ctx, socket, http.MethodGet, pathStatus, nil, &s)
	return s, err
}

// RenewLease asks the daemon at the socket to renew its lease at once, or,
// with newSubnet, to take another subnet.
func RenewLease(ctx context.Context, socket string, newSubnet bool) (Lease, error) {
	var l Lease
	err := call(ctx, socket, http.MethodPost, pathRenew, RenewRequest{newSubnet}, &l)
	return l, err
}

func call(ctx context.Context, socket, method, path string, request, answer any) error {
	body, err := json.Marshal(request)
	if err != nil {
		return fmt.Errorf("write the request as JSON: %w", err)
	}
	req, err := http.NewRequestWithContext(ctx, method, "http://weftd"+path, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("make the request: %w", err)
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		},
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return explain(err, socket)
	}
	defer resp.Body.Close()
	decoder := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer))
	if resp.StatusCode != http.StatusOK {
		var f failure
		if err := decoder.Decode(&f); err != nil || f.Error == "" {
			return fmt.Errorf("the daemon at %s answered %s", socket, resp.Status)
		}
		return errors.New(f.Error)
	}
	if err := decoder.Decode(answer); err != nil {
		return fmt.Errorf("read the answer of the daemon at %s: %w", socket, err)
	}
	return nil
}

// explain says what to do when the daemon cannot be reached.
func explain(err error, socket string) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w (nothing answers at %s): start it with `systemctl start weftd`, or name its socket with --control-socket", ErrNotRunning, socket)
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("no permission for %s: the daemon answers root only, use sudo", socket)
	case errors.Is(err, context.DeadlineExceeded):
		return fmt.Errorf("the daemon at %s did not answer in time; its log may say why (journalctl -u weftd)", socket)
	}
	return fmt.Errorf("ask the daemon at %s: %w", socket, err)
}
