package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/weftnet/weft/daemon/control"
)

// run runs one weftd command.
func run(t *testing.T, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errOut strings.Builder
	status = dispatch(t.Context(), args, &out, &errOut)
	return status, out.String(), errOut.String()
}

// What is wrong with a command line is said once, on stderr, with the usage.
func TestCommandLines(t *testing.T) {
	tests := []struct {
		args   []string
		status int
		stderr string
	}{
		{[]string{"config"}, 2, "weftd: the command is not complete\n" + configUsage},
		{[]string{"config", "put"}, 2, "weftd: unknown command \"put\"\n" + configUsage},
		{[]string{"config", "set"}, 2, "weftd: an argument is missing\n" + configSetUsage},
		{[]string{"config", "set", "a", "b"}, 2, "weftd: unexpected argument \"b\"\n" + configSetUsage},
		{[]string{"config", "get", "--etcd-prefix=x"}, 2, "weftd: invalid value \"x\" for --etcd-prefix: must be a path that begins with \"/\" and names a folder, for instance /coreos.com/network\n" + configGetUsage},
		{[]string{"config", "get", "--etcd-username=x"}, 2, "weftd: --etcd-username is given without --etcd-password: give both or neither\n"},
		{[]string{"config", "set", "/nonexistent"}, 1, "weftd: read the network config: open /nonexistent: no such file or directory\n"},
		{[]string{"config", "set", "{}"}, 1, "weftd: parse network config: Network is missing: want an IPv4 prefix such as \"10.5.0.0/16\"\n"},
		{[]string{"lease", "drop"}, 2, "weftd: unknown command \"drop\"\n" + leaseUsage},
		{[]string{"lease", "renew", "--new-subnets"}, 2, "weftd: flag provided but not defined: -new-subnets\n" + leaseRenewUsage},
		{[]string{"etcd", "init", "--dir=x"}, 2, "weftd: an argument is missing\n" + etcdInitUsage},
		{[]string{"etcd", "init", "host"}, 2, "weftd: --dir is missing: say where to put the files\n"},
		{[]string{"status", "now"}, 2, "weftd: unexpected argument \"now\"\n" + statusUsage},
		{[]string{"version", "now"}, 2, "weftd: unexpected argument \"now\"\n" + versionUsage},
	}
	for _, tt := range tests {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			status, stdout, stderr := run(t, tt.args...)
			if status != tt.status || stdout != "" || stderr != tt.stderr {
				t.Errorf("status %d, stdout %q, stderr\n%s\nwant %d and\n%s", status, stdout, stderr, tt.status, tt.stderr)
			}
		})
	}
}

// commandLines are all commands, and the words that some have in common.
var commandLines = []string{
	"cleanup", "config", "config get", "config set",
	"docker-network", "docker-network create", "docker-network remove", "docker-opts",
	"etcd", "etcd init", "lease", "lease list", "lease renew", "status", "version",
}

func TestCommandHelp(t *testing.T) {
	for _, line := range commandLines {
		for _, flag := range []string{"-h", "--help"} {
			status, stdout, stderr := run(t, append(strings.Fields(line), flag)...)
			if status != 0 || stderr != "" || !strings.HasPrefix(stdout, "Usage: weftd "+line) {
				t.Errorf("weftd %s %s: status %d, stderr %q, stdout\n%s", line, flag, status, stderr, stdout)
			}
		}
	}
}

func TestVersionCommand(t *testing.T) {
	status, stdout, stderr := run(t, "version")
	if status != 0 || strings.TrimSpace(stdout) == "" || stderr != "" {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}

// fakeDaemon stands behind the control socket.
type fakeDaemon struct {
	status control.Status
	renew  func(newSubnet bool) (control.Lease, error)
}

func (d *fakeDaemon) Status() control.Status { return d.status }

func (d *fakeDaemon) RenewLease(_ context.Context, newSubnet bool) (control.Lease, error) {
	return d.renew(newSubnet)
}

// serveControl runs d until the test ends and returns its socket.
func serveControl(t *testing.T, d *fakeDaemon) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "s")
	l, err := control.Listen(t.Context(), socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- control.Serve(ctx, l, d, slog.New(slog.DiscardHandler)) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return socket
}

func TestStatusCommand(t *testing.T) {
	ready := serveControl(t, &fakeDaemon{status: control.Status{Version: "v9", Ready: true, Started: time.Now()}})
	waiting := serveControl(t, &fakeDaemon{status: control.Status{Version: "v9", NotReady: []string{"config: <none>"}, Started: time.Now()}})
	none := filepath.Join(t.TempDir(), "none")

	status, stdout, stderr := run(t, "status", "--control-socket="+ready)
	if status != 0 || !strings.HasPrefix(stdout, "weftd     v9: ready,") || stderr != "" {
		t.Errorf("ready: status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
	status, stdout, stderr = run(t, "status", "--control-socket="+waiting)
	if status != 1 || !strings.HasPrefix(stdout, "NOT READY\n  config: <none>\n") || stderr != "" {
		t.Errorf("not ready: status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
	status, stdout, stderr = run(t, "status", "--json", "--control-socket="+waiting)
	if status != 1 || !strings.Contains(stdout, "\n  \"not_ready\": [\n    \"config: <none>\"\n  ],\n") || stderr != "" {
		t.Errorf("JSON: status %d, stderr %q, stdout\n%s", status, stderr, stdout)
	}
	status, stdout, stderr = run(t, "status", "--control-socket="+none)
	if status != 2 || stdout != "" || !strings.HasPrefix(stderr, "weftd: weftd is not running (nothing answers at "+none+"): ") {
		t.Errorf("not running: status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	t.Setenv("WEFTD_CONTROL_SOCKET", ready)
	if status, _, stderr = run(t, "status"); status != 0 {
		t.Errorf("socket from the environment: status %d, stderr %q", status, stderr)
	}
}

func TestStatusCommandWithoutReader(t *testing.T) {
	socket := serveControl(t, &fakeDaemon{status: control.Status{Ready: true}})
	var stderr strings.Builder
	status := cmdStatus(t.Context(), []string{"--control-socket", socket}, brokenPipe{}, &stderr)
	if status != 2 || stderr.String() != "weftd: print the status: io: read/write on closed pipe\n" {
		t.Errorf("status %d, stderr %q", status, stderr.String())
	}
}

type brokenPipe struct{}

func (brokenPipe) Write([]byte) (int, error) { return 0, io.ErrClosedPipe }

func TestLeaseRenewCommand(t *testing.T) {
	lease := control.Lease{Subnet: netip.MustParsePrefix("10.5.7.0/24"), Held: true, Reservation: true}
	socket := serveControl(t, &fakeDaemon{renew: func(newSubnet bool) (control.Lease, error) {
		if newSubnet {
			return control.Lease{}, errors.New("network full:\nall 254 subnets are leased")
		}
		return lease, nil
	}})
	status, stdout, stderr := run(t, "lease", "renew", "--control-socket", socket)
	if status != 0 || stdout != "10.5.7.0/24, a reservation\n" || stderr != "" {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
	status, stdout, stderr = run(t, "lease", "renew", "--new-subnet", "--control-socket", socket)
	if status != 1 || stdout != "" || stderr != "weftd: renew the lease: network full: all 254 subnets are leased\n" {
		t.Errorf("status %d, stdout %q, stderr %q", status, stdout, stderr)
	}
}
