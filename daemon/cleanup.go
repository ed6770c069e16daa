package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/firewall"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
	"github.com/weftnet/weft/tunnel/netstate"
	"github.com/weftnet/weft/tunnel/udp"
)

const cleanupUsage = `Usage: weftd cleanup [flags]

Removes from this host what weftd made and left when it stopped: its routes,
firewall rules, devices and subnet.env. The node's identity stays, so that the
next start takes the same subnet; --purge removes that too. weftd must be
stopped. The lease in etcd expires by itself.

Flags:
`

// cmdCleanup removes everything that weft made on this host, and nothing else.
// It may be repeated.
func cmdCleanup(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var (
		set        = options.NewSet("weftd cleanup")
		socket     string
		stateDir   string
		subnetFile string
		purge      bool
	)
	options.AddControlSocket(set, &socket)
	options.AddStateDir(set, &stateDir)
	options.AddSubnetFile(set, &subnetFile)
	set.Bool(&purge, "purge", "remove this node's identity and its embedded etcd's data as well")
	if err := set.Parse(args, os.Environ()); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, cleanupUsage)
		set.Usage(stdout)
		return 0
	} else if err != nil {
		fmt.Fprintf(stderr, "weftd: %v\n", err)
		return 2
	}

	// Holding the control socket keeps a daemon from starting meanwhile.
	lock, err := control.Listen(ctx, socket)
	if err != nil {
		fmt.Fprintf(stderr, "weftd: clean up: %v\n", err)
		return 1
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	err = errors.Join(
		firewall.Cleanup(log),
		netstate.RemoveOwn(log, udp.DefaultDevice),
		envfile.Remove(subnetFile),
		purgeState(purge, stateDir),
		lock.Close(),
	)
	if err != nil {
		fmt.Fprintf(stderr, "weftd: clean up: %v\n", err)
		return 1
	}
	return 0
}

func purgeState(purge bool, dir string) error {
	if !purge {
		return nil
	}
	return errors.Join(subnet.RemoveState(dir), os.RemoveAll(filepath.Join(dir, "etcd")))
}
