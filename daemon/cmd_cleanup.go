package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/firewall"
	"github.com/weftnet/weft/daemon/firewall/vtep"
	"github.com/weftnet/weft/daemon/options"
	"github.com/weftnet/weft/subnet"
	"github.com/weftnet/weft/subnet/envfile"
	"github.com/weftnet/weft/subnet/etcd/embedded"
	"github.com/weftnet/weft/tunnel/netstate"
)

const cleanupUsage = `Usage: weftd cleanup [flags]

Removes from this host what weftd made and left when it stopped: its routes,
firewall rules, VXLAN devices and subnet.env. The node's identity stays, so that
the next start takes the same subnet; --purge removes that too. weftd must be
stopped. The lease in etcd expires by itself.
`

// cmdCleanup removes everything that weft made on this host, and nothing else.
// It may be repeated.
func cmdCleanup(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var (
		set        = options.NewSet("weftd cleanup")
		socket     string
		stateDir   string
		subnetFile string
		etcdDir    string
		purge      bool
	)
	options.AddControlSocket(set, &socket)
	options.AddStateDir(set, &stateDir)
	options.AddSubnetFile(set, &subnetFile)
	options.AddEmbeddedDataDir(set, &etcdDir)
	set.Bool(&purge, "purge", "remove this node's identity and its embedded etcd's data as well")
	if status, ok := parse(set, cleanupUsage, args, 0, 0, stdout, stderr); !ok {
		return status
	}

	// Holding the control socket keeps a daemon from starting meanwhile.
	lock, err := control.Listen(ctx, socket)
	if err != nil {
		return fail(stderr, exitFailed, fmt.Errorf("clean up: %w", err))
	}
	log := slog.New(slog.NewTextHandler(stderr, nil))
	err = errors.Join(
		firewall.Cleanup(log),
		vtep.Remove(),
		removeNetwork(subnetFile, stateDir, log),
	)
	if purge {
		err = errors.Join(err, purgeState(stateDir, cmp.Or(etcdDir, options.DefaultEmbeddedDataDir(stateDir))))
	}
	if err = errors.Join(err, lock.Close()); err != nil {
		return fail(stderr, exitFailed, fmt.Errorf("clean up: %w", err))
	}
	return exitOK
}

// removeNetwork removes routes, devices and the subnet file. Where flanneld has
// taken over the host, it uses the devices that it found, and the file is its
// own by now.
func removeNetwork(file, stateDir string, log *slog.Logger) error {
	if flanneldRuns() {
		log.Warn("flanneld runs on this host: the subnet file and VXLAN devices stay, they are its own now", "file", file)
		return netstate.RemoveRoutes(log)
	}
	return errors.Join(netstate.RemoveOwn(log), removeSubnetFile(file, stateDir, log))
}

// removeSubnetFile removes the file if it has the subnet that this node held
// last. One with another is flanneld's, which may not run at the moment, or
// that of a weftd with another state directory.
func removeSubnetFile(path, stateDir string, log *slog.Logger) error {
	file, err := envfile.Read(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var state *subnet.State
	if err == nil {
		state, err = subnet.ReadState(stateDir)
	}
	if err == nil && file.Subnet.Masked() != state.Subnet.IPv4 {
		err = fmt.Errorf("its subnet is %s, and this node had %s", file.Subnet.Masked(), state.Subnet)
	}
	if err != nil {
		log.Warn("the subnet file stays, since it does not seem to be weft's", "file", path, "why", err)
		return nil
	}
	return envfile.Remove(path)
}

// flanneldRuns tells whether there is one in this network namespace. One in
// another, a container's or a test's, has nothing to do with this host.
func flanneldRuns() bool {
	here, err := os.Readlink("/proc/self/ns/net")
	names, _ := filepath.Glob("/proc/[0-9]*/comm")
	return slices.ContainsFunc(names, func(name string) bool {
		comm, gone := os.ReadFile(name)
		if gone != nil || strings.TrimSpace(string(comm)) != "flanneld" {
			return false
		}
		there, gone := os.Readlink(filepath.Join(filepath.Dir(name), "ns", "net"))
		return gone == nil && (err != nil || there == here)
	})
}

// purgeState removes this node's identity, the data of its etcd, and the state
// directory unless it holds somebody else's files, too.
func purgeState(dir, etcdDir string) error {
	lock, err := lockState(dir)
	if err != nil {
		return err
	}
	err = errors.Join(subnet.RemoveState(dir), embedded.RemoveData(etcdDir), lock.Close())
	os.Remove(dir)
	return err
}
