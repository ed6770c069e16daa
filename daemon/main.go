// Weftd gives this node's containers addresses out of one cluster network and
// carries their packets to the other nodes.
//
// Start reading at run.go: it brings a node up step by step. node.go then waits
// for what happens, and converge.go makes backend, firewall and files agree
// with it, until the daemon ends.
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
)

// A command is one subcommand of weftd: it returns the process's exit status.
type command func(ctx context.Context, args []string, stdout, stderr io.Writer) int

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the process at once
	os.Exit(dispatch(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch runs the subcommand that args name, or the daemon where they start
// with a flag: `weftd -iface eth0` is how flanneld is started.
func dispatch(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		return cmdDaemon(ctx, args, stdout, stderr)
	}
	commands := map[string]command{
		"cleanup":        cmdCleanup,
		"config":         cmdConfig,
		"docker-network": cmdDockerNetwork,
		"docker-opts":    cmdDockerOpts,
		"etcd":           cmdEtcd,
		"lease":          cmdLease,
		"status":         cmdStatus,
		"version":        cmdVersion,
	}
	cmd, ok := commands[args[0]]
	if !ok {
		fmt.Fprintf(stderr, "weftd: unknown command %q; there are cleanup, config, docker-network, docker-opts, etcd, lease, status and version, and without a command weftd runs the daemon (weftd --help)\n", args[0])
		return 2
	}
	return cmd(ctx, args[1:], stdout, stderr)
}
