package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

// Weftd is a weftd process on a host. Its state directory, subnet file and
// control socket lie in the host's directory, where the next weftd started on
// the host finds them: as after a restart on a real host.
type Weftd struct {
	*Process
	Host          *Host
	StateDir      string
	SubnetFile    string
	ControlSocket string
	Binary        string // also for subcommands
}

// healthzAddr is where each weftd of a lab answers, in its own namespace.
const healthzAddr = "127.0.0.1:8280"

// StartWeftd starts weftd on a host with the lab's paths and further flags.
func (h *Host) StartWeftd(binary string, flags ...string) (*Weftd, error) {
	return h.StartWeftdEnv(binary, nil, flags...)
}

// StartWeftdEnv is StartWeftd with variables ("KEY=value") added to the
// environment.
func (h *Host) StartWeftdEnv(binary string, env []string, flags ...string) (*Weftd, error) {
	w := &Weftd{
		Host:          h,
		StateDir:      filepath.Join(h.Dir, "state"),
		SubnetFile:    filepath.Join(h.Dir, "subnet.env"),
		ControlSocket: filepath.Join(h.Dir, "weftd.sock"),
		Binary:        binary,
	}
	ip, port, err := net.SplitHostPort(healthzAddr)
	if err != nil {
		return nil, err
	}
	w.Process, err = h.RunEnv("weftd", env, binary, append([]string{
		"--state-dir=" + w.StateDir,
		"--subnet-file=" + w.SubnetFile,
		"--control-socket=" + w.ControlSocket,
		"--healthz-ip=" + ip, "--healthz-port=" + port,
	}, flags...)...)
	if err != nil {
		return nil, err
	}
	return w, nil
}

// WaitReady waits until weftd says that it carries packets and has written
// subnet.env, which it returns. It ends early when the process does.
func (w *Weftd) WaitReady(ctx context.Context) (SubnetEnv, error) {
	for {
		ready := w.Ready(ctx)
		env, err := ReadSubnetEnv(w.SubnetFile)
		if ready == nil && err == nil {
			return env, nil
		}
		select {
		case <-w.Done():
			return SubnetEnv{}, fmt.Errorf("weftd in %s ended (%v); the end of %s:\n%s", w.Host.Namespace.Name, w.Err(), w.Log, w.LogTail(10))
		case <-ctx.Done():
			return SubnetEnv{}, fmt.Errorf("weftd in %s is not ready: %w; the end of %s:\n%s",
				w.Host.Namespace.Name, errors.Join(ready, err), w.Log, w.LogTail(10))
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Ready asks weftd's /readyz; the error is its answer if it is not ready.
func (w *Weftd) Ready(ctx context.Context) error {
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			return w.Host.Dial(ctx, net.Dialer{}, network, addr)
		},
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+healthzAddr+"/readyz", nil)
	if err != nil {
		return err
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		var text bytes.Buffer
		text.ReadFrom(response.Body)
		return fmt.Errorf("/readyz answers %s: %s", response.Status, bytes.TrimSpace(text.Bytes()))
	}
	return nil
}

// Status returns what `weftd status --json` prints. There is an error if the
// exit status is not 0, so also if the node is not ready.
func (w *Weftd) Status(ctx context.Context) ([]byte, error) {
	return w.Host.Command(ctx, w.Binary, "status", "--json", "--control-socket="+w.ControlSocket)
}

// SetNetworkConfig writes the network config by `weftd config set`, run on
// this host, once etcd accepts connections at endpoint ("http://host:port").
func (h *Host) SetNetworkConfig(ctx context.Context, binary, endpoint, config string) error {
	u, err := url.Parse(endpoint)
	if err != nil {
		return err
	}
	for {
		c, err := h.Dial(ctx, net.Dialer{Timeout: time.Second}, "tcp", u.Host)
		if err == nil {
			c.Close()
			break
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("etcd at %s accepts no connection: %w: %w", endpoint, context.Cause(ctx), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
	_, err = h.Command(ctx, binary, "config", "set", "--etcd-endpoints="+endpoint, config)
	return err
}

// Command runs a program on the host to its end and returns what it wrote to
// stdout. The error, if its exit status is not 0, holds what it wrote to stderr.
func (h *Host) Command(ctx context.Context, name string, args ...string) ([]byte, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr, cmd.Env = &stdout, &stderr, os.Environ()
	if err := h.Start(cmd); err != nil {
		return nil, fmt.Errorf("start %s in %s: %w", name, h.Namespace.Name, err)
	}
	if err := cmd.Wait(); err != nil {
		err = fmt.Errorf("%s %s: %w: %s", filepath.Base(name), args[0], err, bytes.TrimSpace(stderr.Bytes()))
		return stdout.Bytes(), err
	}
	return stdout.Bytes(), nil
}
