package main

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/weftnet/weft/daemon/control"
	"github.com/weftnet/weft/daemon/docker"
	"github.com/weftnet/weft/daemon/options"
)

const dockerNetworkUsage = `Usage: weftd docker-network create [--force] [NAME]  make a Docker network on the leased subnet, or mend it
       weftd docker-network remove [--force] [NAME]  remove it
`

func cmdDockerNetwork(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	return group(ctx, dockerNetworkUsage, map[string]command{
		"create": cmdDockerNetworkCreate, "remove": cmdDockerNetworkRemove,
	}, args, stdout, stderr)
}

const dockerNetworkCreateUsage = `Usage: weftd docker-network create [--force] [NAME]

Makes a bridge network in Docker, named "weft" unless NAME is given, that serves
this node's leased subnet: docker run --network weft … It may be repeated: a
network that does not fit the lease any more is made anew. Docker's default
bridge must be on another subnet.
`

const dockerNetworkRemoveUsage = `Usage: weftd docker-network remove [--force] [NAME]

Removes the network that "weftd docker-network create" made, named "weft" unless
NAME is given.
`

const (
	defaultNetwork = "weft"

	// networkTime is how long Docker may take, until containers are moved.
	networkTime = 2 * time.Minute
)

func cmdDockerNetworkCreate(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var (
		set                         = options.NewSet("weftd docker-network create")
		subnetFile, socket, control string
		force                       bool
	)
	set.Bool(&force, "force", "make a network anew though containers are on it: they are disconnected and connected again, with other addresses")
	options.AddSubnetFile(set, &subnetFile)
	addDockerSocket(set, &socket)
	options.AddControlSocket(set, &control)
	if status, ok := parse(set, dockerNetworkCreateUsage, args, 0, 1, stdout, stderr); !ok {
		return status
	}
	env, err := readSubnetFile(subnetFile)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	return withEngine(ctx, socket, stderr, func(ctx context.Context, engine *docker.Engine) error {
		if err := engine.Create(ctx, docker.NetworkFor(networkName(set), env), force, sayTo(stdout)); err != nil {
			return err
		}
		warnMasquerade(stderr, env)
		warnUnanswered(ctx, engine, control, stderr)
		return nil
	})
}

func cmdDockerNetworkRemove(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	var socket string
	var force bool
	set := options.NewSet("weftd docker-network remove")
	set.Bool(&force, "force", "disconnect the containers that are on it")
	addDockerSocket(set, &socket)
	if status, ok := parse(set, dockerNetworkRemoveUsage, args, 0, 1, stdout, stderr); !ok {
		return status
	}
	return withEngine(ctx, socket, stderr, func(ctx context.Context, engine *docker.Engine) error {
		return engine.Remove(ctx, networkName(set), force, sayTo(stdout))
	})
}

func withEngine(ctx context.Context, socket string, stderr io.Writer, do func(context.Context, *docker.Engine) error) int {
	engine, err := docker.Open(socket)
	if err != nil {
		return fail(stderr, exitFailed, err)
	}
	defer engine.Close()
	ctx, cancel := context.WithTimeout(ctx, networkTime)
	defer cancel()
	if err := do(ctx, engine); err != nil {
		return fail(stderr, exitFailed, err)
	}
	return exitOK
}

// sayTo prints each thing that was done when it was: should this be killed
// half-way, it can be seen which containers were taken off their network.
func sayTo(w io.Writer) func(string) {
	return func(line string) { fmt.Fprintln(w, line) }
}

func networkName(set *options.Set) string {
	if args := set.Args(); len(args) > 0 {
		return args[0]
	}
	return defaultNetwork
}

// dropsRouted is the first version of Docker that drops what is routed to its
// containers.
const dropsRouted = 28

// warnUnanswered says what to do where Docker drops packets from other nodes and
// no weftd is there to accept them.
func warnUnanswered(ctx context.Context, engine *docker.Engine, socket string, stderr io.Writer) {
	version, err := engine.Version(ctx)
	if err != nil {
		return
	}
	major, _, _ := strings.Cut(version, ".")
	if n, err := strconv.Atoi(major); err != nil || n < dropsRouted {
		return
	}
	s, err := control.GetStatus(ctx, socket)
	if err == nil && s.Firewall.Mode != string(options.FirewallOff) {
		return
	}
	warn(stderr, "Docker "+version+" drops packets that are routed to containers, and no weftd with a firewall runs here that would accept those from other nodes: "+
		"start it, or accept them by hand (docs/docker.md)")
}
